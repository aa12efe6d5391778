# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sessions, TLS client authentication, virtual addresses and the front end of the simulated EJBCA."""

from __future__ import annotations

import http.client
import json
import typing as t

import pytest
from utrust_appliance.ejbca.ejbca_node import TOKEN_ID
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import cluster

from tests.support.admin_web_client import LIST, Browser
from tests.support.ejbca_client import FIRST, EjbcaClient

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=3, joined=2, restored=2, keys=2, ejbca=True) as running:
        yield running


@pytest.fixture(autouse=True)
def defaults(control: Control) -> Iterator[None]:
    for node in ("node1", "node2"):
        control.ejbca(node, "counters", clear=True)
    yield
    for node in ("node1", "node2"):
        control.ejbca(node, "flags", reset=True)


def counted(control: Control, name: str, node: str = "node1") -> int:
    return int(control.ejbca(node, "counters").get(name, 0))


def test_session_cookie_attributes(control: Control) -> None:
    """The first page sets the cookie of the session, for the Admin Web only."""
    browser = Browser(control, "node1")
    attributes = browser("").headers["Set-Cookie"].split("; ")
    assert attributes[0].startswith("JSESSIONID=")
    assert {one.lower() for one in attributes[1:]} == {"path=/ejbca/adminweb", "secure", "httponly"}
    assert browser(LIST).headers["Set-Cookie"] is None


def test_one_session_is_one_login(control: Control) -> None:
    """Pages of one session and connection are one login. Other sessions, connections and nodes are others."""
    browser = Browser(control, "node1")
    for path in ("", LIST, LIST):
        browser(path)
    browser.token(TOKEN_ID)
    assert (counted(control, "logins"), counted(control, "page_views")) == (1, 4)
    browser.connect()
    browser(LIST)
    assert counted(control, "logins") == 2
    Browser(control, "node1")(LIST)
    assert counted(control, "logins") == 3
    assert counted(control, "logins", "node2") == 0
    assert counted(control, "method_GET") == 6
    assert counted(control, "method_POST") == 0


def test_session_ends_after_15_minutes(control: Control) -> None:
    """A session without requests ends after 15 minutes, and the next request is a new login with a new cookie."""
    browser = Browser(control, "node1")
    browser(LIST)
    old = browser.cookie
    control.ejbca("node1", "advance", seconds=890)
    browser(LIST)
    control.ejbca("node1", "advance", seconds=890)
    browser(LIST)
    assert (browser.cookie, counted(control, "logins")) == (old, 1)
    control.ejbca("node1", "advance", seconds=901)
    browser(LIST)
    assert browser.cookie != old
    control.ejbca("node1", "end_sessions")
    browser(LIST)
    assert counted(control, "logins") == 3


def test_post_in_ended_session_times_out(control: Control) -> None:
    """A POST in a session that has ended does nothing."""
    browser = Browser(control, "node1", "operator")
    page = browser(LIST)
    button = next(one for one in page.root.iter("input") if one.get("value") == "Reactivate")
    control.ejbca("node1", "end_sessions")
    assert browser.press(page, "cryptotokens", button).title == "Session has timed out."
    assert counted(control, "deactivations") == 0


def test_refused_logins_are_counted(control: Control) -> None:
    """Clients without a certificate or without a role are no logins."""
    Browser(control, "node1", None)(LIST)
    Browser(control, "node1", "guest")(LIST)
    assert (counted(control, "logins_refused"), counted(control, "logins")) == (2, 0)


def test_certificate_after_handshake(control: Control) -> None:
    """A server that asks for the certificate after the request works with clients that support it."""
    control.ejbca("node1", "flags", client_auth="late")
    browser = Browser(control, "node1")
    assert FIRST in browser.token(TOKEN_ID).key_ids
    assert browser(LIST).cells("cryptotokens")
    assert browser.download(TOKEN_ID, FIRST).status == 200
    assert Browser(control, "node1", None)(LIST).cause == "No client certificate was presented"
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        Browser(control, "node1", late=False)(LIST)


def test_certificate_never_asked(control: Control) -> None:
    """A front end that does not ask for a certificate leads to the login page."""
    control.ejbca("node1", "flags", client_auth="never")
    assert Browser(control, "node1")(LIST).cause == "No client certificate was presented"


def test_virtual_address_shows_other_node(control: Control) -> None:
    """A virtual address shows the pages, the REST API and the health check of another node."""
    control.ejbca("node1", "flags", token_ids={"SigningToken": 42})
    control.ejbca("node2", "flags", vip="node1")
    browser = Browser(control, "node2")
    assert "Node hostname : node1" in browser("").text
    assert FIRST in browser.token(42).key_ids
    assert browser.health().text == "ALLOK"
    assert EjbcaClient(control, "node2")("GET", "/simulator/ejbca").data["node"] == "node1"
    assert (counted(control, "logins"), counted(control, "logins", "node2")) == (1, 0)


def test_front_end_errors(control: Control) -> None:
    """The front end can respond with its own HTML, for some paths only."""
    control.ejbca("node1", "flags", response="bad_gateway", response_path="cryptotoken/")
    browser = Browser(control, "node1")
    assert browser("").status == 200
    page = browser(LIST)
    assert (page.status, page.title) == (502, "502 Bad Gateway")
    control.ejbca("node1", "flags", response="unavailable")
    assert browser(LIST).status == 503
    control.ejbca("node1", "flags", response="redirect")
    page = browser(LIST)
    assert (page.status, page.headers["Location"]) == (302, f"https://elsewhere.example/ejbca/adminweb/{LIST}")


@pytest.mark.parametrize("path", [LIST, f"cryptotoken/cryptoTokenDownloads?cryptoTokenId={TOKEN_ID}&alias={FIRST}"])
def test_front_end_cuts_body(control: Control, path: str) -> None:
    """The front end can close the connection in the middle of a body."""
    control.ejbca("node1", "flags", response="truncated")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        Browser(control, "node1")(path)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"nothing": 1}, "does not exist"),
        ({"generation": "G9"}, "must be one of G8, G95"),
        ({"version": "newest"}, "numbers with dots"),
        ({"vip": "node3"}, "does not have EJBCA"),
        ({"roles": {"guest": "king"}}, "role king does not exist"),
    ],
)
def test_wrong_flags_are_rejected(control: Control, flags: dict[str, t.Any], reason: str) -> None:
    """A wrong flag is rejected and changes nothing."""
    before = control.ejbca("node1", "flags")
    with pytest.raises(OperationError, match=reason):
        control.ejbca("node1", "flags", **flags)
    assert control.ejbca("node1", "flags") == before


def test_accounts_are_no_clients_of_node(control: Control) -> None:
    """The accounts of EJBCA cannot use the API of the node."""
    node = control.node("node1")
    for name in ("ejbca-reader", "ejbca-operator"):
        browser = Browser(control, "node1", name)
        connection = http.client.HTTPSConnection(node["address"], node["port"], timeout=30, context=browser.tls)
        try:
            connection.request("GET", "/api/v1/node")
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["code"]) == (403, "forbidden")
        finally:
            connection.close()
