# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test utrust_hsm_info, utrust_ksp_export and utrust_ksp_import through both runners: first run, second run, after a change, in check mode."""

from __future__ import annotations

import json
import socket
import stat
import typing as t
from pathlib import Path

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import inventories, methods
from tests.support.runners import connection_args, task
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

    from tests.support.runners import AnsibleRunner

#: Digest of the manifest of the export before, as the task of an import gets it.
DIGEST = "{{ export.manifest_sha256 }}"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=2, keys=3, key_mix={"ec-p256": 2, "aes-256": 1}, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """Return a cluster in which node1 and node2 have the same three keys. Remove faults and new keys afterwards."""
    running.clear_log()
    yield running
    running.clear_faults()
    for node in ("node1", "node2"):
        for key in running.keys(node):
            if not key["label"].startswith("key-"):
                running.delete_key(node, key["label"])
    assert len({inventories(running)[node] for node in ("node1", "node2")}) == 1


def given(export: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return options of a run that hand over the result of an export of another run."""
    return {"arguments": ["-e", json.dumps({"export": {"manifest_sha256": export["manifest_sha256"]}})]}


def modes(path: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()}


# utrust_hsm_info


def test_hsm_info_returns_the_node_and_gathered_facts(control: Control, runner: AnsibleRunner) -> None:
    """The module sends GET requests only."""
    everything = {**connection_args(control, "node1"), "gather": ["keys", "pin_pads", "restore"]}
    ran = runner.run(
        task("utrust_hsm_info", connection_args(control, "node1")),
        task("utrust_hsm_info", everything),
        task("utrust_hsm_info", everything, check_mode=True),
    )
    assert ran.status == 0, ran.output
    plain, full, checked = ran.results
    facts = control.node("node1")
    for result in ran.results:
        assert (result["changed"], result["executed_on"]) == (False, socket.gethostname())
        assert result["node"]["name"] == "node1"
        assert result["node"]["keys_digest"] == facts["keys_digest"]
        assert result["node"]["mbk"] == facts["mbk"]
        assert [member["node"] for member in result["node"]["members"]] == ["node1", "node2", "node3"]
    assert not {"hsm_keys", "pin_pads", "restore"} & set(plain)
    assert [
        {name: value for name, value in key.items() if name != "check_value_only"} for key in full["hsm_keys"]
    ] == control.keys("node1")
    assert sum(key["check_value_only"] for key in full["hsm_keys"]) == 1
    assert [pin_pad["name"] for pin_pad in full["pin_pads"]] == ["front-usb", "rack-2"]
    assert full["restore"] is None
    assert checked["hsm_keys"] == full["hsm_keys"]
    assert methods(control) == {"GET"}


def test_hsm_info_node_in_factory_reset_mode(control: Control, runner: AnsibleRunner) -> None:
    """A node in Factory Reset Mode has no MBK and no keys."""
    result = runner.run(task("utrust_hsm_info", {**connection_args(control, "node3"), "gather": ["keys"]})).result
    assert (result["node"]["hsm_state"], result["node"]["mbk"], result["hsm_keys"]) == ("factory_reset", None, [])


# utrust_ksp_export


def test_ksp_export_replaces_only_an_outdated_package(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """Each step runs in check mode first, then for real."""
    dest = tmp_path / "cluster.ksp"
    arguments = {**connection_args(control, "node1"), "dest": str(dest)}
    check = task("utrust_ksp_export", arguments, check_mode=True)
    real = task("utrust_ksp_export", arguments)

    planned = runner.run(check).result
    assert (planned["changed"], planned["package"]["sha256"], planned["package"]["size"]) == (True, None, None)
    assert list(tmp_path.iterdir()) == []
    assert methods(control) == {"GET"}, "check mode sends GET only"

    first, again_checked, again = runner.run(real, check, real).results
    assert (first["changed"], again_checked["changed"], again["changed"]) == (True, False, False)
    assert modes(tmp_path) == {"cluster.ksp": 0o600, "cluster.ksp.manifest.json": 0o600}
    manifest = json.loads((tmp_path / "cluster.ksp.manifest.json").read_text())
    assert manifest == first["manifest"] == again["manifest"]
    assert {**manifest, "sha256": None, "size": None} == {
        **planned["manifest"],
        "created_at": manifest["created_at"],
    }
    assert manifest["keys_digest"] == control.node("node1")["keys_digest"]
    assert dest.stat().st_size == first["package"]["size"]
    assert first["package"]["path"] == str(dest)
    assert first["node"]["name"] == "node1"
    made = [request for request in control.requests("node1") if request["method"] != "GET"]
    assert [request["method"] for request in made] == ["POST", "DELETE"], (
        "one package, and its copy on the node is deleted"
    )

    control.generate_key("node1", "newKey")
    changed_checked, changed, again_checked, again = runner.run(check, real, check, real).results
    assert (changed_checked["changed"], changed["changed"]) == (True, True)
    assert (again_checked["changed"], again["changed"]) == (False, False)
    assert changed["package"]["sha256"] != first["package"]["sha256"]
    assert changed["package"]["key_count"] == first["package"]["key_count"] + 1

    dest.write_bytes(b"something else")
    assert runner.run(real).result["changed"] is True
    forced, absent_checked = runner.run(
        task("utrust_ksp_export", {**arguments, "force": True}),
        task("utrust_ksp_export", {**arguments, "state": "absent"}, check_mode=True),
    ).results
    assert (forced["changed"], absent_checked["changed"], dest.exists()) == (True, True, True)
    removed, removed_again = runner.run(*[task("utrust_ksp_export", {**arguments, "state": "absent"})] * 2).results
    assert (removed["changed"], removed_again["changed"]) == (True, False)
    assert list(tmp_path.iterdir()) == []


def test_ksp_export_without_dest_uses_a_private_directory(control: Control, runner: AnsibleRunner) -> None:
    """The end of the run removes the package. On a bastion, the next run does after the lease."""
    arguments = {**connection_args(control, "node1"), "ttl": 0}
    show = "find {{ exported.package.path | dirname }} -printf '%m %f\\n'"
    exported, shown = runner.run(
        task("utrust_ksp_export", arguments, register="exported"),
        {"ansible.builtin.debug": {"msg": "{{ lookup('ansible.builtin.pipe', command) }}"}, "vars": {"command": show}},
    ).results
    path = Path(exported["package"]["path"])
    assert sorted(shown["msg"].splitlines()) == [
        "600 cluster.ksp",
        "600 cluster.ksp.manifest.json",
        f"700 {path.parent.name}",
    ]
    if runner.name == "action":
        wait_for(lambda: not path.parent.exists())
    else:
        [checked] = runner.run(task("utrust_hsm_info", connection_args(control, "node1"), check_mode=True)).results
        assert checked["removed_stale"] == [str(path)]
    assert not path.parent.exists()


def test_ksp_export_running_run_keeps_its_package(control: Control, runner: AnsibleRunner) -> None:
    """A second export of the same run does not remove the package of the first export."""
    export = {**connection_args(control, "node1")}
    ran = runner.run(
        task("utrust_ksp_export", export, register="first"),
        task("utrust_ksp_export", export, register="second"),
        task("utrust_ksp_export", {**export, "state": "absent", "dest": "{{ first.package.path }}"}),
        task("utrust_ksp_export", {**export, "state": "absent", "dest": "{{ second.package.path }}"}),
    )
    first, second, removed, removed_too = ran.results
    assert "removed_stale" not in second
    assert Path(first["package"]["path"]).parent != Path(second["package"]["path"]).parent
    assert (removed["changed"], removed_too["changed"]) == (True, True)
    assert not Path(first["package"]["path"]).parent.exists()


# utrust_ksp_import


def test_ksp_import_adds_the_keys_of_the_source_once(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """Each step runs in check mode first, then for real, from the export to a signature with the new key."""
    src = str(tmp_path / "cluster.ksp")
    export = task("utrust_ksp_export", {**connection_args(control, "node1"), "dest": src}, register="export")
    arguments = {**connection_args(control, "node2"), "src": src, "manifest_sha256": DIGEST}
    check = task("utrust_ksp_import", arguments, check_mode=True, diff=True)
    real = task("utrust_ksp_import", arguments)

    # The nodes are in sync: the module sends GET requests only.
    dummy, in_sync_checked, in_sync = runner.run(export, check, real).results
    for result in (in_sync_checked, in_sync):
        assert (result["changed"], result["in_sync"], result["added"], result["unchanged"]) == (False, True, [], 3)
    assert {request["method"] for request in control.requests("node2")} == {"GET"}

    [new] = control.generate_key("node1", "newKey")
    control.clear_log()
    exported, predicted = runner.run(export, check).results
    assert (predicted["changed"], predicted["verified"], predicted["pending"]) == (True, False, 1)
    assert predicted["keys_digest"] == exported["manifest"]["keys_digest"]
    assert (predicted["diff"]["before"], "newKey" in predicted["diff"]["after"]) == ("", True)
    assert {request["method"] for request in control.requests("node2")} == {"GET"}, "check mode never stages"
    assert inventories(control)["node2"] == in_sync["keys_digest"]

    done, again_checked, again = runner.run(real, check, real, **given(exported)).results
    assert (done["changed"], done["verified"], done["in_sync"], done["unchanged"]) == (True, True, True, 3)
    assert [key["fingerprint"] for key in done["added"]] == [new["fingerprint"]]
    assert done["keys_digest_before"] == in_sync["keys_digest"]
    assert done["keys_digest"] == inventories(control)["node1"] == inventories(control)["node2"]
    assert (done["node"], done["executed_on"]) == ("node2", socket.gethostname())
    assert (again_checked["changed"], again["changed"]) == (False, False)
    assert "diff" not in done, "a diff is returned in diff mode only"
    assert control.sign("node2", "newKey", b"message")
    sent = [request["method"] for request in control.requests("node2") if request["method"] != "GET"]
    assert sent == ["POST", "POST"], "staged and applied, once"


def test_ksp_import_check_mode_needs_only_a_manifest(control: Control, runner: AnsibleRunner) -> None:
    """A real import needs the package."""
    control.generate_key("node1", "newKey")
    export = task("utrust_ksp_export", connection_args(control, "node1"), check_mode=True, register="export")
    arguments = {**connection_args(control, "node2"), "manifest": "{{ export.manifest }}"}
    ran = runner.run(
        export, task("utrust_ksp_import", arguments, check_mode=True), task("utrust_ksp_import", arguments)
    )
    dummy, predicted, refused = ran.results
    assert (predicted["changed"], [key["label"] for key in predicted["added"]]) == (True, ["newKey"])
    assert (refused["failed"], refused["code"]) == (True, "package_missing")
    assert methods(control) == {"GET"}


def test_ksp_import_extra_key_stays(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """An extra key is refused by default, and stays if the operator allows the key."""
    control.generate_key("node1", "newKey")
    [extra] = control.generate_key("node2", "extraKey")
    src = str(tmp_path / "cluster.ksp")
    arguments = {**connection_args(control, "node2"), "src": src, "manifest_sha256": DIGEST}
    dummy, refused, kept, known = runner.run(
        task("utrust_ksp_export", {**connection_args(control, "node1"), "dest": src}, register="export"),
        task("utrust_ksp_import", arguments),
        task("utrust_ksp_import", {**arguments, "extra_keys": "keep"}),
        task("utrust_ksp_import", {**arguments, "allowed_extra_keys": [extra["fingerprint"]]}),
    ).results
    assert (refused["failed"], refused["code"]) == (True, "extra_keys")
    assert (kept["changed"], kept["in_sync"], known["changed"]) == (True, False, False)
    assert [key["label"] for key in kept["extra"]] == ["extraKey"]
    assert {"newKey", "extraKey"} <= {key["label"] for key in control.keys("node2")}


def test_ksp_import_replaces_only_a_named_key(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """A mismatched key is replaced only if allow_replace names the key."""
    [ours] = control.generate_key("node1", "caKey")
    [theirs] = control.generate_key("node2", "caKey")
    before, src = inventories(control), str(tmp_path / "cluster.ksp")
    arguments = {**connection_args(control, "node2"), "src": src, "manifest_sha256": DIGEST}
    replace = {"allow_replace": [{"fingerprint": ours["fingerprint"], "reason": "a test key"}]}
    exported, refused, predicted = runner.run(
        task("utrust_ksp_export", {**connection_args(control, "node1"), "dest": src}, register="export"),
        task("utrust_ksp_import", {**arguments, "extra_keys": "keep"}),
        task("utrust_ksp_import", {**arguments, **replace}, check_mode=True, diff=True),
    ).results
    assert (refused["failed"], refused["code"]) == (True, "key_mismatch")
    for words in ("caKey", ours["fingerprint"], theirs["fingerprint"], "find out which key is in use"):
        assert words in refused["msg"]
    assert inventories(control) == before
    assert predicted["changed"] is True
    assert theirs["fingerprint"] in predicted["diff"]["before"]
    assert ours["fingerprint"] in predicted["diff"]["after"]

    done, again = runner.run(*[task("utrust_ksp_import", {**arguments, **replace})] * 2, **given(exported)).results
    assert (done["changed"], done["in_sync"], again["changed"]) == (True, True, False)
    [pair] = done["replaced"]
    assert (pair["source_key"]["fingerprint"], pair["target_key"]["fingerprint"]) == (
        ours["fingerprint"],
        theirs["fingerprint"],
    )
    assert inventories(control)["node2"] == inventories(control)["node1"]


def test_ksp_import_expected_new_keys_limits_the_import(
    control: Control, runner: AnsibleRunner, tmp_path: Path
) -> None:
    """A key that is not expected or was destroyed is refused."""
    [new] = control.generate_key("node1", "newKey")
    src = str(tmp_path / "cluster.ksp")
    arguments = {**connection_args(control, "node2"), "src": src, "manifest_sha256": DIGEST}
    dummy, refused, destroyed, done = runner.run(
        task("utrust_ksp_export", {**connection_args(control, "node1"), "dest": src}, register="export"),
        task("utrust_ksp_import", {**arguments, "expected_new_keys": []}),
        task("utrust_ksp_import", {**arguments, "destroyed_keys": [new["fingerprint"]]}),
        task("utrust_ksp_import", {**arguments, "expected_new_keys": [new["fingerprint"]]}),
    ).results
    assert (refused["failed"], refused["code"]) == (True, "key_not_expected")
    assert (destroyed["failed"], destroyed["code"]) == (True, "destroyed_key_would_return")
    assert done["changed"] is True


def test_ksp_import_unusable_key_gives_a_warning(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """The imported key is in a slot that is not activated."""
    control.generate_key("node1", "newKey", slot=1)
    control.set_slot("node2", 1, activation="manual", activated=False)
    src = str(tmp_path / "cluster.ksp")
    ran = runner.run(
        task("utrust_ksp_export", {**connection_args(control, "node1"), "dest": src}, register="export"),
        task("utrust_ksp_import", {**connection_args(control, "node2"), "src": src, "manifest_sha256": DIGEST}),
        warnings=[f"{number} key(s) in the HSM of node2 are not usable" for number in range(1, 9)],
    )
    control.set_slot("node2", 1, activation="auto", activated=True)
    done = ran.results[1]
    assert (done["changed"], done["in_sync"]) == (True, True)
    assert done["unusable_key_count"] > 0
    assert "not usable" in " ".join(ran.output.split())
