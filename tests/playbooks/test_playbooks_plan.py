# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan, approval and application of a plan, as a user runs them."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.playbook import inventories, methods, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

SYNC = "keyops.utrust.key_sync"


@pytest.fixture
def control() -> Iterator[Control]:
    """Three nodes, and a key on node1 that both targets lack."""
    with cluster(nodes=3, restored=3, keys=3, faults=True) as control:
        control.generate_key("node1", "plannedKey")
        yield control


def extra(**variables: t.Any) -> list[str]:
    return ["-e", json.dumps(variables)]


def test_plan_with_two_approvals_is_applied(control: Control, tmp_path: Path) -> None:
    """The run applies the plan of check mode after two people other than the requester approve."""
    path = tmp_path / "plan.yml"

    made = play(SYNC, control, "--check", *extra(key_sync_plan_dest=str(path), key_sync_requested_by="Ada"))

    assert made.status == 0, made.output
    assert methods(control) == {"GET"}
    plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [key["label"] for key in plan["changes"]["targets"]["node2"]["add"]] == ["plannedKey"]
    assert plan["changes"]["mbk"]["check_value"] == control.node("node1")["mbk"]["check_value"]
    assert plan["requested_by"] == "Ada"

    def apply(*names: str) -> t.Any:
        approvals = [{"name": name, "time": "2026-11-23T12:00:00Z", "plan_digest": plan["digest"]} for name in names]
        options = {"key_sync_plan": str(path), "key_sync_approvals_required": 2, "key_sync_approvals": approvals}
        return play(SYNC, control, *extra(**options))

    refused = apply("Ada", "Ben")
    assert refused.status != 0
    assert "[approvals_missing]" in refused.text
    assert "Ada requested the plan [approval_by_requester]" in refused.text
    assert methods(control) == {"GET"}

    applied = apply("Ben", "Cleo")
    assert applied.status == 0, applied.output
    assert applied.changed == 2
    assert len(set(inventories(control).values())) == 1
    assert "node2 synchronized now: 1 key(s) added, 0 replaced. Make a new backup" in applied.text
    assert apply("Ben", "Cleo").changed == 0


def test_outdated_plan_is_rejected(control: Control, tmp_path: Path) -> None:
    """The run fails if the keys changed after the plan was written."""
    path = tmp_path / "plan.yml"
    assert play(SYNC, control, "--check", *extra(key_sync_plan_dest=str(path))).status == 0
    control.generate_key("node1", "laterKey")

    run = play(SYNC, control, *extra(key_sync_plan=str(path)))

    assert run.status != 0
    assert "[plan_outdated]" in run.text
    assert "source.keys_digest was" in run.text
    assert methods(control) == {"GET"}


def test_altered_plan_is_rejected(control: Control, tmp_path: Path) -> None:
    """The run fails if the digest of the plan does not match."""
    path = tmp_path / "plan.yml"
    assert play(SYNC, control, "--check", *extra(key_sync_plan_dest=str(path))).status == 0
    path.write_text(path.read_text(encoding="utf-8").replace("extra_keys: fail", "extra_keys: keep"), encoding="utf-8")

    run = play(SYNC, control, *extra(key_sync_plan=str(path)))

    assert run.status != 0
    assert "[plan_digest_mismatch]" in run.text
    assert methods(control) == {"GET"}


@pytest.mark.parametrize(("text", "message"), [(None, "the file is missing"), ("a: [", "the plan is not YAML")])
def test_unreadable_plan_is_rejected(control: Control, tmp_path: Path, text: str | None, message: str) -> None:
    """The run fails if the plan is missing or invalid."""
    path = tmp_path / "plan.yml"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    run = play(SYNC, control, *extra(key_sync_plan=str(path)))

    assert run.status != 0
    assert message in run.text
    assert "[plan_invalid]" in run.text
    assert methods(control) == {"GET"}


def test_approvals_without_plan_are_rejected(control: Control) -> None:
    """Required approvals without a plan are an error."""
    run = play(SYNC, control, *extra(key_sync_approvals_required=2))

    assert run.status != 0
    assert "[plan_missing]" in run.text
    assert methods(control) == {"GET"}


def test_failed_run_ends_with_the_result_of_every_node(control: Control) -> None:
    """The last task shows the result of every node, also after a failure."""
    control.fault("lost_response_before", node="node2", method="POST", path="/apply$")

    run = play(SYNC, control)

    assert run.status != 0
    end = " ".join(run.output[run.output.index("Show the result") :].split())
    assert "node2 FAILED: " in end
    assert "node3 not touched: 1 key(s) pending" in end
