# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The PIN pad page: what goes wrong at a ceremony goes wrong here in the same way, and no PIN leaves the pad."""

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
def holder(control: Control, person: Callable[..., BrowserUser]) -> BrowserUser:
    """A card holder at the PIN pad of node2, where a guided restore waits for the first card."""
    Api(control, "node2")("POST", "/hsm/restores", START)
    made = person(control)
    made.go_to_pin_pad("node2")
    return made


def problem(control: Control) -> str:
    return str(Api(control, "node2")("GET", "/hsm/restores").data["restores"][0]["problem"]["code"])


def test_wrong_pin_foreign_card_and_the_same_card_twice_are_told_and_asked_for_again(
    control: Control, holder: BrowserUser
) -> None:
    display = holder.page.get_by_role("status")
    holder.page.get_by_role("button", name="OTHER-1 Insert").click()
    expect(display).to_contain_text("Card OTHER-1 is of MBK OTHER, not of KEYOPS")
    holder.present_card("KEYOPS-1", pin="0")
    expect(display).to_contain_text("Wrong PIN for card KEYOPS-1; it locks for good after 2 more")
    holder.check()
    for digit in control.pin_of("KEYOPS-1"):
        holder.page.get_by_role("button", name=digit, exact=True).click()
    holder.page.get_by_role("button", name="OK").click()
    expect(display).to_contain_text("Insert MBK card 2 of 2")
    holder.page.get_by_role("button", name="KEYOPS-1 Insert").click()
    expect(display).to_contain_text("Card KEYOPS-1 has been used already")
    holder.page.get_by_role("button", name="KEYOPS-2 Insert").click()
    holder.page.get_by_role("button", name="KEYOPS-2 Remove").click()
    expect(display).to_contain_text("Card KEYOPS-2 was removed before its PIN was entered")


def test_three_wrong_pins_lock_a_card_for_good(control: Control, holder: BrowserUser) -> None:
    page, display = holder.page, holder.page.get_by_role("status")
    page.get_by_role("button", name="KEYOPS-3 Insert").click()
    for text in ("after 2 more", "after 1 more", "card KEYOPS-3 is locked for good now"):
        page.get_by_role("button", name="0", exact=True).click()
        page.get_by_role("button", name="OK").click()
        expect(display).to_contain_text(text)
    page.get_by_role("button", name="KEYOPS-3 Locked").click()
    expect(display).to_contain_text("Card KEYOPS-3 is locked for good")


def test_card_that_is_in_one_reader_is_not_on_the_table_of_another(
    control: Control, holder: BrowserUser, person: Callable[..., BrowserUser]
) -> None:
    Api(control, "node3")("POST", "/hsm/restores", START)
    holder.page.get_by_role("button", name="KEYOPS-1 Insert").click()
    other = person(control).go_to_pin_pad("node3")
    expect(other.get_by_role("button", name="KEYOPS-2 Insert")).to_be_visible()
    expect(other.get_by_role("button", name="KEYOPS-1")).to_have_count(0)
    expect(other.get_by_text("KEYOPS-1 is in the reader of node2")).to_be_visible()


def test_cancel_at_the_pin_pad_ends_the_restore_and_webconf_shows_it(
    control: Control, holder: BrowserUser, person: Callable[..., BrowserUser]
) -> None:
    page = person(control, certificate="operator").visit("node2", "/security")
    page.get_by_role("button", name="Open the guide").click()
    expect(page.get_by_role("dialog")).to_contain_text("Insert MBK card 1 of 2")
    holder.page.get_by_role("button", name="Cancel").click()
    expect(holder.page.get_by_role("status")).to_contain_text("Canceled at the PIN pad")
    expect(page.get_by_role("dialog")).to_contain_text("Canceled at the PIN pad")
    assert problem(control) == "canceled_at_pin_pad"
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Synchronize HSM")).to_be_visible()


def test_pin_pad_that_waits_too_long_gives_up(person: Callable[..., BrowserUser]) -> None:
    with cluster(nodes=2, keys=1, card_timeout=2) as control:
        Api(control, "node2")("POST", "/hsm/restores", START)
        pad = person(control).go_to_pin_pad("node2")
        expect(pad.get_by_role("status")).to_contain_text("No card within the time limit")
        assert problem(control) == "card_timeout"


def test_pin_is_shown_as_dots_and_is_in_no_log_and_no_address(control: Control, holder: BrowserUser) -> None:
    pin, seen = control.pin_of("KEYOPS-2"), []
    holder.page.on("request", lambda request: seen.append(request.url))
    holder.present_card("KEYOPS-2")
    expect(holder.page.get_by_role("status")).to_contain_text("Insert MBK card 2 of 2")
    assert seen
    assert not [url for url in seen if pin in url.rpartition(":")[2].partition("/")[2].partition("/")[2]]
    assert pin not in holder.page.content()
    kept = [control.folder / "log", *control.folder.glob("nodes/*/requests.jsonl")]
    assert not [path for path in kept if pin in path.read_text(encoding="utf-8")]


def test_pin_pads_are_on_loopback_only_and_answer_nobody_who_does_not_know_their_address(control: Control) -> None:
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
    for path in ("/", "/node2/", "/x/node2/", f"{place.path}x/node2/", f"{place.path}/node9/", "/static/..%2froom.py"):
        assert ask("GET", path) == 404, path
    assert ask("POST", "/x/node2/pin") == 404
    assert ask("POST", f"{place.path}/node2/cancel", origin="https://evil.example") == 403
    assert ask("GET", f"{place.path}/node2/pin") == 405
