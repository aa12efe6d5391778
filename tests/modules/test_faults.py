# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test all modules through both runners with nodes that restart, hang, are full or have another state."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance import process
from utrust_appliance.control import Control
from utrust_appliance.testing import cluster

from tests.support.playbook import inventories
from tests.support.runners import connection_args, package_args, task
from tests.support.sync import Sync
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
    """Return a cluster in which node1 has one more key than node2, and node3 has joined. Undo all changes afterwards."""
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
def package(control: Control, tmp_path: Path) -> str:
    """Export a package of node1 in this process, which is faster than Ansible, and return its path."""
    path = str(Sync(control, tmp_path).export())
    control.clear_log()
    return path


def changing(control: Control, node: str) -> list[str]:
    """Return the requests to the node that are not GET, by the last part of their path."""
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
            ("OTHER", "KEYOPS", "never overwrites an HSM with another MBK", "reset the other HSM manually"),
        ),
    ],
    ids=["maintenance", "MBK of another cluster"],
)
def test_import_target_not_allowed_gets_only_get_requests(
    control: Control, runner: AnsibleRunner, package: str, fault: str, params: Result, code: str, words: tuple[str, ...]
) -> None:
    """A target in maintenance or with another MBK is not changed."""
    before = inventories(control)
    control.fault(fault, node="node2", **params)
    refused(
        runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))).result,
        code,
        "importing into node2",
        *words,
    )
    assert changing(control, "node2") == []
    assert inventories(control) == before


def test_import_source_with_other_mbk_is_refused(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """The package of a source with the MBK of another cluster is not imported."""
    before, dest = inventories(control), str(tmp_path / "cluster.ksp")
    control.fault("other_mbk", node="node1", mbk="OTHER")
    dummy, imported = runner.run(
        task(EXPORT, connection_args(control, "node1", dest=dest), register="export"),
        task(IMPORT, connection_args(control, "node2", src=dest, manifest_sha256="{{ export.manifest_sha256 }}")),
    ).results
    refused(imported, "mbk_mismatch", "importing into node2", "OTHER", "find out which MBK is correct")
    assert changing(control, "node2") == []
    assert inventories(control) == before


def test_hsm_info_returns_fips_mode(control: Control, runner: AnsibleRunner) -> None:
    """The result has the FIPS mode of each HSM."""
    control.fault("fips", node="node2")
    tasks = [task(INFO, connection_args(control, node)) for node in ("node1", "node2")]
    assert [result["node"]["fips"] for result in runner.run(*tasks).results] == [False, True]


# Packages


def test_export_wrong_digest_leaves_nothing(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """A package whose digest is not the digest in the response is deleted."""
    control.fault("wrong_digest", node="node1")
    before, dest = inventories(control), str(tmp_path / "cluster.ksp")
    result = runner.run(task(EXPORT, connection_args(control, "node1", dest=dest))).result
    refused(result, "download_corrupt", "downloading package", "digest", "The file was deleted", "Run again")
    assert list(tmp_path.iterdir()) == []
    assert inventories(control) == before
    assert len([path for path in changing(control, "node1") if path != "packages"]) == 1, "the node keeps no copy"


def test_export_package_never_ready_times_out(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """The module waits as long as option wait_timeout allows."""
    control.fault("hold_package", node="node1")
    before, dest = inventories(control), str(tmp_path / "cluster.ksp")
    result = runner.run(task(EXPORT, connection_args(control, "node1", dest=dest, timeout=3, wait_timeout=3))).result
    refused(
        result,
        "node_wait_timeout",
        "exporting from node1: waiting for the package",
        "timed out after 3 s",
        "No package was written",
    )
    assert list(tmp_path.iterdir()) == []
    assert inventories(control) == before


@pytest.mark.parametrize(("status", "code"), [(429, "too_many_requests"), (503, "unavailable")])
def test_import_node_stays_busy_fails_after_retries(
    control: Control, runner: AnsibleRunner, package: str, status: int, code: str
) -> None:
    """The module repeats the request as often as option retries allows."""
    before = inventories(control)
    control.fault("status", node="node2", method="POST", status=status, retry_after=0, count=100)
    result = runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package), retries=1))).result
    refused(result, code, "importing into node2", f"HTTP {status}", "try again", "Nothing was changed", "run again")
    assert changing(control, "node2") == ["imports", "imports"]
    assert inventories(control) == before


# Imports


def test_import_slot_without_space_is_refused_by_the_node(
    control: Control, runner: AnsibleRunner, package: str
) -> None:
    """The node refuses the upload, and the message has the reason."""
    before = inventories(control)
    control.fault("slot_full", node="node2", slot=0)
    result = runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))).result
    refused(result, "slot_full", "importing into node2", "HTTP 409", "slot 0 can hold 2 keys", "Nothing was changed")
    assert changing(control, "node2") == ["imports"]
    assert inventories(control) == before


