# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that restart, hang, are full or are not what they were, through both runners: what is told is what the nodes hold afterwards."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance import process
from utrust_appliance.control import Control
from utrust_appliance.testing import cluster

from tests.support.playbook import inventories
from tests.support.runners import reach, task
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.runners import AnsibleRunner

INFO, EXPORT, IMPORT, RESTORE = "utrust_hsm_info", "utrust_ksp_export", "utrust_ksp_import", "utrust_hsm_restore"
Result = dict[str, t.Any]


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=2, keys=2, key_mix={"ec-p256": 1}, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """node1 has a key that node2 has not, node3 has joined; nothing is broken yet."""
    running.generate_key("node1", "newKey")
    running.clear_log()
    yield running
    running.clear_faults()
    wait_for(lambda: not any(node["running"] for node in running.status()["nodes"]))
    for node in ("node1", "node2"):
        for key in running.keys(node):
            if not key["label"].startswith("key-"):
                running.delete_key(node, key["label"])
    if running.node("node3")["mbk"]:
        running.factory_reset("node3")


@pytest.fixture
def package(control: Control, runner: AnsibleRunner, tmp_path: Path) -> str:
    """A package of node1, on the machine that executes."""
    dest = str(tmp_path / "cluster.ksp")
    assert runner.run(task(EXPORT, reach(control, "node1", dest=dest))).result["changed"] is True
    control.clear_log()
    return dest


def changing(control: Control, node: str) -> list[str]:
    """What the node was asked to do, beside reading."""
    return [request["path"].rpartition("/")[2] for request in control.requests(node) if request["method"] != "GET"]


def refused(result: Result, code: str, *words: str) -> None:
    assert (result["failed"], result["changed"], result["code"]) == (True, False, code), result
    for word in words:
        assert word in result["msg"]


# What the node is


@pytest.mark.parametrize(
    ("fault", "params", "code", "words"),
    [
        ("hsm_state", {"state": "maintenance"}, "hsm_not_operational", ("in maintenance", "page Security")),
        (
            "other_mbk",
            {"mbk": "OTHER"},
            "mbk_mismatch",
            ("OTHER", "KEYOPS", "never overwrites an HSM with another MBK", "reset by hand"),
        ),
    ],
    ids=["maintenance", "MBK of another cluster"],
)
def test_a_target_that_may_not_be_changed_gets_nothing_but_questions(
    control: Control, runner: AnsibleRunner, package: str, fault: str, params: Result, code: str, words: tuple[str, ...]
) -> None:
    before = inventories(control)
    control.fault(fault, node="node2", **params)
    refused(runner.run(task(IMPORT, reach(control, "node2", src=package))).result, code, "importing into node2", *words)
    assert changing(control, "node2") == []
    assert inventories(control) == before


def test_a_package_of_a_source_under_the_mbk_of_another_cluster_is_not_imported(
    control: Control, runner: AnsibleRunner, tmp_path: Path
) -> None:
    before, dest = inventories(control), str(tmp_path / "cluster.ksp")
    control.fault("other_mbk", node="node1", mbk="OTHER")
    dummy, imported = runner.run(
        task(EXPORT, reach(control, "node1", dest=dest)), task(IMPORT, reach(control, "node2", src=dest))
    ).results
    refused(imported, "mbk_mismatch", "importing into node2", "OTHER", "find out which MBK is correct")
    assert changing(control, "node2") == []
    assert inventories(control) == before


def test_an_hsm_in_fips_mode_says_so(control: Control, runner: AnsibleRunner) -> None:
    control.fault("fips", node="node2")
    told = [task(INFO, reach(control, node)) for node in ("node1", "node2")]
    assert [result["node"]["fips"] for result in runner.run(*told).results] == [False, True]


# Packages


def test_a_package_that_another_digest_is_said_to_be_of_is_not_kept(
    control: Control, runner: AnsibleRunner, tmp_path: Path
) -> None:
    control.fault("wrong_digest", node="node1")
    before, dest = inventories(control), str(tmp_path / "cluster.ksp")
    result = runner.run(task(EXPORT, reach(control, "node1", dest=dest))).result
    refused(result, "download_corrupt", "downloading package", "digest", "The file was deleted", "Run again")
    assert list(tmp_path.iterdir()) == []
    assert inventories(control) == before
    assert len([path for path in changing(control, "node1") if path != "packages"]) == 1, "the node keeps no copy"


def test_a_package_that_is_never_ready_is_waited_for_as_long_as_was_said(
    control: Control, runner: AnsibleRunner, tmp_path: Path
) -> None:
    control.fault("hold_package", node="node1")
    before, dest = inventories(control), str(tmp_path / "cluster.ksp")
    result = runner.run(task(EXPORT, reach(control, "node1", dest=dest, timeout=5, retries=3))).result
    refused(result, "response_lost", "POST /api/v1/hsm/packages", "timed out", "nothing was changed", "Run again")
    assert list(tmp_path.iterdir()) == []
    assert inventories(control) == before


@pytest.mark.parametrize(("status", "code"), [(429, "too_many_requests"), (503, "unavailable")])
def test_a_node_that_stays_busy_is_left_alone_after_so_many_attempts(
    control: Control, runner: AnsibleRunner, package: str, status: int, code: str
) -> None:
    before = inventories(control)
    control.fault("status", node="node2", method="POST", status=status, retry_after=0, count=100)
    result = runner.run(task(IMPORT, reach(control, "node2", src=package, retries=1))).result
    refused(result, code, "importing into node2", f"HTTP {status}", "try again", "Nothing was changed", "run again")
    assert changing(control, "node2") == ["imports", "imports"]
    assert inventories(control) == before


