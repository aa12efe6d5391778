# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The transport `rest` against the appliance simulator: successful and rejected calls of all methods."""

from __future__ import annotations

import hashlib
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest
from utrust_appliance.testing import cluster

from tests.support.rest import connected, downloaded, staged

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import RestAppliance
    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def control(hsm: str) -> Iterator[Control]:
    """Two nodes with the same keys, and a third joined node."""
    with cluster(nodes=3, restored=2, keys=4, faults=True, card_timeout=30, hsm=hsm) as running:
        yield running


@pytest.fixture
def source(control: Control) -> Iterator[RestAppliance]:
    with connected(control, "node1") as appliance:
        yield appliance


@pytest.fixture
def target(control: Control) -> Iterator[RestAppliance]:
    with connected(control, "node2") as appliance:
        yield appliance


@pytest.fixture
def joining(control: Control) -> Iterator[RestAppliance]:
    """node3, which is reset to Factory Reset Mode afterwards."""
    with connected(control, "node3") as appliance:
        yield appliance
        running = appliance.running_restore()
        if running is not None:
            appliance.cancel_restore(running.id)
    if control.node("node3")["mbk"]:
        control.factory_reset("node3")


def keys_in_simulator(control: Control, node: str) -> tuple[HsmKey, ...]:
    """The keys of the HSM as the simulator reports them."""
    return tuple(HsmKey(**key) for key in control.keys(node))


# Reading


def test_transport_implements_protocol(source: RestAppliance) -> None:
    """The transport has every method of the protocol."""
    methods = [name for name in vars(Appliance) if not name.startswith("_") and callable(getattr(Appliance, name))]
    assert len(methods) > 10
    assert [name for name in methods if not callable(getattr(source, name, None))] == []


def test_node_facts_match_simulator(control: Control, source: RestAppliance) -> None:
    """The facts of a node match the simulator."""
    node, facts = source.node(), control.node("node1")
    assert (node.name, node.hsm_serial, node.hsm_state) == ("node1", facts["serial"], "operational")
    assert (node.key_count, node.keys_digest) == (facts["key_count"], facts["keys_digest"])
    assert node.mbk is not None
    assert node.mbk.check_value == facts["mbk"]["check_value"]
    assert [(member.node, member.joined) for member in node.members] == [
        ("node1", True),
        ("node2", True),
        ("node3", True),
    ]
    assert node.running is None


def test_keys_match_hsm_and_digest(control: Control, source: RestAppliance) -> None:
    """The key list matches the HSM and its digest."""
    listed = source.list_keys()
    assert listed == keys_in_simulator(control, "node1")
    assert keys_digest(listed) == control.node("node1")["keys_digest"]


