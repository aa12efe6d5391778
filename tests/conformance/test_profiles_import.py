# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports under every behavior profile: no key is lost, overwritten or restored without permission of the operator."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import json
import threading
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    PreflightError,
    RequestLostError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from utrust_appliance import process
from utrust_appliance.behavior import ASPECTS, PROFILES, Behavior
from utrust_appliance.control import Control
from utrust_appliance.testing import Api, cluster

from tests.support.playbook import card_holders
from tests.support.sync import Sync, fingerprints, posts
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: All named profiles of nodes that list their keys, and other combinations.
EVERY = [*(name for name in PROFILES if name != "bridge"), "effect=additive", "effect=replacing announces=no"]
RESTART = 2.0


@pytest.fixture(scope="module")
def running(hsm: str) -> Iterator[Control]:
    mix = {"ec-p256": 1}
    with cluster(nodes=2, restored=2, keys=2, key_mix=mix, faults=True, restart_time=RESTART, hsm=hsm) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """node1 and node2 hold the same two keys, without faults and with the profile of the contract."""
    running.set_profile()
    yield running
    running.clear_faults()
    running.set_profile()
    for key in running.keys("node1"):
        if not key["label"].startswith("key-"):
            running.delete_key("node1", key["label"], key["slot"])
    running.factory_reset("node2")
    running.restore("node2")


@pytest.fixture
def sync(control: Control, tmp_path: Path) -> Sync:
    tmp_path.chmod(0o700)
    return Sync(control, tmp_path)


@pytest.mark.parametrize(
    "profile_names", ["commit=upload", "commit=upload atomic=key_by_key restart=driver", "vendor-page"]
)
def test_package_with_more_keys_than_its_manifest_is_named(control: Control, sync: Sync, profile_names: str) -> None:
    """The upload is the commit, so the node shows no preview. Afterwards every key that nobody predicted is named."""
    [destroyed] = control.generate_key("node1", "destroyedKey")
    control.generate_key("node1", "strangeKey")
    control.generate_key("node1", "newKey")
    control.set_profile(*profile_names.split())
    manifest = store.load_manifest(sync.export())
    assert manifest is not None
    listed = tuple(key for key in manifest.hsm_keys if key.label not in ("destroyedKey", "strangeKey"))
    store.write_manifest(sync.package, dc.replace(manifest, hsm_keys=listed, keys_digest=keys_digest(listed)))
    with pytest.raises(UtrustError) as caught:
        sync.run(export=False, destroyed_keys=frozenset([destroyed["fingerprint"]]))
    assert (caught.value.code, caught.value.details["changed"]) == ("unexpected_keys", True)
    assert {key["label"] for key in caught.value.details["unexpected"]} == {"destroyedKey", "strangeKey"}
    text = str(caught.value)
    assert text.index("Keys destroyed before, but present now: slot 0 destroyedKey") < text.index("slot 0 strangeKey")


@pytest.fixture(params=EVERY)
def profile(request: pytest.FixtureRequest, control: Control) -> Iterator[Behavior]:
    """Each profile. If imports require cards, people present the cards."""
    names = request.param.split()
    control.set_profile(*names)
    control.clear_log()
    behavior = Behavior.of(names)
    people = (
        card_holders(control, "node2", cards=["KEYOPS-1", "KEYOPS-2"] * 3)
        if behavior.cards == "required"
        else contextlib.nullcontext()
    )
    with people:
        yield behavior


def rejected(sync: Sync, *codes: str, **policy: t.Any) -> None:
    """Check that the import is rejected with one of these codes, without requests to the target and without changes."""
    before = sync.control.keys("node2")
    for dry_run in (True, False):
        with pytest.raises(PreflightError, match="nothing was changed") as caught:
            sync.run(dry_run=dry_run, **policy)
        assert {problem["code"] for problem in caught.value.details["problems"]} <= set(codes)
    assert posts(sync.control, "node2") == []
    assert sync.control.keys("node2") == before


# All profiles


@pytest.mark.usefixtures("profile")
def test_import_new_key_as_predicted_and_idempotent(sync: Sync) -> None:
    """A new key is imported as predicted and signs, and the second run changes nothing."""
    sync.control.generate_key("node1", "newKey")
    predicted = sync.run(dry_run=True)
    assert posts(sync.control, "node2") == []
    done = sync.run()
    assert (done["changed"], done["verified"], done["in_sync"]) == (True, True, True)
    assert done["keys_digest"] == predicted["keys_digest"]
    assert [key["label"] for key in done["added"]] == ["newKey"]
    assert sync.control.sign("node2", "newKey", b"message")
    assert sync.run()["changed"] is False


