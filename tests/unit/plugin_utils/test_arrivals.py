# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When keys arrived on a node: from facts of this run, and from the audit trail."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._arrivals import FACT, key_arrivals, with_arrivals
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import run_state
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.history import read_arrivals

from tests.support.audit import audit_file

if t.TYPE_CHECKING:
    from pathlib import Path

KEY = {"fingerprint": "sha256:a"}


def record(
    event: str, time: str, *, host: str = "node2", outcome: str = "changed", **result: t.Any
) -> dict[str, t.Any]:
    return {"event": event, "job": "j", "time": time, "host": host, "outcome": outcome, "result": result}


RECORDS = [
    record("key_generated", "2026-01-01T00:00:00+00:00", host="node1", hsm_key=KEY),
    record("key_generated", "2026-01-09T00:00:00+00:00", host="node1", outcome="ok", hsm_key=KEY),
    record("keys_imported", "2026-01-02T00:00:00+00:00", added=[KEY], replaced=[]),
    record("keys_imported", "2026-01-03T00:00:00+00:00", outcome="failed", added=[], replaced=[{"source_key": KEY}]),
    record("keys_imported", "2026-01-08T00:00:00+00:00", host="node3", outcome="ok", added=[]),
    record("hsm_restored", "2026-01-05T00:00:00+00:00", host="node4"),
    record("node_read", "2026-01-07T00:00:00+00:00", added=[KEY]),
    record(
        "step_confirmed", "2026-01-06T00:00:00+00:00", host="node1", outcome="ok", step="package_uploaded", node="node6"
    ),
    record("step_confirmed", "2026-01-06T00:00:00+00:00", step="package_downloaded", node="node1"),
    record("keys_imported", "2026-01-07T00:00:00+00:00", host="node5", added="text", replaced=[7, {"source_key": 7}]),
]


def test_arrivals_of_the_audit_trail(tmp_path: Path) -> None:
    """Only changes count, also of an import that failed after some keys, and uploads that people confirm."""
    assert read_arrivals(str(audit_file(tmp_path, *RECORDS))) == {
        "*": {"sha256:a": "2026-01-01T00:00:00+00:00"},
        "node2": {"sha256:a": "2026-01-03T00:00:00+00:00"},
        "node4": {"*": "2026-01-05T00:00:00+00:00"},
        "node6": {"*": "2026-01-06T00:00:00+00:00"},
    }
    assert read_arrivals(str(tmp_path / "nothing.jsonl")) == {}


@pytest.mark.parametrize(
    ("host", "facts", "expected"),
    [
        ("node2", {}, "2026-01-03T00:00:00+00:00"),
        ("node3", {}, "2026-01-01T00:00:00+00:00"),
        ("node4", {}, "2026-01-05T00:00:00+00:00"),
        ("node2", {"sha256:a": "2026-01-06T00:00:00+00:00"}, "2026-01-06T00:00:00+00:00"),
        ("node2", {"*": "2026-01-04T00:00:00+00:00"}, "2026-01-04T00:00:00+00:00"),
        ("node2", {"sha256:b": "2026-01-04T00:00:00+00:00"}, "2026-01-03T00:00:00+00:00"),
    ],
)
def test_latest_arrival_counts(tmp_path: Path, host: str, facts: dict[str, str], expected: str) -> None:
    run_state.publish_state(run_state.RunState("j", str(audit_file(tmp_path, *RECORDS)), "", ""))
    try:
        found = key_arrivals({host: {"ansible_facts": {FACT: facts}}}, ["sha256:a"])
    finally:
        run_state.clear_state()
    assert found == {host: {"sha256:a": expected}}


def test_task_that_changed_keys_sets_the_fact() -> None:
    """Keys of earlier tasks stay in the fact. A task that failed or changed nothing sets none."""
    before = {"ansible_facts": {FACT: {"sha256:b": "earlier"}}}
    changed = with_arrivals({"changed": True}, [KEY], before)["ansible_facts"][FACT]
    assert (sorted(changed), changed["sha256:b"]) == (["sha256:a", "sha256:b"], "earlier")
    assert list(with_arrivals({"changed": True}, None, {})["ansible_facts"][FACT]) == ["*"]
    for result in ({"changed": False}, {"changed": True, "failed": True}):
        assert with_arrivals(result, [KEY], before) == result