# Imports


def test_a_slot_without_room_is_told_before_anything_changes(
    control: Control, runner: AnsibleRunner, package: str
) -> None:
    before = inventories(control)
    control.fault("slot_full", node="node2", slot=0)
    result = runner.run(task(IMPORT, reach(control, "node2", src=package))).result
    refused(result, "slot_full", "importing into node2", "HTTP 409", "slot 0 takes 2 keys", "Nothing was changed")
    assert changing(control, "node2") == ["imports"]
    assert inventories(control) == before


def test_an_import_that_the_hsm_cannot_write_changes_nothing(
    control: Control, runner: AnsibleRunner, package: str
) -> None:
    before = inventories(control)
    control.fault("import_failure", node="node2")
    result = runner.run(task(IMPORT, reach(control, "node2", src=package))).result
    refused(result, "import_failed", "importing into node2", "could not be written", "nothing was changed", "Run again")
    assert inventories(control) == before
    again = runner.run(task(IMPORT, reach(control, "node2", src=package))).result
    assert (again["changed"], again["in_sync"]) == (True, True)


@pytest.mark.parametrize("keys", ["old", "new"])
def test_a_node_that_restarts_while_it_applies_is_waited_for_and_asked_what_it_holds(
    control: Control, runner: AnsibleRunner, package: str, keys: str
) -> None:
    before = inventories(control)
    control.fault("restart_during_import", node="node2", keys=keys, seconds=3)
    result = runner.run(task(IMPORT, reach(control, "node2", src=package, wait_timeout=60))).result
    assert changing(control, "node2").count("apply") == 1, "an import is never sent twice"
    if keys == "old":
        same = "node2 holds the same keys as before, so nothing was changed"
        refused(result, "response_lost", "/apply", same, "Run again")
        assert inventories(control) == before
    else:
        assert (result["failed"], result["changed"], result["verified"], result["in_sync"]) == (False, True, True, True)
        assert inventories(control)["node2"] == before["node1"]


@pytest.mark.parametrize("point", ["hsm.before_commit", "hsm.after_commit"])
def test_a_machine_that_loses_its_power_while_it_applies_is_asked_what_it_holds(
    control: Control, runner: AnsibleRunner, package: str, point: str
) -> None:
    before = inventories(control)
    control.fault("crash_at", node="node2", point=point)
    started = runner.start(task(IMPORT, reach(control, "node2", src=package, wait_timeout=60)))
    wait_for(lambda: process.running(control.folder) is None)
    Control.up(control.folder, faults=True)
    result = runner.finish(started).result
    if point == "hsm.before_commit":
        refused(result, "response_lost", "/apply", "node2 holds the same keys as before", "Run again")
        assert inventories(control) == before
    else:
        assert (result["failed"], result["changed"], result["in_sync"]) == (False, True, True)
        assert inventories(control)["node2"] == before["node1"]


def test_an_import_that_never_ends_is_no_success_and_no_failure_until_it_has_ended(
    control: Control, runner: AnsibleRunner, package: str
) -> None:
    before = inventories(control)
    control.fault("hold_apply", node="node2")
    arguments = reach(control, "node2", src=package, timeout=5, retries=3, wait_timeout=1)
    result = runner.run(task(IMPORT, arguments)).result
    assert (result["failed"], result["code"]) == (True, "node_wait_timeout")
    for words in (
        "node2",
        "outcome is not known",
        "timed out after 1 s",
        "may have changed",
        "Look at the node",
        "run again",
    ):
        assert words in result["msg"]
    assert inventories(control) == before, "it has not begun"
    refused(runner.run(task(IMPORT, arguments)).result, "import_in_progress", "is running on node2", "let it end")
    control.clear_faults()
    wait_for(lambda: control.node("node2")["running"] is None)
    again = runner.run(task(IMPORT, arguments)).result
    assert (again["failed"], again["changed"], again["in_sync"]) == (False, False, True)


# Guided restore


def test_a_restore_that_never_ends_is_told_with_what_it_does_and_watched_by_the_next_run(
    control: Control, runner: AnsibleRunner
) -> None:
    control.fault("hold_restore", node="node3")
    source = runner.run(task(INFO, reach(control, "node1"))).result["node"]
    arguments = {**reach(control, "node3"), "source": source, "pin_pad": "front-usb"}
    assert runner.run(task(RESTORE, {**arguments, "restore_timeout": 0.01})).result["code"] == "restore_timeout"
    for card in ("KEYOPS-1", "KEYOPS-2"):
        control.present_card("node3", card)
    result = runner.run(task(RESTORE, {**arguments, "restore_timeout": 0.5})).result
    assert (result["failed"], result["code"]) == (True, "restore_timeout")
    for words in ("guided restore of node3", "not finished within 0.5 s", "restoring keys", "Run again to watch it"):
        assert words in result["msg"]
    assert control.node("node3")["state"] == "factory_reset"
    control.clear_faults()
    wait_for(lambda: control.node("node3")["running"] is None)
    again = runner.run(task(RESTORE, arguments)).result
    assert (again["failed"], again["in_sync"], again["hsm_state"]) == (False, True, "operational")
