# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guided restore: cards, PINs, timeouts, rejections and results."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import Api, cluster

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

START = {"pin_pad": "front-usb", "source": "node1"}


@pytest.fixture(scope="module")
def running(hsm: str) -> Iterator[Control]:
    with cluster(nodes=3, joined=2, keys=4, faults=True, hsm=hsm) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """node2 is in Factory Reset Mode without jobs, with unlocked cards of MBK KEYOPS."""
    yield running
    running.clear_faults()
    api = Api(running, "node2")
    for restore in api("GET", "/hsm/restores?state=running").data["restores"]:
        finish(api, restore["id"], cancel=True)
    running.factory_reset("node2")


@pytest.fixture
def joining(control: Control) -> Api:
    return Api(control, "node2")


def finish(api: Api, restore_id: str, *, cancel: bool = False) -> dict[str, t.Any]:
    if cancel:
        api("DELETE", f"/hsm/restores/{restore_id}")
    restore = api("GET", f"/hsm/restores/{restore_id}").data
    while restore["finished_at"] is None:
        restore = api("GET", f"/hsm/restores/{restore_id}?wait=20&sequence={restore['sequence']}").data
    return t.cast("dict[str, t.Any]", restore)


def notice(restore: dict[str, t.Any]) -> str | None:
    return restore["notice"] and restore["notice"]["code"]


def test_restore_with_two_cards_provides_keys(control: Control, joining: Api) -> None:
    """A restore with two cards provides keys that sign."""
    preview = joining("GET", "/hsm/restore-preview?pin_pad=front-usb&source=node1").data
    assert (preview["cards_required"], preview["cards_total"]) == (2, 3)
    assert preview["tls_fingerprint"] == control.node("node2")["tls_fingerprint"]
    restore = joining("POST", "/hsm/restores", START).data
    assert (restore["state"], restore["prompt"]["text"]) == ("waiting_for_card", "Insert MBK card 1 of 2")
    assert joining("GET", "/node").data["running"] == {"kind": "restore", "id": restore["id"]}
    assert joining("GET", "/hsm/pin-pads").data["pin_pads"][0]["status"] == "busy"
    restore = control.present_card("node2", "KEYOPS-3")
    assert restore["prompt"]["text"] == "Insert MBK card 2 of 2"
    control.present_card("node2", "KEYOPS-1")
    done = finish(joining, restore["id"])
    assert (done["state"], done["problem"]) == ("succeeded", None)
    assert done["result"] == {"key_count": 4, "keys_digest": control.node("node1")["keys_digest"]}
    node = joining("GET", "/node").data
    assert (node["hsm"]["state"], node["mbk"]) == ("operational", preview["mbk"])
    public = serialization.load_pem_public_key(control.public_key("node1", "signKey-2025").encode())
    signature = control.sign("node2", "signKey-2025", b"message")
    t.cast("t.Any", public).verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    assert joining("POST", "/hsm/restores", START).code == "not_factory_reset"
    deleted = joining("DELETE", f"/hsm/restores/{restore['id']}")
    assert (deleted.status, deleted.data) == (200, done)


def test_restore_notices_explain_rejected_steps(control: Control, joining: Api) -> None:
    """Notices explain rejected steps."""
    if not any(mbk["name"] == "FOREIGN" for mbk in control.mbks()):
        control.create_mbk("FOREIGN")
    joining("POST", "/hsm/restores", START)
    assert notice(control.insert_card("node2", "FOREIGN-1")) == "wrong_card"
    control.insert_card("node2", "KEYOPS-1")
    assert notice(control.remove_card("node2")) == "card_removed"
    control.insert_card("node2", "KEYOPS-1")
    wrong = control.enter_pin("node2", "not the PIN")
    assert (notice(wrong), wrong["state"]) == ("wrong_pin", "waiting_for_pin")
    right = control.enter_pin("node2", control.pin_of("KEYOPS-1"))
    assert (notice(right), right["cards_accepted"]) == (None, 1)
    assert notice(control.insert_card("node2", "KEYOPS-1")) == "card_already_used"
    with pytest.raises(OperationError, match="waiting for card"):
        control.enter_pin("node2", "000000")


def test_restore_correct_pin_resets_counter(control: Control, joining: Api) -> None:
    """A correct PIN resets the counter of wrong PINs."""
    joining("POST", "/hsm/restores", START)
    control.insert_card("node2", "KEYOPS-2")
    for dummy in range(2):
        assert notice(control.enter_pin("node2", "wrong")) == "wrong_pin"
    assert notice(control.enter_pin("node2", control.pin_of("KEYOPS-2"))) is None
    assert {card["card"]: card["wrong_pins"] for card in control.cards("KEYOPS")}["KEYOPS-2"] == 0


def test_restore_locked_card_rejected_after_restart(hsm: str) -> None:
    """A locked card is rejected with its correct PIN, also after a restart."""
    with cluster(nodes=2, keys=1, hsm=hsm) as control:
        api = Api(control, "node2")
        api("POST", "/hsm/restores", START)
        control.insert_card("node2", "KEYOPS-2")
        notices = [notice(control.enter_pin("node2", "wrong")) for dummy in range(3)]
        assert notices == ["wrong_pin", "wrong_pin", "card_locked"]
        control.down()
        type(control).up(control.folder)
        assert [card["locked"] for card in control.cards("KEYOPS")] == [False, True, False]
        (restore,) = api("GET", "/hsm/restores").data["restores"]
        assert (restore["state"], restore["problem"]["code"]) == ("failed", "interrupted")
        restore = api("POST", "/hsm/restores", START).data
        assert notice(control.insert_card("node2", "KEYOPS-2")) == "card_locked"
        control.present_card("node2", "KEYOPS-1")
        control.present_card("node2", "KEYOPS-3")
        assert finish(api, restore["id"])["state"] == "succeeded"


