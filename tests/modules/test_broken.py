# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test utrust_ksp_export and utrust_ksp_import through both runners with network and disk faults."""

from __future__ import annotations

import json
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import inventories
from tests.support.runners import connection_args, package_args, task
from tests.support.sync import Sync
from tests.support.wait import wait_for, wait_until_applying

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.runners import AnsibleRunner, Outcome

EXPORT, IMPORT = "utrust_ksp_export", "utrust_ksp_import"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=2, key_mix={"ec-p256": 1}, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """Return a cluster in which node1 has one more key than node2. Remove faults and new keys afterwards."""
    running.generate_key("node1", "newKey")
    running.clear_log()
    yield running
    running.clear_faults()
    for node in ("node1", "node2"):
        for key in running.keys(node):
            if not key["label"].startswith("key-"):
                running.delete_key(node, key["label"])


@pytest.fixture
def package(control: Control, tmp_path: Path) -> str:
    """Export a package of node1 in this process, which is faster than Ansible, and return its path."""
    path = str(Sync(control, tmp_path).export())
    control.clear_log()
    return path


def posts(control: Control, node: str) -> list[str]:
    paths = [request["path"] for request in control.requests(node) if request["method"] == "POST"]
    return [path.rpartition("/")[2] for path in paths]


def refused(outcome: Outcome, code: str, *words: str) -> dict[str, t.Any]:
    result = outcome.result
    assert (result["failed"], result["changed"], result["code"]) == (True, False, code), result
    for word in words:
        assert word in result["msg"]
    return result


# Export


@pytest.mark.parametrize(
    ("fault", "params", "code", "words"),
    [
        ("truncate_download", {}, "download_corrupt", ("downloading package", "bytes", "Run again")),
        ("corrupt_download", {}, "download_corrupt", ("downloading package", "The file was deleted", "Run again")),
        ("corrupt_download", {"consistent": True}, "download_corrupt", ("downloading package", "Run again")),
        ("reset_mid_transfer", {}, "node_unreachable", ("/content", "bytes too early", "The request changed nothing")),
        (
            "lost_response_before",
            {"method": "POST"},
            "response_lost",
            ("POST /api/v1/hsm/packages", "The node did not list an object for this request within 5 s", "Run again"),
        ),
    ],
    ids=["truncated", "altered", "altered with digest", "interrupted", "not created"],
)
def test_export_incomplete_download_leaves_nothing(
    control: Control,
    runner: AnsibleRunner,
    tmp_path: Path,
    fault: str,
    params: dict[str, t.Any],
    code: str,
    words: tuple[str, ...],
) -> None:
    """A damaged or interrupted download leaves no file and no copy on the node."""
    control.fault(fault, node="node1", **params)
    before = inventories(control)
    # A search of 5 s is too short to prove that the node did not act, so the message does not say it.
    arguments = connection_args(control, "node1", dest=str(tmp_path / "cluster.ksp"), wait_timeout=5)
    refused(runner.run(task(EXPORT, arguments)), code, *words)
    assert list(tmp_path.iterdir()) == []
    assert inventories(control) == before
    destroyed = [request for request in control.requests("node1") if request["method"] == "DELETE"]
    assert len(destroyed) == (0 if code == "response_lost" else 1), "the node keeps no copy"


def test_export_response_lost_continues_with_the_package(
    control: Control, runner: AnsibleRunner, tmp_path: Path
) -> None:
    """The export finds the package of the lost response and downloads it."""
    control.fault("lost_response_after", node="node1", method="POST")
    result = runner.run(task(EXPORT, connection_args(control, "node1", dest=str(tmp_path / "cluster.ksp")))).result
    assert (result["failed"], result["changed"]) == (False, True)
    assert posts(control, "node1") == ["packages"]


