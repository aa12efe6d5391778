# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Security of Webconf against unauthorized users and invalid requests, tested without a browser."""

from __future__ import annotations

import json
import re
import typing as t

import pytest
from utrust_appliance.testing import Api, cluster
from utrust_appliance.webconf.logins import FREE_TRIES, Sessions, Throttle, Tickets

from tests.support.wait import wait_for
from tests.support.webconf_client import WebconfClient

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

PAGES = ("/", "/access", "/security", "/cluster", "/backup", "/services", "/security/synchronize", "/nowhere", "/login")
LIMIT = 200_000
EVIL = "<script>alert('1')</script>\"&"


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """node1 and node2 hold keys, node3 is in Factory Reset Mode, and node4 has not joined."""
    with cluster(nodes=4, joined=3, restored=2, keys=3, max_upload=LIMIT) as running:
        yield running


@pytest.fixture
def visitor(control: Control) -> WebconfClient:
    """A client with a session on node2."""
    pages = WebconfClient(control, "node2")
    assert pages.log_in().status == 303
    return pages


def unharmed(control: Control) -> tuple[t.Any, ...]:
    """State that a rejected request must not change."""
    api = Api(control, "node2")
    left = [path.name for path in (control.folder / "nodes" / "node2" / "imports").iterdir()]
    running = control.node("node3")["running"]
    return control.node("node2")["keys_digest"], len(api("GET", "/hsm/imports").data["imports"]), left, running


def test_pages_have_security_headers(
    visitor: WebconfClient,
) -> None:
    """Every page forbids foreign content, frames, caches and inline scripts."""
    for path in PAGES:
        response = visitor.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "frame-ancestors 'none'" in policy, path
        assert "form-action 'self'" in policy, path
        assert "unsafe" not in policy, path
        assert response.headers["Cache-Control"] == "no-store", path
        assert response.headers["X-Frame-Options"] == "DENY", path
        assert response.headers["X-Content-Type-Options"] == "nosniff", path
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"/static/)", response.text), path
        assert "Appliance simulator." in response.text or response.status == 303, path


def test_cookies_have_security_attributes(control: Control) -> None:
    """Cookies are not available to scripts, other sites and plain HTTP."""
    pages = WebconfClient(control, "node1")
    response = pages.log_in()
    (cookie,) = response.headers.get_all("Set-Cookie") or []
    for flag in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
        assert flag in cookie
    assert cookie.startswith("__Host-webconf-node1=")
    assert "Domain" not in cookie


def test_pages_require_login_separate_from_api(control: Control, visitor: WebconfClient) -> None:
    """Pages require a login, and the API does not accept this login."""
    stranger = WebconfClient(control, "node2")
    for path in ("/", "/security", "/security/import", f"/security/import/{'0' * 32}"):
        response = stranger.get(path)
        assert (response.status, response.headers["Location"].split("?")[0]) == (303, "/login"), path
    assert stranger.get("/", authorization=f"Bearer {control.token}").status == 303
    assert stranger.post("/security/package", {"csrf": "x"}).status == 401
    assert visitor.get("/api/v1/node").status == 401


def test_login_guest_certificate_rejected(control: Control) -> None:
    """A registered certificate is accepted, and the certificate of a guest is rejected."""
    assert WebconfClient(control, "node1", client="operator").get("/").status == 200
    guest = WebconfClient(control, "node1", client="guest")
    assert guest.get("/").status == 303
    page = guest.get("/login")
    assert "not registered on this node" in page.text
    assert guest.post("/login/certificate", {"csrf": page.field("csrf")}).status == 401


def test_lockout_does_not_reveal_users(control: Control) -> None:
    """Wrong passwords cause a lockout that does not reveal existing users."""
    pages = WebconfClient(control, "node3")
    known, unknown = pages.log_in(password="wrong"), pages.log_in(user="nobody", password="wrong")
    assert (known.status, known.code) == (unknown.status, unknown.code) == (401, "unauthenticated")
    assert re.findall(r"<strong>.*", known.text) == re.findall(r"<strong>.*", unknown.text)
    for dummy in range(FREE_TRIES - 1):
        pages.log_in(password="wrong")
    locked = pages.log_in()
    assert (locked.status, locked.code) == (429, "too_many_requests")
    assert 0 < int(locked.headers["Retry-After"]) <= 30
    assert WebconfClient(control, "node2").log_in().status == 303  # other nodes accept the correct password


