# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role key_sync verifies that EJBCA of each target shows the added keys."""

from __future__ import annotations

import functools
import json
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.gate import NODES, admin_web_requests
from tests.support.playbook import finish, methods, play, start
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

SYNC = "keyops.utrust.key_sync"
NOTHING: t.Final[dict[str, list[str]]] = {node: [] for node in NODES}


@pytest.fixture
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=1, ejbca=True) as running:
        yield running


def options(**more: t.Any) -> list[str]:
    given = {"key_sync_ejbca_view": True, "key_sync_ejbca_view_timeout": 0, "key_sync_batch_size": 1, **more}
    return ["-e", json.dumps({"utrust_source": "node1", **given})]


def labels(control: Control, node: str) -> set[str]:
    return {key["label"] for key in control.keys(node)}


def has_key(control: Control, node: str, label: str) -> bool:
    return label in labels(control, node)


def new_key(control: Control, label: str) -> None:
    control.generate_key("node1", label)
    control.ejbca("node1", "deactivate")  # EJBCA of the source shows the key


def test_stale_view_stops_the_rollout(control: Control, tmp_path: Path) -> None:
    """The first target has the key in its HSM, but its EJBCA does not show it. The next target keeps its keys."""
    new_key(control, "stale")
    audit = tmp_path / "audit.jsonl"
    env = {"UTRUST_AUDIT_FILE": str(audit), "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit"}
    run = play(SYNC, control, *options(), env=env)
    assert run.status != 0
    assert "code: ejbca_view_not_verified" in run.text, run.output
    assert "stale in SigningToken: stale: the key is in the HSM, but EJBCA does not show it yet" in run.text
    assert "node2: EJBCA view: NOT VERIFIED" in run.text
    assert ("stale" in labels(control, "node2"), "stale" in labels(control, "node3")) == (True, False)
    assert run.recap["node2"]["changed"] == 1
    events = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
    verified = [event for event in events if event["event"] == "ejbca_views_verified"]
    assert [event["outcome"] for event in verified] == ["ok", "failed"]
    assert verified[1]["codes"] == ["ejbca_view_not_verified"]
    assert [key["state"] for key in verified[1]["result"]["key_states"]] == ["stale"]


def test_rollout_goes_on_after_a_reactivation(control: Control) -> None:
    """People reactivate the crypto token of each target within the time limit."""
    new_key(control, "shown")
    process = start(SYNC, control, *options(key_sync_ejbca_view_timeout=120))
    for node in ("node2", "node3"):
        wait_for(functools.partial(has_key, control, node, "shown"), 60)
        control.ejbca(node, "deactivate")
    run = finish(process)
    assert run.status == 0, run.output
    assert "node2: EJBCA view: verified: 1 added key(s) as on the source" in run.text
    assert "node3: EJBCA view: verified: 1 added key(s) as on the source" in run.text
    assert run.changed == 2
    control.clear_log()
    again = play(SYNC, control, *options())
    assert (again.status, again.changed) == (0, 0), again.output
    assert admin_web_requests(control) == NOTHING


def test_check_mode_reads_only(control: Control) -> None:
    new_key(control, "checked")
    control.clear_log()
    run = play(SYNC, control, *options(), "--check")
    assert run.status == 0, run.output
    assert methods(control) == {"GET"}
    assert "node2: EJBCA view: unknown in check mode" in run.text
    control.clear_log()
    without = play(SYNC, control, *options(key_sync_ejbca_view=""))
    assert without.status == 0, without.output
    assert admin_web_requests(control) == NOTHING


@pytest.mark.parametrize(
    ("node", "flags", "code"),
    [
        ("node2", {"vip": "node1"}, "ejbca_identity_unknown"),
        ("node3", {"vip": "node2"}, "ejbca_identity_unknown"),
        ("node3", {"token_ids": {"SigningToken": 4711}}, "database_diverged"),
        ("node1", {"response": "bad_gateway", "response_path": "adminweb"}, "ejbca_page_refused"),
        ("node2", {"roles": {"ejbca-reader": "administrator"}}, "ejbca_rights_excessive"),
    ],
    ids=str,
)
def test_unknown_view_refuses_before_the_first_change(
    control: Control, node: str, flags: dict[str, t.Any], code: str
) -> None:
    new_key(control, "refused")
    control.ejbca(node, "flags", **flags)
    control.clear_log()
    for arguments in ([], ["--check"]):
        run = play(SYNC, control, *options(), *arguments)
        assert run.status != 0
        assert code in run.text, run.output
        assert "refused" not in labels(control, "node2") | labels(control, "node3")
    assert methods(control) <= {"GET", "PUT", "DELETE"}  # the claim


@pytest.mark.parametrize("changed", [{"key_sync_ejbca_view": "perhaps"}, {"key_sync_ejbca_view_timeout": -1}], ids=str)
def test_invalid_options_of_the_view_are_refused(control: Control, changed: dict[str, t.Any]) -> None:
    control.clear_log()
    run = play(SYNC, control, *options(**changed))
    assert "code: option_invalid" in run.text, run.output
    assert methods(control) == set()