@pytest.mark.usefixtures("profile")
def test_import_extra_target_key_stops_import(sync: Sync) -> None:
    """A key that only the target has stops the import."""
    sync.control.generate_key("node1", "newKey")
    sync.control.generate_key("node2", "extraKey")
    rejected(sync, "extra_keys")


@pytest.mark.parametrize("how", ["keep", "known"])
def test_import_allowed_extra_key_kept_or_rejected(sync: Sync, profile: Behavior, how: str) -> None:
    """An allowed extra key stays, or the import is rejected."""
    sync.control.generate_key("node1", "newKey")
    [extra] = sync.control.generate_key("node2", "extraKey")
    policy: dict[str, t.Any] = (
        {"keep_extra": True} if how == "keep" else {"allowed_extra_keys": frozenset([extra["fingerprint"]])}
    )
    if profile.announces == "no":
        rejected(sync, "import_effect_unknown", **policy)
    elif profile.effect == "replacing" or profile.deletions == "replicated":
        rejected(sync, "extra_keys_would_be_lost", **policy)
    else:
        assert sync.run(**policy)["in_sync"] is False
        assert fingerprints(sync.control, "node2") == fingerprints(sync.control, "node1") | {extra["fingerprint"]}


def test_import_replaces_only_named_key(sync: Sync, profile: Behavior) -> None:
    """A mismatched key is replaced only if it is named and can be replaced."""
    [on_source] = sync.control.generate_key("node1", "sameKey", key_id="0a")
    [on_target] = sync.control.generate_key("node2", "sameKey", key_id="0a")
    rejected(sync, "key_mismatch")
    named: dict[str, t.Any] = {"allow_replace": frozenset([on_source["fingerprint"]])}
    if profile.announces == "no":
        rejected(sync, "import_effect_unknown", **named)
    elif profile.effect == "additive":
        rejected(sync, "key_not_replaceable", **named)
    else:
        assert [pair["target_key"]["fingerprint"] for pair in sync.run(**named)["replaced"]] == [
            on_target["fingerprint"]
        ]
        assert fingerprints(sync.control, "node2") == fingerprints(sync.control, "node1")


@pytest.mark.usefixtures("profile")
def test_import_destroyed_key_not_restored(sync: Sync) -> None:
    """A destroyed key is not imported again."""
    [destroyed] = sync.control.generate_key("node1", "destroyedKey")
    rejected(sync, "destroyed_key_would_return", destroyed_keys=frozenset([destroyed["fingerprint"]]))


@pytest.mark.usefixtures("profile")
def test_import_other_cluster_or_mbk_rejected(sync: Sync) -> None:
    """A package of another cluster or MBK is rejected, even if the node would accept it."""
    sync.control.generate_key("node1", "newKey")
    sync.export()
    manifest = sync.manifest()
    for change, code in (
        ({"cluster_id": "another"}, "cluster_mismatch"),
        ({"mbk": {"name": "OTHER", "check_value": "0a" * 8}}, "mbk_mismatch"),
    ):
        sync.package.with_name("cluster.ksp.manifest.json").write_text(
            json.dumps({**manifest, **change}), encoding="utf-8"
        )
        with pytest.raises(PreflightError) as caught:
            sync.run(export=False)
        assert caught.value.code == code
    assert posts(sync.control, "node2") == []


def test_import_lost_response_after_commit_verified(sync: Sync, profile: Behavior) -> None:
    """After a lost response, the state of the node shows the commit."""
    sync.control.generate_key("node1", "newKey")
    commit = "/imports$" if profile.commit == "upload" else "/apply$"
    sync.control.fault("lost_response_after", node="node2", method="POST", path=commit)
    assert sync.run()["verified"] is True
    assert len([path for path in posts(sync.control, "node2") if path.endswith(commit[:-1])]) == 1
    assert fingerprints(sync.control, "node2") == fingerprints(sync.control, "node1")


@pytest.mark.usefixtures("profile")
def test_import_lost_request_reports_no_change(sync: Sync) -> None:
    """A commit that did not reach the node is reported as no change."""
    sync.control.generate_key("node1", "newKey")
    before = sync.control.keys("node2")
    sync.control.fault("lost_response_before", node="node2", method="POST")
    with pytest.raises(RequestLostError, match=r"did not act on the request.*(?i:nothing was changed)"):
        sync.run()
    assert sync.control.keys("node2") == before
    assert sync.run()["verified"] is True