def test_password_stored_as_hash(control: Control) -> None:
    """The nodes store only the hash of a password."""
    login = json.loads((control.folder / "clients" / "webconf-login.json").read_text(encoding="utf-8"))
    kept = (control.folder / "private" / "webconf-users.json").read_text(encoding="utf-8")
    assert login["password"] not in kept
    assert "rehearsals" in login["note"]


@pytest.mark.parametrize("next_page", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/login?next=/x"])
def test_login_redirects_to_own_site_only(control: Control, next_page: str) -> None:
    """The login redirects to its own site only."""
    assert WebconfClient(control, "node1").log_in(next=next_page).headers["Location"] == "/"


def test_form_without_token_or_from_other_site_rejected(control: Control, visitor: WebconfClient) -> None:
    """Forms without the token of the session or from another site are rejected."""
    other = WebconfClient(control, "node2")
    other.log_in()
    foreign, own = other.csrf(), visitor.csrf()
    package = Api(control, "node1").package()
    before = unharmed(control)
    for token in ("", "x", foreign):
        for path in ("/security/package", "/security/restore", f"/security/restore/{'0' * 32}/cancel", "/logout"):
            response = visitor.post(path, {"csrf": token, "once": "0" * 32, "pin_pad": "front-usb", "source": "node1"})
            assert (response.status, response.code) == (403, "forbidden"), path
        assert visitor.upload(package, csrf=token).code == "forbidden"
    for origin in ("https://evil.example", "null", control.node("node1")["url"]):
        assert visitor.post("/security/package", {"csrf": own}, origin=origin).code == "forbidden"
    assert (
        WebconfClient(control, "node2").post("/login", {"csrf": "x", "user": "a", "password": "b"}).code == "forbidden"
    )
    assert unharmed(control) == before
    assert visitor.post("/security/package", {"csrf": own}, origin=visitor.url).status == 200


def test_labels_shown_as_text(control: Control, visitor: WebconfClient) -> None:
    """Labels are shown as text."""
    control.generate_key("node1", EVIL)
    control.generate_key("node1", "../../etc/passwd")
    source = WebconfClient(control, "node1")
    source.log_in()
    package = source.post("/security/package", {"csrf": source.csrf()})
    assert package.headers["Content-Disposition"].startswith("attachment;")
    done = visitor.get(visitor.upload(package.content).headers["Location"])
    for page in (done, visitor.get("/")):
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&#34;&amp;" in page.text
        assert "../../etc/passwd" in page.text
    for label in (EVIL, "../../etc/passwd"):
        control.delete_key("node1", label)


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2f..%2fpki.py",
        "/static/../pages.py",
        "/static/%2e%2e/pages.py",
        "/static/pages.css%00.js",
        "/static/",
        "/templates/base.html",
        "/..%2f..%2f..%2fclients%2foperator.key",
        "/security/import/..%2f..%2fprivate",
        "/switch/node4",
        "/switch/..%2fnode1",
    ],
)
def test_path_traversal_not_found(visitor: WebconfClient, path: str) -> None:
    """Path traversal does not find files."""
    assert visitor.get(path).status == 404


def test_webconf_invalid_uploads_leave_nothing(control: Control, visitor: WebconfClient) -> None:
    """Invalid uploads are rejected and leave nothing."""
    package, before = Api(control, "node1").package(), unharmed(control)
    for content, status, code in (
        (b"", 400, "invalid_request"),
        (b"no package", 422, "package_corrupt"),
        (package[:-1], 422, "package_truncated"),
        (package[:-40] + bytes([package[-40] ^ 1]) + package[-39:], 422, "package_corrupt"),
        (b"\0" * (LIMIT + 1), 413, "payload_too_large"),
        (b"\0" * (LIMIT * 3), 413, "payload_too_large"),
    ):
        response = visitor.upload(content)
        assert (response.status, response.code) == (status, code)
    assert visitor.upload(package, content_type="application/octet-stream").status == 415
    assert visitor.upload(package, content_type="multipart/form-data").status == 400
    assert visitor.upload(package, content_type="multipart/form-data; boundary=x").status == 400
    assert visitor.post("/security/package", {"csrf": "x" * 20_000}).status == 413
    assert unharmed(control) == before


def test_form_sent_twice_creates_one_object(control: Control, visitor: WebconfClient) -> None:
    """A form that is sent twice creates one object."""
    package = Api(control, "node1").package()
    first, second = (visitor.upload(package, once="a" * 32) for dummy in range(2))
    assert (first.status, first.headers["Location"]) == (second.status, second.headers["Location"])
    joining = WebconfClient(control, "node3", client="operator")
    fields = {"csrf": joining.csrf(), "once": "b" * 32, "pin_pad": "front-usb", "source": "node1"}
    first, second = (joining.post("/security/restore", fields) for dummy in range(2))
    assert first.status == second.status == 303
    place = first.headers["Location"]
    assert second.headers["Location"] == place
    joining.post(f"{place}/cancel", {"csrf": fields["csrf"]})
    assert "Ended by a request" in joining.get(place).text


