# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures with a headless Chromium. Screenshots are in tests/output/browser."""

from __future__ import annotations

import shutil
import typing as t

import pytest
from playwright.sync_api import Browser, Error, expect, sync_playwright

from tests.support.browser_user import DESKTOP, OUTPUT, BrowserUser

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LIMIT = 15_000


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "these tests need Chromium; as root: apt-get install chromium"
    expect.set_options(timeout=LIMIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def browser_user(chromium: Browser) -> Iterator[t.Callable[..., BrowserUser]]:
    """`browser_user(control)` has the password, `browser_user(control, certificate="operator")` has a client certificate."""
    contexts = []

    def make(control: Control, *, certificate: str | None = None, script: bool = True) -> BrowserUser:
        certificates = []
        if certificate:
            cert, key = control.client(certificate)
            origins = [node["url"] for node in control.status()["nodes"]]
            certificates = [{"origin": origin, "certPath": str(cert), "keyPath": str(key)} for origin in origins]
        context = chromium.new_context(
            viewport=t.cast("t.Any", DESKTOP),
            ignore_https_errors=True,
            java_script_enabled=script,
            client_certificates=t.cast("t.Any", certificates),
            accept_downloads=True,
        )
        context.set_default_timeout(LIMIT)
        contexts.append(context)
        return BrowserUser(control, context.new_page())

    yield make
    for context in contexts:
        context.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Take a screenshot of every open page of a failed test."""
    outcome = yield
    report = t.cast("t.Any", outcome).get_result()
    browser = getattr(item, "funcargs", {}).get("chromium")
    if report.when != "call" or not report.failed or browser is None:
        return
    OUTPUT.mkdir(parents=True, exist_ok=True)
    pages = [page for context in browser.contexts for page in context.pages]
    for number, page in enumerate(pages):
        try:
            page.screenshot(path=OUTPUT / f"failed-{item.name}-{number}.png")
        except Error as problem:
            report.sections.append(("screenshot", str(problem)))