def test_import_failure_lists_keys_and_next_continues(sync: Sync, profile: Behavior) -> None:
    """A failed import lists the imported keys, and the next run continues."""
    sync.control.generate_key("node1", "newKey", count=3)
    before = fingerprints(sync.control, "node2")
    sync.control.fault("import_failure", node="node2", after=2)
    with pytest.raises(UtrustError) as caught:
        sync.run()
    arrived = fingerprints(sync.control, "node2") - before
    if profile.atomic == "all":
        assert arrived == set()
        assert "nothing was changed" in str(caught.value)
    else:
        assert (caught.value.code, caught.value.details["changed"]) == ("import_incomplete", True)
        assert {key["fingerprint"] for key in caught.value.details["added"]} == arrived
        assert (len(arrived), caught.value.details["pending"]) == (2, 1)
    done = sync.run()
    assert (done["verified"], len(done["added"])) == (True, 3 - len(arrived))
    assert fingerprints(sync.control, "node2") == fingerprints(sync.control, "node1")


# Some profiles only


def test_import_of_bridge_without_key_list_refused(control: Control, sync: Sync) -> None:
    """A node that cannot list its keys gets no package, because its import could not be verified. Its keys stay."""
    control.generate_key("node1", "newKey")
    sync.export()
    control.set_profile("bridge")
    control.clear_log()
    before = control.keys("node2")
    for dry_run in (True, False):
        with pytest.raises(UtrustError, match=r"cannot list its keys.*Nothing was changed") as caught:
            sync.run(dry_run=dry_run, export=False)
        assert caught.value.code == "capability_missing"
    with pytest.raises(UtrustError, match=r"cannot write a manifest\. Nothing was changed") as caught:
        sync.export()
    assert caught.value.code == "capability_missing"
    assert posts(control, "node1") == posts(control, "node2") == []
    assert control.keys("node2") == before


@pytest.mark.parametrize(
    "names", [["key-by-key"], ["worst-case"], ["vendor-page"], ["backup", "cards=not_required"]], ids=" ".join
)
def test_import_killed_node_loses_nothing(control: Control, sync: Sync, names: list[str]) -> None:
    """A killed node does not lose keys, and the next run continues."""
    control.set_profile(*names)
    control.generate_key("node1", "newKey", count=3)
    before = fingerprints(control, "node2")
    control.fault("crash_at", node="node2", point="hsm.after_commit")
    with pytest.raises(UtrustError) as caught:
        sync.run(patience=0.2)
    assert caught.value.code == "node_wait_timeout"
    wait_for(lambda: process.running(control.folder) is None)
    Control.up(control.folder, faults=True, restart_time=RESTART)
    assert control.status()["profile"] == names
    after = fingerprints(control, "node2")
    assert before <= after <= fingerprints(control, "node1")
    if Behavior.of(names).atomic == "key_by_key":
        assert len(after - before) == 1
    sync.run()
    assert fingerprints(control, "node2") == fingerprints(control, "node1")


def test_import_failure_after_last_key_is_success(control: Control, sync: Sync) -> None:
    """A failure after the last key is a success, because the node has all keys."""
    control.set_profile("key-by-key")
    control.generate_key("node1", "newKey", count=2)
    control.fault("import_failure", node="node2", after=2)
    assert sync.run()["verified"] is True


def test_import_wrong_effect_detected_by_preview(control: Control, sync: Sync) -> None:
    """The import preview detects a wrong import_effect before any change."""
    control.set_profile("effect=replacing", "announces=no")
    control.generate_key("node1", "newKey")
    control.generate_key("node2", "extraKey")
    before = control.keys("node2")
    with pytest.raises(UtrustError, match="nothing was changed") as caught:
        sync.run(keep_extra=True, import_effect="additive")
    assert caught.value.code == "import_preview_mismatch"
    assert control.keys("node2") == before


def test_import_wrong_effect_names_lost_key(control: Control, sync: Sync) -> None:
    """If the upload is the commit, the error for a wrong import_effect names the lost key."""
    control.set_profile("worst-case")
    control.generate_key("node1", "newKey")
    [extra] = control.generate_key("node2", "extraKey")
    with pytest.raises(UtrustError, match="lost: slot 0 extraKey") as caught:
        sync.run(keep_extra=True, import_effect="additive")
    assert caught.value.code == "import_not_verified"
    assert [key["fingerprint"] for key in caught.value.details["lost"]] == [extra["fingerprint"]]


def test_import_correct_effect_keeps_key(control: Control, sync: Sync) -> None:
    """A correct import_effect keeps a key if the node reports unknown."""
    control.set_profile("vendor-page")
    control.generate_key("node1", "newKey")
    [extra] = control.generate_key("node2", "extraKey")
    assert sync.run(keep_extra=True, import_effect="additive")["verified"] is True
    assert extra["fingerprint"] in fingerprints(control, "node2")


def test_import_effect_against_node_rejected(control: Control, sync: Sync) -> None:
    """An import_effect that contradicts the node is rejected."""
    control.generate_key("node1", "newKey")
    control.clear_log()
    rejected(sync, "import_effect_mismatch", import_effect="replacing")


