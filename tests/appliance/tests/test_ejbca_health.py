# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health check of the simulated EJBCA with its parameters and traps."""

from __future__ import annotations

import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from utrust_appliance.testing import cluster

from tests.support.admin_web_client import Browser
from tests.support.ejbca_client import DISCONNECTED, FIRST, TOKEN

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

NODE = "node1"
BASE = {"ca": "none", "ocsp": "false", "publishers": "false"}


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=4, ejbca=True) as running:
        running.generate_key(NODE, "a+b &c")
        running.generate_key(NODE, "exchange", "x25519")
        running.ejbca(NODE, "deactivate")
        yield running


@pytest.fixture(autouse=True)
def defaults(control: Control) -> Iterator[None]:
    yield
    control.ejbca(NODE, "flags", reset=True)


def health(control: Control, node: str = NODE, **parameters: str) -> tuple[int, str]:
    page = Browser(control, node, None).health("?" + urlencode({**BASE, **parameters}))
    return page.status, page.text.strip()


def test_health_tests_key_of_this_node(control: Control) -> None:
    """A pair of token and key tests the key on this node, without a login."""
    assert health(control) == (200, "ALLOK")
    assert health(control, token1=TOKEN, key1=FIRST) == (200, "ALLOK")
    assert health(control, token1=TOKEN, key1="a+b &c") == (200, "ALLOK")
    failed = (500, f"TOKEN: Test key failed for token={TOKEN} key=nothing")
    assert health(control, token1=TOKEN, key1="nothing") == failed
    assert health(control, "node2", token1=TOKEN, key1="a+b &c")[0] == 500
    assert health(control, tokenX=TOKEN, keyX="exchange")[0] == 500  # the key cannot sign


def test_health_tests_last_key_of_token_only(control: Control) -> None:
    """Pairs are in a map by token, so only the last key of a token is tested."""
    assert health(control, token1=TOKEN, key1="nothing", token2=TOKEN, key2=FIRST) == (200, "ALLOK")
    assert health(control, token1=TOKEN, key1=FIRST, token2=TOKEN, key2="nothing")[0] == 500
    assert health(control, token1=TOKEN, key2=FIRST) == (200, "ALLOK")  # not a pair


def test_health_unknown_token_is_error(control: Control) -> None:
    """An unknown token is an error in every release."""
    assert health(control, token1="Nobody", key1=FIRST) == (500, "java.lang.NullPointerException")
    control.ejbca(NODE, "flags", version="9.3.7")
    assert health(control, token1="Nobody", key1=FIRST) == (500, "TOKEN: Nobody unknown")


def test_health_before_8_2_ignores_parameters(control: Control) -> None:
    """Before 8.2, the health check ignores all parameters, so it succeeds for a key that does not exist."""
    control.ejbca(NODE, "flags", version="8.1.0")
    assert health(control, token1=TOKEN, key1="nothing") == (200, "ALLOK")


def test_health_selects_cas(control: Control) -> None:
    """The parameter `ca` selects CAs, and `none` selects no CA."""
    renewed = control.ejbca("node2", "renew")["alias"]
    try:
        assert Browser(control, NODE, None).health().text.strip() == DISCONNECTED
        assert health(control, ca="IssuingCA") == (500, DISCONNECTED)
        assert health(control, ca="Other") == (200, "ALLOK")
        assert health(control) == (200, "ALLOK")
        control.ejbca(NODE, "flags", version="7.4.3")
        assert health(control) == (500, DISCONNECTED)
        assert renewed not in control.ejbca(NODE, "status")["crypto_tokens"][0]["keys"]
    finally:
        control.ejbca(NODE, "renew", alias=FIRST)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"maintenance": "Node is out of traffic"}, (500, "MAINT: Node is out of traffic")),
        ({"health_error": "EJBCA is ill"}, (500, "EJBCA is ill")),
        ({"health_send_error": False}, (200, f"TOKEN: Test key failed for token={TOKEN} key=nothing")),
    ],
)
def test_health_error_forms(control: Control, flags: dict[str, t.Any], expected: tuple[int, str]) -> None:
    """Settings of the server change the text and the status of an error."""
    control.ejbca(NODE, "flags", **flags)
    assert health(control, token1=TOKEN, key1="nothing") == expected


def test_health_custom_success_and_html_error(control: Control) -> None:
    """A server can have another text of success, and the error page of its container."""
    control.ejbca(NODE, "flags", health_ok="OK & up", health_html=True)
    assert health(control, token1=TOKEN, key1=FIRST) == (200, "OK & up")
    page = Browser(control, NODE, None).health("?" + urlencode({**BASE, "token1": TOKEN, "key1": "<i>"}))
    assert page.headers["Content-Type"].startswith("text/html")
    assert f"TOKEN: Test key failed for token={TOKEN} key=" in page.text


def test_health_allows_listed_addresses_only(control: Control) -> None:
    """Other addresses than those in the list get the status 401."""
    control.ejbca(NODE, "flags", health_ips=["192.0.2.1"])
    assert health(control)[0] == 401
    control.ejbca(NODE, "flags", health_ips=["192.0.2.1", "127.0.0.1"])
    assert health(control) == (200, "ALLOK")


def both(control: Control) -> tuple[int, int]:
    """Statuses of a check that succeeds and of one that fails, at the same time. The first one starts earlier."""
    control.ejbca(NODE, "flags", health_delay=2.0)
    control.clear_log(NODE)
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(health, control, token1=TOKEN, key1=FIRST)
        while not control.connections(NODE):
            time.sleep(0.01)
        bad = pool.submit(health, control, token1=TOKEN, key1="nothing")
        return good.result()[0], bad.result()[0]


@pytest.mark.parametrize(("version", "shared"), [("8.2.0.1", True), ("9.3.7", False), ("8.1.0", True)])
def test_health_concurrent_requests(control: Control, version: str, shared: bool) -> None:
    """In 8.2, concurrent requests share one response whatever their parameters. Later releases compare the parameters."""
    control.ejbca(NODE, "flags", version=version)
    assert (len(set(both(control))) == 1) == shared