def test_import_hsm_write_error_changes_nothing(control: Control, runner: AnsibleRunner, package: str) -> None:
    """The next run imports the package."""
    before = inventories(control)
    control.fault("import_failure", node="node2")
    result = runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))).result
    refused(result, "import_failed", "importing into node2", "could not be written", "nothing was changed", "Run again")
    assert inventories(control) == before
    again = runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))).result
    assert (again["changed"], again["in_sync"]) == (True, True)


@pytest.mark.parametrize("keys", ["old", "new"])
def test_import_node_restarts_while_applying(control: Control, runner: AnsibleRunner, package: str, keys: str) -> None:
    """The module waits for the node and reads its keys to determine the outcome."""
    before = inventories(control)
    control.fault("restart_during_import", node="node2", keys=keys, seconds=3)
    result = runner.run(
        task(IMPORT, connection_args(control, "node2", **package_args(package), wait_timeout=20))
    ).result
    assert changing(control, "node2").count("apply") == 1, "an import is never sent twice"
    if keys == "old":
        same = "node2 holds the same keys as before, so nothing was changed"
        refused(result, "interrupted", "importing into node2", same, "Run again")
        assert inventories(control) == before
    else:
        assert (result["failed"], result["changed"], result["verified"], result["in_sync"]) == (False, True, True, True)
        assert inventories(control)["node2"] == before["node1"]


@pytest.mark.parametrize("point", ["hsm.before_commit", "hsm.after_commit"])
def test_import_power_failure_while_applying(control: Control, runner: AnsibleRunner, package: str, point: str) -> None:
    """The module waits for the node and reads its keys to determine the outcome."""
    before = inventories(control)
    control.fault("crash_at", node="node2", point=point)
    started = runner.start(task(IMPORT, connection_args(control, "node2", **package_args(package), wait_timeout=20)))
    wait_for(lambda: process.running(control.folder) is None)
    Control.up(control.folder, faults=True)
    result = runner.finish(started).result
    if point == "hsm.before_commit":
        refused(result, "interrupted", "importing into node2", "node2 holds the same keys as before", "Run again")
        assert inventories(control) == before
    else:
        assert (result["failed"], result["changed"], result["in_sync"]) == (False, True, True)
        assert inventories(control)["node2"] == before["node1"]


def test_import_never_ends_is_reported_as_unknown(control: Control, runner: AnsibleRunner, package: str) -> None:
    """The outcome is unknown until the import has ended."""
    before = inventories(control)
    control.fault("hold_apply", node="node2")
    arguments = connection_args(control, "node2", **package_args(package), timeout=5, retries=3, wait_timeout=1)
    result = runner.run(task(IMPORT, arguments)).result
    assert (result["failed"], result["code"]) == (True, "node_wait_timeout")
    for words in ("node2", "unknown outcome", "after 1 s", "may have changed", "Check the node", "run again"):
        assert words in result["msg"]
    assert inventories(control) == before, "the import has not started"
    refused(runner.run(task(IMPORT, arguments)).result, "import_in_progress", "is running on node2", "wait for the end")
    control.clear_faults()
    wait_for(lambda: control.node("node2")["running"] is None)
    again = runner.run(task(IMPORT, arguments)).result
    assert (again["failed"], again["changed"], again["in_sync"]) == (False, False, True)


# Guided restore


def test_restore_never_ends_times_out_and_is_watched_again(control: Control, runner: AnsibleRunner) -> None:
    """The message has the state of the restore, and the next run watches it."""
    control.fault("hold_restore", node="node3")
    source = runner.run(task(INFO, connection_args(control, "node1"))).result["node"]
    arguments = {**connection_args(control, "node3"), "source": source, "pin_pad": "front-usb"}
    assert runner.run(task(RESTORE, {**arguments, "restore_timeout": 0.01})).result["code"] == "restore_timeout"
    for card in ("KEYOPS-1", "KEYOPS-2"):
        control.present_card("node3", card)
    result = runner.run(task(RESTORE, {**arguments, "restore_timeout": 0.5})).result
    assert (result["failed"], result["code"]) == (True, "restore_timeout")
    for words in ("guided restore of node3", "timed out after 0.5 s", "restoring keys", "Run again to watch it"):
        assert words in result["msg"]
    assert control.node("node3")["state"] == "factory_reset"
    control.clear_faults()
    wait_for(lambda: control.node("node3")["running"] is None)
    again = runner.run(task(RESTORE, arguments)).result
    assert (again["failed"], again["in_sync"], again["hsm_state"]) == (False, True, "operational")
