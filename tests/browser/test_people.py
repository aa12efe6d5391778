# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Use of Webconf: logins, keyboard only, without scripts, on a phone, and session timeouts."""

from __future__ import annotations

import typing as t

import pytest
from playwright.sync_api import expect
from utrust_appliance.testing import Api, cluster

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from utrust_appliance.control import Control

    from tests.support.browser_user import BrowserUser

MENU = ("Overview", "Access", "Security", "Cluster", "Backup/Restore", "Services")


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """node1 has the keys, node2 and node3 are in Factory Reset Mode, and node4 has not joined."""
    with cluster(nodes=4, joined=3, keys=2) as running:
        yield running


def test_login_certificate_on_every_node(control: Control, browser_user: Callable[..., BrowserUser]) -> None:
    """A registered certificate is logged in immediately on every node."""
    page = browser_user(control, certificate="operator").visit("node1")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    menu = page.get_by_role("navigation", name="Cluster menu bar")
    expect(menu).to_contain_text("node4 (not joined)")
    menu.get_by_role("link", name="node3").click()
    expect(page).to_have_url(control.node("node3")["url"] + "/")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in to node3")).to_be_visible()
    page.get_by_role("button", name="Log in with this certificate").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_login_password_valid_on_other_nodes(control: Control, browser_user: Callable[..., BrowserUser]) -> None:
    """After a login by password, the menu bar logs in to other nodes."""
    operator = browser_user(control)
    page = operator.log_in("node1", password="wrong")
    expect(page.get_by_role("alert")).to_contain_text("user or password is wrong")
    operator.log_in("node1")
    page.get_by_role("navigation", name="Cluster menu bar").get_by_role("link", name="node2").click()
    expect(page).to_have_url(control.node("node2")["url"] + "/")
    page.reload()
    expect(page.get_by_text("Factory Reset Mode")).to_be_visible()


def test_pages_accessible_and_identify_simulator(control: Control, browser_user: Callable[..., BrowserUser]) -> None:
    """Every page is accessible, fits a phone and identifies the simulator."""
    operator = browser_user(control)
    operator.visit("node1", "/login")
    expect(operator.page.get_by_role("complementary", name="Appliance simulator")).to_be_visible()
    operator.check()
    page = operator.log_in("node1")
    for name in MENU:
        page.get_by_role("link", name=name, exact=True).first.click()
        expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
        expect(page.get_by_role("complementary", name="Appliance simulator")).to_be_visible()
        operator.check()
    operator.visit("node1", "/cluster")
    expect(page.get_by_role("row", name="node3")).to_contain_text("Connected")
    expect(page.get_by_role("row", name="node4")).to_contain_text("Disconnected")
    for place in ("/", "/node2/"):
        page.goto(control.status()["pin_pads_url"] + place)
        expect(page.get_by_role("complementary", name="Appliance simulator")).to_be_visible()
        operator.check()


def test_session_timeout_shows_warning(browser_user: Callable[..., BrowserUser]) -> None:
    """An idle session shows a warning before it ends."""
    with cluster(nodes=1, keys=1, session_timeout=12) as control:
        operator = browser_user(control)
        page = operator.log_in("node1")
        warning = page.get_by_role("alert").filter(has_text="You will be logged out")
        expect(warning).to_be_visible()
        warning.get_by_role("link", name="Stay logged in").click()
        expect(warning).to_be_hidden()
        expect(page.get_by_text("Your session has ended")).to_be_visible(timeout=60_000)
        page.go_back()
        expect(page.get_by_role("heading", name="Log in to node1")).to_be_visible()


def test_restore_with_keyboard_only(control: Control, browser_user: Callable[..., BrowserUser]) -> None:
    """A restore works with the keyboard only."""

    def reach(page: t.Any, name: str) -> None:
        """Press Tab until the element has the focus."""
        for dummy in range(40):
            focused = page.evaluate("(document.activeElement.textContent || document.activeElement.id).trim()")
            if focused == name:
                return
            page.keyboard.press("Tab")
        pytest.fail(f"{name} cannot be reached with the Tab key; the focus is on {focused}")

    operator, holder = browser_user(control, certificate="operator"), browser_user(control)
    page = operator.visit("node2")
    reach(page, "Security")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Security")).to_be_visible()
    reach(page, "Synchronize HSM")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Choose PIN pad")).to_be_focused()
    page.wait_for_load_state()  # the script of the page is loaded
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    reach(page, "Synchronize HSM")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Choose PIN pad")).to_be_focused()
    reach(page, "Preview Restore")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Start Restore")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Guided Restore")).to_be_visible()

    pad = holder.go_to_pin_pad("node2")
    for number, card in enumerate(("KEYOPS-1", "KEYOPS-2"), start=1):
        expect(pad.get_by_role("status")).to_contain_text(f"Insert MBK card {number} of 2")
        expect(pad.get_by_role("button", name=f"{card} Insert")).to_be_enabled()
        reach(pad, f"{card}Insert")
        pad.keyboard.press("Enter")
        expect(pad.get_by_label("PIN", exact=True)).to_be_focused()
        pad.keyboard.type("9" + control.pin_of(card))
        for dummy in range(len(control.pin_of(card)) + 1):
            pad.keyboard.press("Backspace")
        pad.keyboard.type(control.pin_of(card))
        pad.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("node2 holds the MBK and 2 keys")
    reach(page, "Finish")
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="HSM Configuration").get_by_text("Operational")).to_be_visible()
    control.factory_reset("node2")


def test_restore_without_scripts(control: Control, browser_user: Callable[..., BrowserUser]) -> None:
    """Everything works without scripts."""
    operator, holder = browser_user(control, script=False), browser_user(control, script=False)
    page = operator.log_in("node2")
    page.get_by_role("link", name="Security").click()
    for button in ("Synchronize HSM", "Preview Restore", "Start Restore"):
        page.get_by_role("button", name=button).click()
    assert page.locator("noscript").inner_html().strip() == '<meta http-equiv="refresh" content="3; url=?auto">'
    pad = holder.go_to_pin_pad("node2")
    for card in ("KEYOPS-3", "KEYOPS-1"):
        pad.get_by_role("button", name=f"{card} Insert").click()
        pad.get_by_label("PIN", exact=True).fill(control.pin_of(card))
        pad.get_by_role("button", name="OK").click()
    expect(page.get_by_role("dialog")).to_contain_text(
        "node2 holds the MBK and 2 keys"
    )  # the page reloads automatically
    page.get_by_role("button", name="Finish").click()
    package = Api(control, "node1").package()
    page.locator("#package").set_input_files({"name": "a.ksp", "mimeType": "", "buffer": package})
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("dialog", name="Restore Keys from Key Synchronization Package")).to_be_visible()
    control.factory_reset("node2")
