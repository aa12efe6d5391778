# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports through both runners while the cluster is not as it was at the time of the plan, and while the task has a time-out."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import inventories
from tests.support.runners import connection_args, package_args, task
from tests.support.sync import Sync
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.runners import AnsibleRunner

IMPORT = "utrust_ksp_import"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}, faults=True, restart_time=1.0) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    running.generate_key("node1", "newKey")
    yield running
    running.clear_faults()
    running.set_profile()
    wait_for(lambda: not any(node["running"] for node in running.status()["nodes"]))
    for node in ("node1", "node2"):
        if "newKey" in {key["label"] for key in running.keys(node)}:
            running.delete_key(node, "newKey")


@pytest.fixture
def package(control: Control, tmp_path: Path) -> str:
    """Export a package of node1, and return its path."""
    path = str(Sync(control, tmp_path).export())
    control.clear_log()
    return path


@pytest.mark.parametrize("profile", ["restart=node", "announces=no"])
def test_import_while_a_member_is_down_is_refused(
    control: Control, runner: AnsibleRunner, package: str, profile: str
) -> None:
    """node3 went down after the export. Check mode predicts the refusal, and allow_outage permits the import."""
    control.set_profile(profile)
    control.fault("node_down", node="node3")
    before = inventories(control)
    arguments = connection_args(control, "node2", **package_args(package))
    predicted, refused, allowed = runner.run(
        task(IMPORT, arguments, check_mode=True),
        task(IMPORT, arguments),
        task(IMPORT, {**arguments, "allow_outage": True}, check_mode=True),
    ).results
    for result in (predicted, refused):
        assert (result["failed"], result["changed"], result["code"]) == (True, False, "quorum_at_risk")
        for word in ("importing into node2", "Already down: node3", "At most 1 node(s)", "allow_outage"):
            assert word in result["msg"]
    assert (allowed["failed"], allowed["changed"]) == (False, True)
    assert inventories(control) == before
    assert {request["method"] for request in control.requests("node2")} == {"GET"}


def test_import_that_restarts_nothing_needs_no_quorum(control: Control, runner: AnsibleRunner, package: str) -> None:
    control.fault("node_down", node="node3")
    result = runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))).result
    assert (result["failed"], result["verified"]) == (False, True)


@pytest.mark.parametrize("runner", ["action"], indirect=True)
def test_time_out_of_the_task_after_the_commit_reads_the_node(
    control: Control, runner: AnsibleRunner, package: str
) -> None:
    """The time is over while the node applies the package. The result says what the node has afterwards."""
    control.fault("hold_apply", node="node2")
    started = runner.start(task(IMPORT, connection_args(control, "node2", **package_args(package)), timeout=6))
    wait_for(lambda: any(request["method"] == "DELETE" for request in control.requests("node2")))
    control.clear_faults("hold_apply")
    ran = runner.finish(started, ["importing into node2: the task was interrupted (TaskTimeoutError)"])
    result = ran.result
    assert (result["failed"], result["changed"], result["verified"]) == (False, True, True)
    assert "the task was interrupted (TaskTimeoutError)" in " ".join(ran.output.split())
    assert inventories(control)["node2"] == inventories(control)["node1"]


@pytest.mark.parametrize("runner", ["action"], indirect=True)
def test_time_out_of_the_task_before_the_commit_changes_nothing(
    control: Control, runner: AnsibleRunner, package: str
) -> None:
    """The time is over while the package is checked. It is discarded."""
    before = inventories(control)
    control.fault("async_import", node="node2", seconds=20.0)
    result = runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)), timeout=6)).result
    assert (result["failed"], result["code"]) == (True, "task_interrupted")
    assert "node2 holds the same keys as before, so nothing was changed" in result["msg"]
    assert inventories(control) == before
    assert [request["status"] for request in control.requests("node2") if request["method"] == "DELETE"] == [200]
