# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The PIN pad page: errors during a ceremony, and confidentiality of PINs."""

from __future__ import annotations

import http.client
import typing as t
import urllib.parse

import pytest
from playwright.sync_api import expect
from utrust_appliance.testing import Api, cluster

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from utrust_appliance.control import Control

    from tests.support.browser_user import BrowserUser

START = {"pin_pad": "front-usb", "source": "node1"}


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, keys=2) as control:
        control.create_mbk("OTHER", 2, 2)
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    yield running
    for node in ("node2", "node3"):
        api = Api(running, node)
        for restore in api("GET", "/hsm/restores?state=running").data["restores"]:
            api("DELETE", f"/hsm/restores/{restore['id']}")


@pytest.fixture
def holder(control: Control, browser_user: Callable[..., BrowserUser]) -> BrowserUser:
    """A user at the PIN pad of node2, where a guided restore waits for the first card."""
    Api(control, "node2")("POST", "/hsm/restores", START)
    made = browser_user(control)
    made.go_to_pin_pad("node2")
    return made


def problem(control: Control) -> str:
    return str(Api(control, "node2")("GET", "/hsm/restores").data["restores"][0]["problem"]["code"])


def test_pin_pad_rejected_input_shows_notice(control: Control, holder: BrowserUser) -> None:
    """A wrong PIN, a foreign card and a used card show a notice and the prompt again."""
    display = holder.page.get_by_role("status")
    holder.page.get_by_role("button", name="OTHER-1 Insert").click()
    expect(display).to_contain_text("Card OTHER-1 belongs to MBK OTHER, not to KEYOPS")
    holder.present_card("KEYOPS-1", pin="0")
    expect(display).to_contain_text("Wrong PIN for card KEYOPS-1. Attempts left: 2")
    holder.check()
    for digit in control.pin_of("KEYOPS-1"):
        holder.page.get_by_role("button", name=digit, exact=True).click()
    holder.page.get_by_role("button", name="OK").click()
    expect(display).to_contain_text("Insert MBK card 2 of 2")
    holder.page.get_by_role("button", name="KEYOPS-1 Insert").click()
    expect(display).to_contain_text("Card KEYOPS-1 was already used")
    holder.page.get_by_role("button", name="KEYOPS-2 Insert").click()
    holder.page.get_by_role("button", name="KEYOPS-2 Remove").click()
    expect(display).to_contain_text("Card KEYOPS-2 was removed before its PIN was entered")


def test_pin_pad_three_wrong_pins_lock_card(control: Control, holder: BrowserUser) -> None:
    """Three wrong PINs lock a card permanently."""
    page, display = holder.page, holder.page.get_by_role("status")
    page.get_by_role("button", name="KEYOPS-3 Insert").click()
    for text in ("Attempts left: 2", "Attempts left: 1", "Card KEYOPS-3 is now permanently locked"):
        page.get_by_role("button", name="0", exact=True).click()
        # The old page can show the text, too. A digit that is clicked there would be lost.
        with page.expect_navigation():
            page.get_by_role("button", name="OK").click()
        expect(display).to_contain_text(text)
    page.get_by_role("button", name="KEYOPS-3 Locked").click()
    expect(display).to_contain_text("Card KEYOPS-3 is permanently locked")


def test_pin_pad_card_in_other_reader_unavailable(
    control: Control, holder: BrowserUser, browser_user: Callable[..., BrowserUser]
) -> None:
    """A card in one reader is not available at another PIN pad."""
    Api(control, "node3")("POST", "/hsm/restores", START)
    holder.page.get_by_role("button", name="KEYOPS-1 Insert").click()
    other = browser_user(control).go_to_pin_pad("node3")
    expect(other.get_by_role("button", name="KEYOPS-2 Insert")).to_be_visible()
    expect(other.get_by_role("button", name="KEYOPS-1")).to_have_count(0)
    expect(other.get_by_text("KEYOPS-1 is in the reader of node2")).to_be_visible()


def test_pin_pad_cancel_ends_restore(
    control: Control, holder: BrowserUser, browser_user: Callable[..., BrowserUser]
) -> None:
    """Cancel ends the restore, and Webconf shows it."""
    page = browser_user(control, certificate="operator").visit("node2", "/security")
    page.get_by_role("button", name="Open the guide").click()
    expect(page.get_by_role("dialog")).to_contain_text("Insert MBK card 1 of 2")
    holder.page.get_by_role("button", name="Cancel").click()
    expect(holder.page.get_by_role("status")).to_contain_text("Canceled at the PIN pad")
    expect(page.get_by_role("dialog")).to_contain_text("Canceled at the PIN pad")
    assert problem(control) == "canceled_at_pin_pad"
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Synchronize HSM")).to_be_visible()


def test_pin_pad_times_out(browser_user: Callable[..., BrowserUser]) -> None:
    """A PIN pad times out without input."""
    with cluster(nodes=2, keys=1, card_timeout=2) as control:
        Api(control, "node2")("POST", "/hsm/restores", START)
        pad = browser_user(control).go_to_pin_pad("node2")
        expect(pad.get_by_role("status")).to_contain_text("A card or PIN was not entered in time")
        assert problem(control) == "card_timeout"


def test_pin_pad_pin_hidden_and_not_logged(control: Control, holder: BrowserUser) -> None:
    """A PIN is hidden and is not in any log or URL."""
    pin, seen = control.pin_of("KEYOPS-2"), []
    holder.page.on("request", lambda request: seen.append(request.url))
    holder.present_card("KEYOPS-2")
    expect(holder.page.get_by_role("status")).to_contain_text("Insert MBK card 2 of 2")
    assert seen
    assert not [url for url in seen if pin in url.rpartition(":")[2].partition("/")[2].partition("/")[2]]
    assert pin not in holder.page.content()
    kept = [control.folder / "log", *control.folder.glob("nodes/*/requests.jsonl")]
    assert not [path for path in kept if pin in path.read_text(encoding="utf-8")]


def test_pin_pads_on_loopback_with_secret_url(control: Control) -> None:
    """PIN pads listen on 127.0.0.1 only and require the secret URL."""
    place = urllib.parse.urlsplit(control.status()["pin_pads_url"])
    assert place.hostname == "127.0.0.1"

    def ask(method: str, path: str, **headers: str) -> int:
        connection = http.client.HTTPConnection(str(place.hostname), t.cast("int", place.port), timeout=10)
        try:
            connection.request(method, path, "", {"content-type": "application/x-www-form-urlencoded", **headers})
            return connection.getresponse().status
        finally:
            connection.close()

    assert ask("GET", f"{place.path}/node2/") == 200
    for path in (
        "/",
        "/node2/",
        "/x/node2/",
        f"{place.path}x/node2/",
        f"{place.path}/node9/",
        "/static/..%2fpin_pads.py",
    ):
        assert ask("GET", path) == 404, path
    assert ask("POST", "/x/node2/pin") == 404
    assert ask("POST", f"{place.path}/node2/cancel", origin="https://evil.example") == 403
    assert ask("GET", f"{place.path}/node2/pin") == 405
