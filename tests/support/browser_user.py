# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A user of Webconf and PIN pads in a browser."""

from __future__ import annotations

import json
import typing as t
from importlib import resources
from pathlib import Path

from playwright.sync_api import expect

if t.TYPE_CHECKING:
    from playwright.sync_api import Page
    from utrust_appliance.control import Control

OUTPUT = Path(__file__).resolve().parents[1] / "output" / "browser"
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
DESKTOP = {"width": 1100, "height": 800}
PHONE = {"width": 360, "height": 740}


class BrowserUser:
    """A user with a separate browser window."""

    def __init__(self, control: Control, page: Page) -> None:
        self.control = control
        self.page = page
        self.messages: list[str] = []
        page.on("console", lambda message: self.messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.messages.append(str(error)))

    def visit(self, node: str, path: str = "/") -> Page:
        self.page.goto(self.control.node(node)["url"] + path)
        return self.page

    def log_in(self, node: str, password: str | None = None) -> Page:
        """Log in by user and password."""
        login = json.loads((self.control.folder / "clients" / "webconf-login.json").read_text(encoding="utf-8"))
        page = self.visit(node)
        page.get_by_label("User").fill(login["user"])
        page.get_by_label("Password").fill(password or login["password"])
        page.get_by_role("button", name="Log in", exact=True).click()
        return page

    def go_to_pin_pad(self, node: str) -> Page:
        self.page.goto(f"{self.control.status()['pin_pads_url']}/{node}/")
        return self.page

    def present_card(self, card: str, pin: str | None = None) -> None:
        """Click the card, the digits and OK."""
        self.page.get_by_role("button", name=f"{card} Insert").click()
        expect(self.page.get_by_role("button", name=f"{card} Remove")).to_be_visible()
        for digit in pin or self.control.pin_of(card):
            self.page.get_by_role("button", name=digit, exact=True).click()
        self.page.get_by_role("button", name="OK").click()

    def picture(self, name: str) -> Path:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        path = OUTPUT / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def check(self) -> None:
        """Check that the page is accessible, fits a phone and has no browser messages."""
        size = self.page.viewport_size
        for viewport in (DESKTOP, PHONE):
            self.page.set_viewport_size(t.cast("t.Any", viewport))
            found = self.page.evaluate(AXE + "; axe.run().then(found => found.violations)")
            problems = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
            assert not problems, f"{self.page.url} at {viewport}: {problems}"
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert self.page.evaluate(wide) <= 0, f"{self.page.url} scrolls horizontally at {viewport}"
        self.page.set_viewport_size(t.cast("t.Any", size))
        assert not self.messages, self.messages