def test_restore_times_out_without_input(hsm: str) -> None:
    """A restore times out without input."""
    with cluster(nodes=2, keys=1, card_timeout=0.3, hsm=hsm) as control:
        api = Api(control, "node2")
        done = finish(api, api("POST", "/hsm/restores", START).data["id"])
        assert (done["state"], done["problem"]["code"]) == ("failed", "card_timeout")
        assert api("GET", "/node").data["hsm"]["state"] == "factory_reset"
        assert api("GET", "/node").data["running"] is None


def test_restore_canceled_at_pin_pad_or_by_request(control: Control, joining: Api) -> None:
    """A restore can be canceled at the PIN pad or by request."""
    at_pad = joining("POST", "/hsm/restores", START).data["id"]
    control.cancel_at_pin_pad("node2")
    assert finish(joining, at_pad)["problem"]["code"] == "canceled_at_pin_pad"
    by_request = joining("POST", "/hsm/restores", START).data["id"]
    for dummy in range(2):
        assert joining("DELETE", f"/hsm/restores/{by_request}").data["problem"]["code"] == "canceled_by_request"
    assert joining("GET", "/node").data["hsm"]["state"] == "factory_reset"
    with pytest.raises(OperationError, match="no guided restore is running"):
        control.insert_card("node2", "KEYOPS-1")


def test_restore_only_one_and_idempotent(joining: Api) -> None:
    """Only one restore runs, and the same request returns the same restore."""
    first = joining("POST", "/hsm/restores", START, idempotency_key="restore-node2-0001").data
    again = joining("POST", "/hsm/restores", START, idempotency_key="restore-node2-0001")
    assert (again.status, again.data["id"]) == (201, first["id"])
    other = joining("POST", "/hsm/restores", START)
    assert (other.code, other.data["running_id"]) == ("restore_in_progress", first["id"])
    reused = joining("POST", "/hsm/restores", {**START, "source": "node3"}, idempotency_key="restore-node2-0001")
    assert reused.code == "idempotency_key_reused"
    found = joining("GET", "/hsm/restores?idempotency_key=restore-node2-0001").data["restores"]
    assert [restore["id"] for restore in found] == [first["id"]]


def test_restore_long_poll_returns_on_change(control: Control, joining: Api) -> None:
    """A long poll returns after a change."""
    restore = joining("POST", "/hsm/restores", START).data
    path = f"/hsm/restores/{restore['id']}?wait=30&sequence={restore['sequence']}"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(joining, "GET", path)
        control.insert_card("node2", "KEYOPS-1")
        changed = waiting.result(timeout=10).data
    assert (changed["state"], changed["sequence"]) == ("waiting_for_pin", restore["sequence"] + 1)
    assert 0 < changed["seconds_left"] <= 120


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"pin_pad": "rack-9", "source": "node1"}, 422, "pin_pad_not_configured"),
        ({"pin_pad": "rack-2", "source": "node1"}, 409, "pin_pad_unavailable"),
        ({"pin_pad": "front-usb", "source": "node9"}, 422, "source_not_a_member"),
        ({"pin_pad": "front-usb", "source": "node3"}, 422, "source_not_a_member"),
        ({"pin_pad": "front-usb", "source": "node2"}, 422, "source_not_ready"),
        ({"pin_pad": "front-usb"}, 400, "invalid_request"),
        ({"pin_pad": "front-usb", "source": "node1", "pin": "1"}, 400, "invalid_request"),
        ({"pin_pad": 1, "source": "node1"}, 400, "invalid_request"),
    ],
)
def test_restore_and_preview_same_rejections(joining: Api, request_: dict[str, str], status: int, code: str) -> None:
    """Restore and preview are rejected for the same reasons."""
    response = joining("POST", "/hsm/restores", request_)
    assert (response.status, response.code) == (status, code)
    if status != 400:
        preview = joining("GET", f"/hsm/restore-preview?pin_pad={request_['pin_pad']}&source={request_['source']}")
        assert (preview.status, preview.code) == (status, code)
    assert joining("GET", "/node").data["running"] is None


def test_restore_fails_if_source_changed_or_lost(control: Control, joining: Api) -> None:
    """A restore fails if the source changes or is unreachable."""

    def ceremony() -> str:
        restore = joining("POST", "/hsm/restores", START).data
        for card in ("KEYOPS-1", "KEYOPS-3"):
            control.present_card("node2", card)
        return str(restore["id"])

    control.fault("hold_restore", node="node2")
    restore_id = ceremony()
    assert joining("DELETE", f"/hsm/restores/{restore_id}").code == "restore_in_progress"
    assert all(card["in_reader_of"] is None for card in control.cards()), "the card holders have their cards back"
    control.generate_key("node1", "meanwhile")
    control.clear_faults()
    assert finish(joining, restore_id)["problem"]["code"] == "source_changed"
    control.fault("hold_restore", node="node2")
    restore_id = ceremony()
    control.fault("driver_stopped", node="node1")
    control.clear_faults("hold_restore")
    assert finish(joining, restore_id)["problem"]["code"] == "source_unreachable"
    assert joining("GET", "/node").data["hsm"]["state"] == "factory_reset"
    control.delete_key("node1", "meanwhile")
