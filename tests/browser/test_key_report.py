# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page of the role key_report in a browser."""

from __future__ import annotations

import typing as t

import pytest
from playwright.sync_api import expect

from tests.support.browser_user import AXE, DESKTOP, OUTPUT, PHONE
from tests.support.report import HOSTILE, report_data, write_page

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page


class Reader:
    """A reader of the page, with its requests and its errors."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(address)

    def labels(self) -> list[str]:
        return self.page.locator("#matrix tbody tr:visible th bdi").all_text_contents()


@pytest.fixture
def read(chromium: Browser, tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    contexts = []

    def make(report: dict[str, t.Any], *, script: bool = True) -> Reader:
        context = chromium.new_context(viewport=t.cast("t.Any", DESKTOP), java_script_enabled=script)
        contexts.append(context)
        return Reader(context.new_page(), write_page(tmp_path, report))

    yield make
    for context in contexts:
        context.close()


def test_page_sends_no_request_and_runs_no_label(read: Callable[..., Reader]) -> None:
    """The page sends no request, and no label runs as code."""
    reader = read(report_data(HOSTILE))
    reader.page.wait_for_load_state("networkidle")
    assert [url for url in reader.requests if not url.startswith("data:")] == [reader.page.url]
    assert reader.errors == []
    picture = "const image = new Image(); image.onload = () => done(false); image.onerror = () => done(true)"
    blocked = f"() => new Promise(done => {{ {picture}; image.src = 'https://127.0.0.1:9/x' }})"
    assert reader.page.evaluate(blocked), "the policy of the page allows pictures from other hosts"
    assert any("Content Security Policy" in text for text in reader.errors)


def test_page_filters_keys_by_words_and_state(read: Callable[..., Reader]) -> None:
    """The reader filters keys by words and by state."""
    reader = read(report_data(HOSTILE))
    all_labels = reader.labels()
    count = reader.page.get_by_role("status")
    expect(count).to_have_text(f"{len(all_labels)} of {len(all_labels)} keys")

    reader.page.get_by_label("Find").fill("SIGN p-256 2026 slot")
    assert reader.labels() == ["signKey-2026", "signKey-2026"]
    expect(count).to_have_text(f"2 of {len(all_labels)} keys")
    reader.page.get_by_label("Find").fill("no such key")
    assert reader.labels() == []
    reader.page.get_by_label("Find").fill("")

    reader.page.get_by_label("Show").select_option(label="missing on a node")
    assert reader.labels() == ["ocspKey-2026"]
    reader.page.get_by_label("Show").select_option(label="unusable on a node")
    assert reader.labels() == ["ocspKey-2026"]
    reader.page.get_by_label("Show").select_option(label="all keys")
    assert reader.labels() == all_labels


def test_page_without_script_shows_every_key(read: Callable[..., Reader]) -> None:
    """Without JavaScript the page shows each key and hides the filter."""
    with_script = read(report_data()).labels()
    reader = read(report_data(), script=False)
    assert reader.labels() == with_script
    expect(reader.page.get_by_label("Find")).to_be_hidden()


@pytest.mark.parametrize("labels", [(), HOSTILE], ids=["usual", "hostile"])
def test_page_is_accessible_on_desktop_and_phone(read: Callable[..., Reader], labels: tuple[str, ...]) -> None:
    """The page has no accessibility violation and no horizontal scrolling."""
    reader = read(report_data(labels))
    for name, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
        reader.page.set_viewport_size(t.cast("t.Any", viewport))
        found = reader.page.evaluate(AXE + "; axe.run().then(found => found.violations)")
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == [], name
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert reader.page.evaluate(wide) <= 0, name
        OUTPUT.mkdir(parents=True, exist_ok=True)
        reader.page.screenshot(path=OUTPUT / f"key_report-{name}.png", full_page=True)


def test_page_print_shows_tables_without_controls(read: Callable[..., Reader]) -> None:
    """The printed page shows complete tables and hides the controls."""
    reader = read(report_data())
    reader.page.emulate_media(media="print")
    # A4 landscape without margins, at 96 dpi.
    reader.page.set_viewport_size({"width": 1032, "height": 703})
    too_wide = "[...document.querySelectorAll('table')].filter(table => table.getBoundingClientRect().right > innerWidth + 1).length"
    assert reader.page.evaluate(too_wide) == 0
    expect(reader.page.get_by_label("Find")).to_be_hidden()
    assert reader.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