def test_unjoined_node_rejects_login(control: Control) -> None:
    """A node that has not joined rejects logins."""
    for client in (None, "operator"):
        pages = WebconfClient(control, "node4", client=client)
        for path in ("/", "/login", "/security"):
            response = pages.get(path)
            assert response.status == 403, path
            assert "has not joined" in response.text
        assert pages.post("/login", {}).status == 403
    assert "/switch/node4" not in WebconfClient(control, "node1", client="operator").get("/").text


def test_ticket_valid_once_for_one_node(control: Control, visitor: WebconfClient) -> None:
    """A ticket of the menu bar is valid once for one node."""
    place = visitor.get("/switch/node1").headers["Location"]
    path = place.removeprefix(control.node("node1")["url"])
    assert path.startswith("/first-visit?ticket=")
    there = WebconfClient(control, "node1")
    assert there.get(path).status == 200
    assert there.get("/").status == 200
    assert WebconfClient(control, "node1").get(path).status == 401
    other = visitor.get("/switch/node1").headers["Location"].removeprefix(control.node("node1")["url"])
    assert WebconfClient(control, "node2").get(other).status == 401
    assert "ticket" not in (control.folder / "nodes" / "node1" / "requests.jsonl").read_text(encoding="utf-8")


def test_logout_ends_session(visitor: WebconfClient) -> None:
    """A logout ends the session."""
    stolen = dict(visitor.cookies)
    assert visitor.post("/logout", {"csrf": visitor.csrf()}).status == 303
    visitor.cookies = stolen
    assert visitor.get("/").headers["Location"] == "/login?next=%2F&ended=1"


@pytest.mark.parametrize("profile", ["commit=upload", "cards=required", "effect=additive"])
def test_upload_imports_immediately_under_every_profile(profile: str) -> None:
    """An upload in Webconf imports immediately under every profile."""
    with cluster(nodes=2, restored=2, keys=2, profile=[profile]) as control:
        control.generate_key("node1", "signKey-2026")
        pages = WebconfClient(control, "node2", client="operator")
        place = pages.upload(Api(control, "node1").package()).headers["Location"]
        if profile == "cards=required":
            assert "Insert MBK card 1 of 2" in pages.get(place).text
            assert "Insert MBK card 1 of 2" in pages.get(f"{place}/live").text
            for card in ("KEYOPS-1", "KEYOPS-2"):
                control.present_card("node2", card)
            wait_for(lambda: control.node("node2")["key_count"] == 3 and control.node("node2")["running"] is None)
        page = pages.get(place).text
        assert re.search(r"signKey-2026</th>.*?<td class=\"add\">restored</td>", page, re.DOTALL)
        assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"]


def test_session_timeout_ignores_polling() -> None:
    """Polling scripts do not extend a session."""
    now = [0.0]
    sessions = Sessions(100.0, lambda: now[0])
    token, dummy = sessions.begin("operator", "password")
    for now[0] in (90.0, 180.0):
        assert sessions.get(token, touch=True)
    now[0] = 270.0
    assert sessions.get(token, touch=False)
    now[0] = 281.0
    assert sessions.get(token, touch=True) is None


def test_lockout_grows_ends_and_is_reset() -> None:
    """The lockout grows, ends, and is reset by a correct password."""
    now = [0.0]
    throttle = Throttle(["operator"], lambda: now[0])
    for dummy in range(FREE_TRIES):
        assert throttle.seconds_left("operator") == 0
        throttle.begin("operator")
    assert throttle.seconds_left("operator") == 30
    now[0] = 31.0
    assert throttle.seconds_left("operator") == 0
    throttle.begin("operator")
    assert throttle.seconds_left("operator") == 60
    assert throttle.seconds_left("somebody") == 0
    throttle.succeeded("operator")
    assert throttle.seconds_left("operator") == 0


def test_ticket_expires() -> None:
    """A ticket expires."""
    now = [0.0]
    tickets = Tickets(lambda: now[0])
    dummy, session = Sessions(100.0).begin("operator", "password")
    ticket = tickets.issue("node2", session)
    now[0] = 30.0
    assert tickets.redeem("node2", ticket) is None