def test_import_deletions_never_hit_allowed_keys(control: Control, sync: Sync) -> None:
    """The simulator would also destroy the allowed keys, but the collection rejects the import first."""
    control.generate_key("node1", "oldKey")
    sync.run()
    control.set_profile("mirror")
    control.delete_key("node1", "oldKey")
    control.generate_key("node1", "newKey")
    control.clear_log()
    rejected(sync, "extra_keys")
    rejected(sync, "extra_keys_would_be_lost", keep_extra=True)
    target = Api(control, "node2")
    staged = target("POST", "/hsm/imports", Api(control, "node1").package()).data
    assert [row["label"] for row in staged["rows"] if row["action"] == "remove"] == ["oldKey"]
    assert target.apply(staged).data["state"] == "applied"
    assert fingerprints(control, "node2") == fingerprints(control, "node1")


def test_import_waits_for_node_restart(control: Control, sync: Sync) -> None:
    """The import waits for a restart of the node, which is disconnected until then."""
    control.set_profile("legacy-reboot")
    control.generate_key("node1", "newKey")
    source = Api(control, "node1")

    def seen() -> str:
        members = {member["node"]: member["connection"] for member in source("GET", "/node").data["cluster"]["members"]}
        return str(members["node2"])

    done: list[dict[str, t.Any]] = []
    thread = threading.Thread(target=lambda: done.append(sync.run()))
    thread.start()
    wait_for(lambda: seen() == "disconnected", limit=20)
    thread.join()
    assert done[0]["verified"] is True
    assert seen() == "connected"


def test_import_waits_for_driver_restart(control: Control, sync: Sync) -> None:
    """The import waits for a restart of the driver."""
    control.set_profile("restart=driver")
    control.generate_key("node1", "newKey")
    assert sync.run()["verified"] is True
    assert Api(control, "node2")("GET", "/node").data["hsm"]["driver"] == "running"
    paths = [request["path"] for request in control.requests("node2")]
    applied = next(index for index, path in enumerate(paths) if path.endswith("/apply"))
    assert paths[applied:].count("/api/v1/node") > 2, "the driver did not restart, so this test shows nothing"


# Cards


def test_import_with_cards_shows_prompt_and_continues(control: Control, sync: Sync) -> None:
    """An import that requires cards shows the prompt and continues with the cards."""
    control.set_profile("cards=required")
    control.generate_key("node1", "newKey")
    with card_holders(control, "node2"):
        assert sync.run()["verified"] is True
    assert any("PIN pad front-usb: Insert MBK card 1 of 2" in line for line in sync.lines)


@pytest.mark.parametrize("commit", ["apply", "upload"])
def test_import_canceled_at_pin_pad_changes_nothing(control: Control, sync: Sync, commit: str) -> None:
    """An import that people cancel at the PIN pad changes nothing."""
    control.set_profile("cards=required", f"commit={commit}")
    control.generate_key("node1", "newKey")
    before = control.keys("node2")

    def press_cancel() -> None:
        wait_for(lambda: control.pin_pad("node2")["restore"] is not None)
        control.cancel_at_pin_pad("node2")

    person = threading.Thread(target=press_cancel)
    person.start()
    with pytest.raises(UtrustError, match="nothing was changed") as caught:
        sync.run()
    person.join()
    assert caught.value.code == "canceled_at_pin_pad"
    assert control.keys("node2") == before
    assert control.node("node2")["running"] is None


def test_import_without_cards_discarded_at_timeout(control: Control, sync: Sync) -> None:
    """An import without cards is discarded at the timeout."""
    control.set_profile("cards=required")
    control.generate_key("node1", "newKey")
    before = control.keys("node2")
    with pytest.raises(UtrustError, match="nothing was changed") as caught:
        sync.run(patience=0.5)
    assert caught.value.code == "import_timeout"
    assert (control.node("node2")["running"], control.keys("node2")) == (None, before)


# Slots and profiles


def test_import_names_locked_keys(control: Control, sync: Sync) -> None:
    """The import names keys that it makes unusable."""
    control.set_slot("node1", 0, activation="manual", activated=True)
    control.set_profile("mirror")
    control.generate_key("node1", "newKey")
    result = sync.run()
    assert any("cannot be used after the import: key-0001, key-0002" in warning for warning in result["warnings"])
    control.set_slot("node1", 0, activation="auto", activated=True)


def test_matrix_covers_every_aspect() -> None:
    """The test matrix covers every value of every aspect."""
    # Nodes that do not list their keys have tests of their own.
    run = [Behavior.of(names.split()) for names in [*EVERY, "bridge"]]
    for aspect, values in ASPECTS.items():
        assert {getattr(behavior, aspect) for behavior in run} == set(values), aspect