def test_keys_read_from_many_pages(control: Control, source: RestAppliance, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages of a long key list are read."""
    control.generate_key("node1", "page", kind="aes-256", count=25)
    control.clear_log("node1")
    monkeypatch.setattr(_limits, "MAX_PAGE_KEYS", 3)
    assert source.list_keys() == keys_in_simulator(control, "node1")
    assert len(control.requests("node1")) == 10
    for number in range(1, 26):
        control.delete_key("node1", f"page-{number:04d}")


def test_keys_unusable_listed(control: Control, target: RestAppliance) -> None:
    """An unusable key is listed as unusable."""
    control.generate_key("node2", "damaged")
    control.damage_key("node2", "damaged")
    assert [key.label for key in target.list_keys() if not key.usable] == ["damaged"]
    assert target.node().unusable_key_count == 1
    control.delete_key("node2", "damaged")


def test_pin_pads_listed_with_state(source: RestAppliance) -> None:
    """PIN pads are listed with their state."""
    assert {pin_pad.name: pin_pad.status for pin_pad in source.pin_pads()} == {
        "front-usb": "ready",
        "rack-2": "unavailable",
    }


# Guided restore


def test_restore_preview_has_facts_for_card_holders(control: Control, joining: RestAppliance) -> None:
    """The preview has all facts for card holders."""
    preview = joining.preview_restore("front-usb", "node1")
    facts = control.node("node3")
    assert (preview.node, preview.hsm_serial) == ("node3", facts["serial"])
    assert preview.tls_fingerprint == facts["tls_fingerprint"]
    assert (preview.cards_required, preview.cards_total) == (2, 3)
    assert preview.source_keys_digest == control.node("node1")["keys_digest"]
    assert control.node("node3")["state"] == "factory_reset"


@pytest.mark.parametrize(
    ("pin_pad", "source", "code"),
    [
        ("rack-9", "node1", "pin_pad_not_configured"),
        ("rack-2", "node1", "pin_pad_unavailable"),
        ("front-usb", "node9", "source_not_a_member"),
        ("front-usb", "node3", "source_not_ready"),
    ],
)
def test_restore_impossible_rejected_with_code(joining: RestAppliance, pin_pad: str, source: str, code: str) -> None:
    """An impossible restore is rejected with a code."""
    for attempt in (joining.preview_restore, joining.start_restore):
        with pytest.raises(ApiError) as caught:
            attempt(pin_pad, source)
        assert caught.value.code == code
        if code == "pin_pad_not_configured":
            assert caught.value.details["configured"] == ["front-usb", "rack-2"]
    assert joining.running_restore() is None


def test_restore_operational_hsm_rejected(target: RestAppliance) -> None:
    """A restore of an operational HSM is rejected."""
    with pytest.raises(ApiError) as caught:
        target.start_restore("front-usb", "node1")
    assert caught.value.code == "not_factory_reset"


def test_restore_progress_until_end(control: Control, joining: RestAppliance) -> None:
    """The progress of a restore is visible until its end."""
    restore = joining.start_restore("front-usb", "node1")
    assert (restore.state, restore.finished) == ("waiting_for_card", False)
    seen = [restore]
    for card in ("KEYOPS-1", "KEYOPS-2"):
        control.present_card("node3", card)
        seen.append(joining.watch_restore(seen[-1], 20))
    while not seen[-1].finished:
        seen.append(joining.watch_restore(seen[-1], 20))
    assert seen[1].prompt == "Insert MBK card 2 of 2"
    assert seen[1].cards_accepted == 1
    assert seen[-1].state == "succeeded"
    assert [one.sequence for one in seen] == sorted({one.sequence for one in seen})
    assert control.node("node3")["keys_digest"] == control.node("node1")["keys_digest"]
    assert joining.running_restore() is None


def test_restore_notice_reported(control: Control, joining: RestAppliance) -> None:
    """A notice of the PIN pad is reported."""
    restore = joining.start_restore("front-usb", "node1")
    control.present_card("node3", "KEYOPS-3")
    control.insert_card("node3", "KEYOPS-3")
    watched = joining.watch_restore(restore, 20)
    assert watched.notice is not None
    assert watched.notice[0] == "card_already_used"
    assert watched.cards_accepted == 1


def test_restore_only_one_at_a_time(joining: RestAppliance) -> None:
    """Only one restore runs at a time."""
    running = joining.start_restore("front-usb", "node1")
    with pytest.raises(ApiError) as caught:
        joining.start_restore("front-usb", "node1")
    assert caught.value.code == "restore_in_progress"
    assert caught.value.details["running_id"] == running.id
    found = joining.running_restore()
    assert found is not None
    assert found.id == running.id


def test_restore_canceled_stays_canceled(control: Control, joining: RestAppliance) -> None:
    """A canceled restore stays canceled."""
    running = joining.start_restore("front-usb", "node1")
    for dummy in range(2):
        canceled = joining.cancel_restore(running.id)
        assert (canceled.state, canceled.problem and canceled.problem[0]) == ("canceled", "canceled_by_request")
    assert joining.running_restore() is None
    assert control.node("node3")["state"] == "factory_reset"


# Packages


def test_package_has_expected_keys(control: Control, source: RestAppliance) -> None:
    """A package is complete and has the expected keys."""
    package, content = downloaded(source)
    assert package.keys_digest == control.node("node1")["keys_digest"]
    assert (package.source, package.key_count) == ("node1", len(control.keys("node1")))
    assert len(content.getvalue()) == package.size
    assert "sha256:" + hashlib.sha256(content.getvalue()).hexdigest() == package.sha256


def test_package_of_old_digest_rejected(control: Control, source: RestAppliance) -> None:
    """A package with an old keys digest is rejected."""
    before = source.node().keys_digest
    control.generate_key("node1", "meanwhile")
    with pytest.raises(ApiError) as caught:
        source.create_package(before)
    assert (caught.value.code, caught.value.details["http_status"]) == ("keys_changed", 409)
    assert caught.value.details["keys_digest"] == control.node("node1")["keys_digest"]
    control.delete_key("node1", "meanwhile")


def test_package_deleted_twice_succeeds(source: RestAppliance) -> None:
    """A package can be deleted twice without an error."""
    package, content = downloaded(source)
    source.delete_package(package)
    source.delete_package(package)
    with pytest.raises(ApiError) as caught:
        source.download_package(package, content)
    assert caught.value.code == "package_not_ready"


def test_package_factory_reset_rejected(joining: RestAppliance) -> None:
    """An HSM in Factory Reset Mode does not create a package."""
    with pytest.raises(ApiError) as caught:
        joining.create_package(joining.node().keys_digest)
    assert caught.value.code == "hsm_not_operational"


# Imports


@pytest.fixture
def new_key(control: Control) -> Iterator[str]:
    """A key that node1 has and node2 does not have. Both keys are deleted afterwards."""
    control.generate_key("node1", "newKey")
    yield "newKey"
    for node in ("node1", "node2"):
        if "newKey" in [key["label"] for key in control.keys(node)]:
            control.delete_key(node, "newKey")


def test_import_staging_shows_preview(
    control: Control, source: RestAppliance, target: RestAppliance, new_key: str
) -> None:
    """Staging shows a preview and does not change keys."""
    before = control.keys("node2")
    made = staged(target, *downloaded(source))
    assert made.state == "staged"
    assert made.keys_digest == control.node("node2")["keys_digest"]
    assert {row.key.label: row.action for row in made.rows or () if row.action != "unchanged"} == {new_key: "add"}
    assert keys_digest(row.key for row in made.rows or ()) == control.node("node1")["keys_digest"]
    assert control.keys("node2") == before
    target.discard_import(made)


def test_import_applied_keys_sign(control: Control, source: RestAppliance, target: RestAppliance, new_key: str) -> None:
    """Applied keys sign."""
    made = staged(target, *downloaded(source))
    applied = target.apply_import(made, target.node().keys_digest)
    assert applied.state == "applied"
    assert target.list_keys() == source.list_keys()
    assert control.public_key("node2", new_key) == control.public_key("node1", new_key)
    assert control.sign("node2", new_key, b"message")


def test_import_preview_shows_replaced_key(
    control: Control, source: RestAppliance, target: RestAppliance, new_key: str
) -> None:
    """The preview shows the replaced key."""
    [ours] = [key for key in control.keys("node1") if key["label"] == new_key]
    [theirs] = control.generate_key("node2", new_key, key_id=ours["id"])
    made = staged(target, *downloaded(source))
    [row] = [row for row in made.rows or () if row.action != "unchanged"]
    assert (row.action, row.key.fingerprint, row.current_fingerprint) == (
        "replace",
        ours["fingerprint"],
        theirs["fingerprint"],
    )
    target.discard_import(made)


def test_import_changed_hsm_rejected(
    control: Control, source: RestAppliance, target: RestAppliance, new_key: str
) -> None:
    """An import is rejected if the keys of the HSM have changed."""
    made = staged(target, *downloaded(source))
    seen = target.node().keys_digest
    control.generate_key("node2", "meanwhile")
    before = control.keys("node2")
    for digest in (seen, target.node().keys_digest, "sha256:" + "0" * 64):
        with pytest.raises(ApiError) as caught:
            target.apply_import(made, digest)
        assert (caught.value.code, caught.value.details["http_status"]) == ("keys_changed", 409)
    assert control.keys("node2") == before
    assert new_key not in [key["label"] for key in before]
    control.delete_key("node2", "meanwhile")


def test_import_ended_cannot_be_applied_or_discarded(
    control: Control, source: RestAppliance, target: RestAppliance, new_key: str
) -> None:
    """A discarded import cannot be applied, and an applied import cannot be discarded."""
    package, content = downloaded(source)
    discarded = staged(target, package, content)
    target.discard_import(discarded)
    target.discard_import(discarded)
    with pytest.raises(ApiError) as caught:
        target.apply_import(discarded, target.node().keys_digest)
    assert caught.value.code == "import_finished"
    applied = staged(target, package, content)
    target.apply_import(applied, target.node().keys_digest)
    target.discard_import(applied)
    assert new_key in [key["label"] for key in control.keys("node2")]


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda content: content[:-1], "package_truncated"),
        (lambda content: content[: len(content) // 2], "package_truncated"),
        (lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:], "package_corrupt"),
        (lambda content: content[:-60] + bytes([content[-60] ^ 1]) + content[-59:], "package_corrupt"),
        (lambda dummy: b"MZ\x90 this is something else" * 10, "package_corrupt"),
    ],
    ids=["last byte", "half", "header", "keys", "something else"],
)
def test_import_corrupt_package_rejected(
    control: Control,
    source: RestAppliance,
    target: RestAppliance,
    damage: t.Callable[[bytes], bytes],
    code: str,
) -> None:
    """A corrupt package is rejected at staging."""
    before = control.keys("node2")
    package, content = downloaded(source)
    damaged = damage(content.getvalue())
    content.seek(0)
    content.truncate()
    content.write(damaged)
    content.seek(0)
    with pytest.raises(ApiError) as caught:
        target.stage_import(
            content,
            len(damaged),
            "sha256:" + hashlib.sha256(damaged).hexdigest(),
            target.node().keys_digest,
        )
    assert caught.value.code == code
    assert package.source == "node1"
    assert control.keys("node2") == before
