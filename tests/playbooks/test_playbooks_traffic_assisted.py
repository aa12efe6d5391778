# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Strict defaults on a cluster with transport assisted: weaker values in the plan, the summary and the audit trail."""

from __future__ import annotations

import json
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.assisted import CLUSTER, OPTIONS, Rehearsal

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, **CLUSTER) as running:
        yield running


def test_weaker_values_are_in_plan_summary_and_audit(control: Control, tmp_path: Path) -> None:
    """The other options are strict: the view of each target and the health of the source are read."""
    rehearsal = Rehearsal(control, tmp_path, node3={"utrust_traffic": False})
    rehearsal.new_key("newKey")
    audit = tmp_path / "audit.jsonl"
    env = {"UTRUST_AUDIT_FILE": str(audit), "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit"}
    plan = tmp_path / "plan.json"
    strict = {"key_sync_health_check": True, "key_sync_ejbca_view": True}
    run = rehearsal.sync(check=True, env=env, key_sync_plan_dest=str(plan), **strict)
    assert run.status == 0, run.output
    assert "settle_time is weaker than its default: 0.0 instead of 60.0. Reason: a rehearsal" in run.text
    assert "change reference: CHG-0640" in run.text
    assert "weaker_value: audit is optional instead of required. Reason: a rehearsal" in run.text
    changes = json.loads(plan.read_bytes())["changes"]
    weaker = sorted(set(OPTIONS) - {"health_check", "ejbca_view"})
    assert changes["out_of_traffic"] == ["node3"]
    assert "out of traffic, so their health is not checked: node3" in run.text
    in_plan = [option for option in weaker if option != "approvals_required"]
    assert sorted(value["option"] for value in changes["weaker_values"]) == in_plan
    events = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
    found = [event["result"] for event in events if event["event"] == "weaker_value"]
    assert {"option": "batch_size", "value": 3, "default": 1, "reason": "a rehearsal"} in found
    assert len(found) == len(weaker)
    checks = [event for event in events if event.get("action") == "keyops.utrust.utrust_member_health"]
    # Before the first batch the health is read. In check mode, the later batches change nothing.
    assert {event["outcome"] for event in checks} == {"ok"}


def test_backup_of_each_node_is_required(control: Control, tmp_path: Path) -> None:
    """No node reports a backup, so people confirm it."""
    run = Rehearsal(control, tmp_path).sync(check=True, key_sync_manual_confirmations=[])
    assert run.status != 0
    assert "node2: backup_unknown: " in run.text
