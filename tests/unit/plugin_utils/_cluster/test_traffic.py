# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes in and out of traffic: what utrust_sync_plan, utrust_member_health and utrust_node_traffic decide."""

from __future__ import annotations

import dataclasses as dc
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Slot
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.destroyed import (
    UNPLANNED,
    destroyed_between_runs,
    destroyed_keys,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.sync import Target
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.traffic import (
    batch_limit,
    check_drained,
    check_health,
    check_operator,
    drained_lines,
    plan_traffic,
    task_files,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._traffic import gets_traffic

from tests.support.factories import key, node

HOSTS = ["node1", "node2", "node3"]
NO_TASKS: t.Final[dict[str, t.Any]] = {
    "drain_tasks": None,
    "undrain_tasks": None,
    "settle_time": 0.0,
    "health_check": False,
}
TASKS: t.Final[dict[str, t.Any]] = {**NO_TASKS, "drain_tasks": "/d.yml", "undrain_tasks": "/u.yml"}


def target(host: str, *, pending: bool) -> Target:
    shared = key("a")
    return Target(host, node(name=host), compare([shared], [] if pending else [shared]))


TARGETS = [target("node2", pending=True), target("node3", pending=False)]


def test_targets_with_new_keys_are_drained_and_all_are_undrained() -> None:
    found = plan_traffic(TARGETS, HOSTS, HOSTS, TASKS)
    assert (found["drain"], found["undrain"], found["returning"]) == (["node2"], ["node2"], ["node3"])
    assert found["members"] == HOSTS


def test_node_out_of_traffic_is_left_alone() -> None:
    found = plan_traffic(TARGETS, HOSTS, ["node1"], TASKS)
    assert (found["drain"], found["undrain"], found["returning"], found["members"]) == ([], [], [], ["node1"])


@pytest.mark.parametrize(
    ("options", "pending", "view", "files"),
    [
        (NO_TASKS, False, False, (None, "import_batch.yml")),
        (NO_TASKS, True, False, ("apply.yml", "import_batch.yml")),
        (NO_TASKS, True, True, ("apply_and_verify.yml", "import_and_verify_batch.yml")),
        ({**NO_TASKS, "health_check": True}, False, True, (None, "import_and_verify_batch.yml")),
        ({**NO_TASKS, "health_check": True}, True, True, ("rollout.yml", "traffic_batch.yml")),
        ({**NO_TASKS, "settle_time": 1.0}, True, False, ("rollout.yml", "traffic_batch.yml")),
        ({**NO_TASKS, "drain_tasks": "/d.yml"}, True, False, ("rollout.yml", "traffic_batch.yml")),
        ({**NO_TASKS, "undrain_tasks": "/u.yml"}, False, False, ("rollout.yml", "traffic_batch.yml")),
    ],
)
def test_task_files_are_as_few_as_possible(
    options: dict[str, t.Any], pending: bool, view: bool, files: tuple[str | None, str]
) -> None:
    targets = [target("node2", pending=pending)]
    found = task_files(plan_traffic(targets, HOSTS, HOSTS, options), pending=pending, ejbca_view=view)
    assert (found["rollout_tasks"], found["batch_tasks"]) == files


def test_person_stands_by_at_one_node() -> None:
    assert [batch_limit(size, operator_present=True) for size in (None, 1, 3)] == [1, 1, 1]
    assert [batch_limit(size, operator_present=False) for size in (None, 1, 3)] == [None, 1, 3]


def test_slot_with_smart_card_requires_a_person() -> None:
    slots = (Slot(0, "a", "auto", True, 1), Slot(1, "b", "manual", True, 1), Slot(2, "c", "smart_card", True, 1))
    nodes = [dc.replace(node(), slots=slots)]
    [problem] = check_operator(nodes, operator_present=False)
    assert (problem.code, "slot 2 of" in problem.text) == ("operator_required", True)
    assert check_operator(nodes, operator_present=True) == []


def test_problems_and_lines_name_the_node() -> None:
    [unhealthy] = check_health({"node1": None, "node2": "MAINT: at work"})
    assert (unhealthy.code, unhealthy.node) == ("member_unhealthy", "node2")
    [drained] = check_drained(["node2"], undrain_tasks=True)
    assert (drained.code, drained.node) == ("node_drained", "node2")
    [line] = drained_lines(["node2"], undrain_tasks=True)
    assert line.startswith("node2: DRAINED, because its undrain tasks did not end.")
    assert "by hand" not in line
    assert drained_lines(["node2"], undrain_tasks=False)[0].startswith("node2: DRAINED, and no undrain tasks are set.")


@pytest.mark.parametrize(
    ("value", "expected"), [(None, True), (" ", True), ("no", False), (False, False), ("true", True)]
)
def test_blank_variable_means_traffic(value: t.Any, expected: bool) -> None:
    assert gets_traffic({"inventory_hostname": "node2", "utrust_traffic": value}) is expected


def test_variable_that_is_no_boolean_is_refused() -> None:
    with pytest.raises(UtrustError, match="utrust_traffic of node2 is perhaps"):
        gets_traffic({"inventory_hostname": "node2", "utrust_traffic": "perhaps"})


def test_destroyed_keys_have_reason_and_person() -> None:
    old, new, lost = ({"fingerprint": f"sha256:{name}", "label": "a", "slot": 0} for name in "one")
    result = {"changed": True, "replaced": [{"source_key": new, "target_key": old}], "lost": [lost]}
    allowed = [{"fingerprint": new["fingerprint"], "reason": "twice"}]
    found = destroyed_keys(result, allowed, node="node2", by="alice")
    assert found == [
        {**old, "node": "node2", "replaced_by": new["fingerprint"], "reason": "twice", "by": "alice"},
        {**lost, "node": "node2", "replaced_by": None, "reason": UNPLANNED, "by": "alice"},
    ]
    assert destroyed_keys({**result, "changed": False}, allowed, node="node2", by="alice") == []


def test_key_overwritten_between_runs_is_destroyed() -> None:
    """People uploaded the package after a run with this plan, so no import of a run reports the key."""
    new, old = key("ca").to_dict(), key("ca", fingerprint="sha256:" + "0" * 64).to_dict()
    changes = {
        "options": {"allow_replace": [{"fingerprint": new["fingerprint"], "reason": "generated twice"}]},
        "targets": {"node2": {"replace": [{"source_key": new, "target_key": old}]}, "node3": {"replace": []}},
    }
    [found] = destroyed_between_runs(changes, ["node2", "node2", "node3", "stranger"], by="Ada")
    assert (found["node"], found["fingerprint"], found["reason"]) == ("node2", old["fingerprint"], "generated twice")
    assert (found["replaced_by"], found["by"]) == (new["fingerprint"], "Ada")
