# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Webconf against those who should not be there, and against what should not be sent to it. No browser is needed to see that."""

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
    """node1 and node2 hold keys, node3 is in Factory Reset Mode, node4 has not joined."""
    with cluster(nodes=4, joined=3, restored=2, keys=3, max_upload=LIMIT) as running:
        yield running


@pytest.fixture
def visitor(control: Control) -> WebconfClient:
    """Somebody who is logged in to node2."""
    pages = WebconfClient(control, "node2")
    assert pages.log_in().status == 303
    return pages


def unharmed(control: Control) -> tuple[t.Any, ...]:
    """What a refused request must leave as it was."""
    api = Api(control, "node2")
    left = [path.name for path in (control.folder / "nodes" / "node2" / "imports").iterdir()]
    running = control.node("node3")["running"]
    return control.node("node2")["keys_digest"], len(api("GET", "/hsm/imports").data["imports"]), left, running


def test_every_page_forbids_foreign_content_frames_and_caches_and_runs_nothing_of_its_own(
    visitor: WebconfClient,
) -> None:
    for path in PAGES:
        answer = visitor.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "frame-ancestors 'none'" in policy, path
        assert "form-action 'self'" in policy, path
        assert "unsafe" not in policy, path
        assert answer.headers["Cache-Control"] == "no-store", path
        assert answer.headers["X-Frame-Options"] == "DENY", path
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"/static/)", answer.text), path
        assert "Reference appliance." in answer.text or answer.status == 303, path


def test_cookies_are_out_of_reach_of_scripts_other_sites_and_plain_http(control: Control) -> None:
    pages = WebconfClient(control, "node1")
    answer = pages.log_in()
    (cookie,) = answer.headers.get_all("Set-Cookie") or []
    for flag in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
        assert flag in cookie
    assert cookie.startswith("__Host-webconf-node1=")
    assert "Domain" not in cookie


def test_pages_want_a_login_and_a_login_to_them_is_none_to_the_api(control: Control, visitor: WebconfClient) -> None:
    stranger = WebconfClient(control, "node2")
    for path in ("/", "/security", "/security/import", f"/security/import/{'0' * 32}"):
        answer = stranger.get(path)
        assert (answer.status, answer.headers["Location"].split("?")[0]) == (303, "/login"), path
    assert stranger.get("/", authorization=f"Bearer {control.token}").status == 303
    assert stranger.post("/security/package", {"csrf": "x"}).status == 401
    assert visitor.get("/api/v1/node").status == 401


def test_registered_certificate_is_a_login_and_a_guests_is_not(control: Control) -> None:
    assert WebconfClient(control, "node1", client="operator").get("/").status == 200
    guest = WebconfClient(control, "node1", client="guest")
    assert guest.get("/").status == 303
    page = guest.get("/login")
    assert "not registered on this node" in page.text
    assert guest.post("/login/certificate", {"csrf": page.field("csrf")}).status == 401


def test_wrong_passwords_lock_a_user_out_and_tell_nothing_about_who_exists(control: Control) -> None:
    pages = WebconfClient(control, "node3")
    known, unknown = pages.log_in(password="wrong"), pages.log_in(user="nobody", password="wrong")
    assert (known.status, known.code) == (unknown.status, unknown.code) == (401, "unauthenticated")
    assert re.findall(r"<strong>.*", known.text) == re.findall(r"<strong>.*", unknown.text)
    for dummy in range(FREE_TRIES - 1):
        pages.log_in(password="wrong")
    locked = pages.log_in()
    assert (locked.status, locked.code) == (429, "too_many_requests")
    assert 0 < int(locked.headers["Retry-After"]) <= 30
    assert WebconfClient(control, "node2").log_in().status == 303  # other nodes let the owner of the password in


def test_password_is_kept_as_a_hash_only(control: Control) -> None:
    login = json.loads((control.folder / "clients" / "webconf-login.json").read_text(encoding="utf-8"))
    kept = (control.folder / "private" / "webconf-users.json").read_text(encoding="utf-8")
    assert login["password"] not in kept
    assert "rehearsals" in login["note"]