def test_export_disk_full_leaves_nothing_behind(runner: AnsibleRunner, tmp_path: Path) -> None:
    """A limit of the process on the size of files replaces a full disk."""
    limit = ("sh", "-c", 'ulimit -f 1200; exec "$@"', "sh")  # 600 KiB, enough for the files of Ansible
    with cluster(nodes=1, keys=1, key_mix={"ec-p256": 1}) as large:
        large.set_slot("node1", 0, capacity=4000)
        large.generate_key("node1", "k" * 90, kind="aes-256", count=3000)
        dest = str(tmp_path / "cluster.ksp")
        refused(
            runner.run(task(EXPORT, connection_args(large, "node1", dest=dest)), before=limit),
            "package_not_written",
            "downloading package",
            "File too large",
            "The file was deleted",
            "Free disk space",
        )
        destroyed = [request for request in large.requests("node1") if request["method"] == "DELETE"]
    assert list(tmp_path.iterdir()) == []
    assert len(destroyed) == 1, "the node keeps no copy"


def test_export_directory_missing_or_public_is_refused(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """A package is a copy of every CA key: its directory must exist and be private."""
    missing, public = tmp_path / "missing", tmp_path / "public"
    public.mkdir(mode=0o755)
    ran = runner.run(
        *[task(EXPORT, connection_args(control, "node1", dest=f"{place}/cluster.ksp")) for place in (missing, public)]
    )
    assert [result["code"] for result in ran.results] == ["directory_missing", "directory_not_private"]
    for result, place in zip(ran.results, (missing, public), strict=True):
        assert result["failed"] is True
        assert "exporting from node1" in result["msg"]
        assert str(place) in result["msg"]
        assert "0700" in result["msg"]
    assert posts(control, "node1") == []


# Import


def test_import_response_lost_after_commit_succeeds(control: Control, runner: AnsibleRunner, package: str) -> None:
    """The import is sent once and succeeds, because the node holds the keys."""
    control.fault("lost_response_after", node="node2", method="POST", path="/apply$")
    result = runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))).result
    assert (result["failed"], result["changed"], result["verified"], result["in_sync"]) == (False, True, True, True)
    assert posts(control, "node2") == ["imports", "apply"]
    assert inventories(control)["node2"] == inventories(control)["node1"]


def test_import_node_lost_after_commit_succeeds_when_back(
    control: Control, runner: AnsibleRunner, package: str
) -> None:
    """The module waits for the node and then reads its keys, as when the node restarts during the import."""
    control.fault("lost_response_after", node="node2", method="POST", path="/apply$")
    control.fault("lost_response_before", node="node2", method="GET", path="/imports/", count=1)
    result = runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))).result
    assert (result["failed"], result["changed"], result["verified"]) == (False, True, True)
    assert posts(control, "node2") == ["imports", "apply"]


def test_import_request_lost_before_commit_can_be_repeated(
    control: Control, runner: AnsibleRunner, package: str
) -> None:
    """The message states that nothing was changed, and the next run imports."""
    before = inventories(control)
    control.fault("lost_response_before", node="node2", method="POST", path="/apply$")
    refused(
        runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package), wait_timeout=5))),
        "response_lost",
        "/apply",
        "the response was lost",
        "node2 holds the same keys as before, so nothing was changed",
        "Run again",
    )
    assert inventories(control) == before
    assert (
        runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))).result["changed"] is True
    )


@pytest.mark.parametrize("fault", ["lost_response_before", "reset_mid_transfer"])
def test_import_upload_lost_changes_nothing(control: Control, runner: AnsibleRunner, package: str, fault: str) -> None:
    """The upload is sent once, and the message states that nothing was changed."""
    before = inventories(control)
    control.fault(fault, node="node2", method="POST")
    refused(
        runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package), wait_timeout=5))),
        "response_lost",
        "POST /api/v1/hsm/imports",
        "Nothing was changed",
        "Run again",
    )
    assert inventories(control) == before
    assert posts(control, "node2") == ["imports"]