@pytest.mark.parametrize("next_page", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/login?next=/x"])
def test_login_leads_to_no_other_site(control: Control, next_page: str) -> None:
    assert WebconfClient(control, "node1").log_in(next=next_page).headers["Location"] == "/"


def test_form_without_the_sessions_own_token_or_from_another_site_changes_nothing(
    control: Control, visitor: WebconfClient
) -> None:
    other = WebconfClient(control, "node2")
    other.log_in()
    foreign, own = other.csrf(), visitor.csrf()
    package = Api(control, "node1").package()
    before = unharmed(control)
    for token in ("", "x", foreign):
        for path in ("/security/package", "/security/restore", f"/security/restore/{'0' * 32}/cancel", "/logout"):
            answer = visitor.post(path, {"csrf": token, "once": "0" * 32, "pin_pad": "front-usb", "source": "node1"})
            assert (answer.status, answer.code) == (403, "forbidden"), path
        assert visitor.upload(package, csrf=token).code == "forbidden"
    for origin in ("https://evil.example", "null", control.node("node1")["url"]):
        assert visitor.post("/security/package", {"csrf": own}, origin=origin).code == "forbidden"
    assert (
        WebconfClient(control, "node2").post("/login", {"csrf": "x", "user": "a", "password": "b"}).code == "forbidden"
    )
    assert unharmed(control) == before
    assert visitor.post("/security/package", {"csrf": own}, origin=visitor.url).status == 200


def test_labels_are_shown_and_never_run(control: Control, visitor: WebconfClient) -> None:
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
def test_path_tricks_find_nothing(visitor: WebconfClient, path: str) -> None:
    assert visitor.get(path).status == 404


def test_uploads_that_are_no_package_are_refused_and_leave_nothing(control: Control, visitor: WebconfClient) -> None:
    package, before = Api(control, "node1").package(), unharmed(control)
    for content, status, code in (
        (b"", 400, "invalid_request"),
        (b"no package", 422, "package_corrupt"),
        (package[:-1], 422, "package_truncated"),
        (package[:-40] + bytes([package[-40] ^ 1]) + package[-39:], 422, "package_corrupt"),
        (b"\0" * (LIMIT + 1), 413, "payload_too_large"),
        (b"\0" * (LIMIT * 3), 413, "payload_too_large"),
    ):
        answer = visitor.upload(content)
        assert (answer.status, answer.code) == (status, code)
    assert visitor.upload(package, content_type="application/octet-stream").status == 415
    assert visitor.upload(package, content_type="multipart/form-data").status == 400
    assert visitor.upload(package, content_type="multipart/form-data; boundary=x").status == 400
    assert visitor.post("/security/package", {"csrf": "x" * 20_000}).status == 413
    assert unharmed(control) == before


def test_form_that_is_sent_twice_makes_one_thing(control: Control, visitor: WebconfClient) -> None:
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
    assert "Canceled by a request" in joining.get(place).text


def test_node_that_has_not_joined_lets_nobody_in(control: Control) -> None:
    for client in (None, "operator"):
        pages = WebconfClient(control, "node4", client=client)
        for path in ("/", "/login", "/security"):
            answer = pages.get(path)
            assert answer.status == 403, path
            assert "has not joined" in answer.text
        assert pages.post("/login", {}).status == 403
    assert "/switch/node4" not in WebconfClient(control, "node1", client="operator").get("/").text


def test_cluster_menu_bar_carries_the_login_to_one_node_once(control: Control, visitor: WebconfClient) -> None:
    place = visitor.get("/switch/node1").headers["Location"]
    path = place.removeprefix(control.node("node1")["url"])
    assert path.startswith("/arrive?ticket=")
    there = WebconfClient(control, "node1")
    assert there.get(path).status == 200
    assert there.get("/").status == 200
    assert WebconfClient(control, "node1").get(path).status == 401
    other = visitor.get("/switch/node1").headers["Location"].removeprefix(control.node("node1")["url"])
    assert WebconfClient(control, "node2").get(other).status == 401
    assert "ticket" not in (control.folder / "nodes" / "node1" / "requests.jsonl").read_text(encoding="utf-8")


def test_log_out_ends_the_session_for_good(visitor: WebconfClient) -> None:
    stolen = dict(visitor.cookies)
    assert visitor.post("/logout", {"csrf": visitor.csrf()}).status == 303
    visitor.cookies = stolen
    assert visitor.get("/").headers["Location"] == "/login?next=%2F&ended=1"


@pytest.mark.parametrize("profile", ["commit=upload", "cards=asked", "effect=additive"])
def test_upload_restores_at_once_however_the_appliance_behaves_towards_programs(profile: str) -> None:
    with cluster(nodes=2, restored=2, keys=2, profile=[profile]) as control:
        control.generate_key("node1", "signKey-2026")
        pages = WebconfClient(control, "node2", client="operator")
        place = pages.upload(Api(control, "node1").package()).headers["Location"]
        if profile == "cards=asked":
            assert "Insert MBK card 1 of 2" in pages.get(place).text
            assert "Insert MBK card 1 of 2" in pages.get(f"{place}/live").text
            for card in ("KEYOPS-1", "KEYOPS-2"):
                control.present_card("node2", card)
            wait_for(lambda: control.node("node2")["key_count"] == 3 and control.node("node2")["running"] is None)
        page = pages.get(place).text
        assert re.search(r"signKey-2026</th>.*?<td class=\"add\">restored</td>", page, re.DOTALL)
        assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"]


def test_session_ends_without_activity_and_a_script_that_asks_is_no_activity() -> None:
    now = [0.0]
    sessions = Sessions(100.0, lambda: now[0])
    token, dummy = sessions.begin("operator", "password")
    for now[0] in (90.0, 180.0):
        assert sessions.get(token, touch=True)
    now[0] = 270.0
    assert sessions.get(token, touch=False)
    now[0] = 281.0
    assert sessions.get(token, touch=True) is None


def test_lock_out_grows_and_ends_and_a_right_password_forgets_it() -> None:
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


def test_ticket_of_the_menu_bar_is_void_after_half_a_minute() -> None:
    now = [0.0]
    tickets = Tickets(lambda: now[0])
    dummy, session = Sessions(100.0).begin("operator", "password")
    ticket = tickets.issue("node2", session)
    now[0] = 30.0
    assert tickets.redeem("node2", ticket) is None