def test_import_upload_response_lost_is_found_and_applied(
    control: Control, runner: AnsibleRunner, package: str
) -> None:
    """The module finds the staged import of the lost response and applies it."""
    control.fault("lost_response_after", node="node2", method="POST", path="/imports$")
    assert (
        runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))).result["in_sync"] is True
    )
    assert posts(control, "node2") == ["imports", "apply"]


def test_import_node_busy_repeats_the_request(control: Control, runner: AnsibleRunner, package: str) -> None:
    """A node that responds with 429 has not processed the request."""
    control.fault("status", node="node2", method="POST", status=429, retry_after=0, count=2)
    assert (
        runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package), retries=2))).result[
            "in_sync"
        ]
        is True
    )
    assert posts(control, "node2") == ["imports", "imports", "imports", "apply"]


def test_import_second_at_the_same_time_is_refused(control: Control, runner: AnsibleRunner, package: str) -> None:
    """The first import succeeds."""
    control.fault("hold_apply", node="node2")
    arguments = connection_args(control, "node2", **package_args(package))
    first = runner.start(task(IMPORT, arguments))
    wait_until_applying(control, "node2")
    refused(
        runner.run(task(IMPORT, arguments)),
        "import_in_progress",
        "importing into node2",
        "is running on node2",
        "wait for the end of the import or cancel it",
    )
    control.clear_faults("hold_apply")
    done = runner.finish(first).result
    assert (done["failed"], done["changed"], done["in_sync"]) == (False, True, True)
    assert posts(control, "node2") == ["imports", "apply"]


@pytest.mark.parametrize(
    ("path", "discards"),
    [("/imports$", []), ("/apply$", [200])],
    ids=["before staging", "before applying"],
)
def test_import_target_key_appears_stops_the_import(
    control: Control, runner: AnsibleRunner, package: str, path: str, discards: list[int]
) -> None:
    """A key that is generated on the target during the import stops the import, and nothing stays staged."""
    # The node is busy until the key exists.
    control.fault("status", node="node2", method="POST", path=path, status=503, retry_after=1, count=1000)
    process = runner.start(task(IMPORT, connection_args(control, "node2", **package_args(package), retries=20)))
    wait_for(lambda: any(request["status"] == 503 for request in control.requests("node2")))
    control.generate_key("node2", "meanwhile")
    before = inventories(control)
    control.clear_faults("status")
    words = ("importing into node2", "HTTP 409", "keys digest", "Nothing was changed")
    refused(runner.finish(process), "keys_changed", *words)
    assert inventories(control) == before
    discarded = [request["status"] for request in control.requests("node2") if request["method"] == "DELETE"]
    assert discarded == discards, "nothing stays staged"


def test_import_slot_full_imports_no_key(control: Control, runner: AnsibleRunner, package: str) -> None:
    """A package that does not fit into a slot changes nothing."""
    before = inventories(control)
    count = sum(key["slot"] == 0 for key in control.keys("node2"))
    control.set_slot("node2", 0, capacity=count)
    refused(
        runner.run(task(IMPORT, connection_args(control, "node2", **package_args(package)))),
        "slot_full",
        "POST",
        "HTTP 409",
        "slot 0",
    )
    control.set_slot("node2", 0, capacity=1000)
    assert inventories(control) == before


def test_import_node_rejects_package_of_another_cluster(
    control: Control, runner: AnsibleRunner, tmp_path: Path
) -> None:
    """The node checks the package itself. The manifest has only what the source reported."""
    before, dest = inventories(control), str(tmp_path / "cluster.ksp")
    control.fault("package_cluster", node="node1")
    ran = runner.run(
        task(EXPORT, connection_args(control, "node1", dest=dest), register="export"),
        task(IMPORT, connection_args(control, "node2", src=dest, manifest_sha256="{{ export.manifest_sha256 }}")),
    )
    result = ran.results[1]
    assert (result["failed"], result["code"]) == (True, "cluster_mismatch"), json.dumps(result)
    assert "another-cluster" in result["msg"]
    assert inventories(control) == before
