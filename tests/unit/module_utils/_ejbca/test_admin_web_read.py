# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the EJBCA view: order and number of requests, sessions, PIN tries, and every failure."""

from __future__ import annotations

import dataclasses as dc
import typing as t
import urllib.parse

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.read import Selection, read_view
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UnreachableError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import Peer
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import NoResponseError, ResponseTooLargeError

from tests.support import ejbca_pages as samples
from tests.support.ejbca_pages import GENERATIONS, Generation, Row, Token, html_response
from tests.support.fake_admin_web import BASE, DOWNLOAD, LIST, TOKEN, FakeAdminWeb, SampleKey
from tests.support.fakes import make_response

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import EjbcaView, ViewToken
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

ONE, TWO = SampleKey.make("one"), SampleKey.make("two")
AWKWARD = ("a b", "a+b", "a%20b", "a&alias=b", "&<>\"'", " x ", "\u00fc", "k;#=/?", "A", "..", "l" * 200)
FIRST, SECOND = Token(1, "First"), Token(-2, "Second")

generations = pytest.mark.parametrize("generation", GENERATIONS)


def with_keys(token: Token, **keys: SampleKey) -> tuple[Token, dict[tuple[int, str], SampleKey]]:
    rows = tuple(key.row(alias) for alias, key in keys.items())
    return dc.replace(token, rows=rows), {(token.id, alias): key for alias, key in keys.items()}


def read(
    fake: FakeAdminWeb,
    monkeypatch: pytest.MonkeyPatch,
    names: t.Collection[str] = (),
    ids: t.Collection[int] = (),
) -> EjbcaView:
    return read_view(fake.use(monkeypatch), Selection(frozenset(names), frozenset(ids)))


def code_of(token: ViewToken) -> str | None:
    return token.problem.code if token.problem is not None else None


@generations
def test_view_has_tokens_keys_and_fingerprints(monkeypatch: pytest.MonkeyPatch, generation: Generation) -> None:
    token, keys = with_keys(FIRST, ca=ONE)
    token = dc.replace(token, rows=(*token.rows, Row("later", None)))
    view = read(FakeAdminWeb(token, SECOND, keys=keys, generation=generation), monkeypatch)
    assert (view.version, view.host_name) == ("8.2.0.1", "node1")
    assert [(token.id, token.name, token.type) for token in view.tokens] == [
        (1, "First", "PKCS11CryptoToken"),
        (-2, "Second", "PKCS11CryptoToken"),
    ]
    assert [(key.alias, key.subject_key_id, key.fingerprint, key.problem) for key in view.tokens[0].keys or ()] == [
        ("ca", ONE.subject_key_id, ONE.fingerprint, None),
        ("later", None, None, None),
    ]
    assert view.tokens[1].keys == ()


def test_view_needs_one_session_and_lists_before_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each login is a record of EJBCA. Older versions show a token as it was when the list was drawn."""
    fake = FakeAdminWeb(FIRST, SECOND)
    read(fake, monkeypatch)
    assert fake.logins == 1
    token = f"{TOKEN}?cryptoTokenId="
    assert fake.paths == [BASE, LIST, f"{token}1&ref=default", LIST, f"{token}-2&ref=default"]
    assert [request.headers.get("Cookie") for request in fake.requests] == [None, *["JSESSIONID=s1"] * 4]
    assert {request.method for request in fake.requests} == {"GET"}


def test_view_downloads_exact_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed link of alias a+b fetches the key of alias a b."""
    keys = {alias: SampleKey.make(alias) for alias in AWKWARD}
    token, served = with_keys(FIRST, **keys)
    fake = FakeAdminWeb(token, keys=served)
    view = read(fake, monkeypatch)
    assert [key.fingerprint for key in view.tokens[0].keys or ()] == [key.fingerprint for key in keys.values()]
    expected = [f"{DOWNLOAD}?cryptoTokenId=1&alias={urllib.parse.quote(alias, safe='')}" for alias in AWKWARD]
    assert [path for path in fake.paths if path.startswith(DOWNLOAD)] == expected


def test_view_downloads_each_key_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crypto tokens of one slot show the same keys."""
    (first, keys), (second, more) = with_keys(FIRST, ca=ONE, copy=ONE), with_keys(SECOND, ca=ONE)
    fake = FakeAdminWeb(first, second, keys={**keys, **more})
    view = read(fake, monkeypatch)
    assert fake.count(DOWNLOAD) == 1
    assert {key.fingerprint for token in view.tokens for key in token.keys or ()} == {ONE.fingerprint}


def test_view_escapes_names_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    token, keys = with_keys(dc.replace(FIRST, name="T\u202e"), **{"a\u202eb": ONE})
    view = read(FakeAdminWeb(token, keys=keys), monkeypatch)
    assert view.tokens[0].name == "T\\u202e"
    assert [key.alias for key in view.tokens[0].keys or ()] == ["a\\u202eb"]


def test_view_of_chosen_tokens_lists_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of all tokens show whether two nodes have one database."""
    fake = FakeAdminWeb(FIRST, SECOND)
    view = read(fake, monkeypatch, names=["Second"])
    assert [(token.id, token.keys) for token in view.tokens] == [(1, None), (-2, ())]
    assert fake.count(TOKEN) == 1


@pytest.mark.parametrize(("names", "ids"), [(["Other"], []), ([], [5])])
def test_view_of_missing_token_is_an_error(monkeypatch: pytest.MonkeyPatch, names: list[str], ids: list[int]) -> None:
    with pytest.raises(UtrustError) as caught:
        read(FakeAdminWeb(FIRST), monkeypatch, names, ids)
    assert caught.value.code == "crypto_token_missing"


# Ids that the list does not show


def test_view_without_listed_ids_uses_those_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    token, keys = with_keys(dc.replace(FIRST, link="none"), ca=ONE)
    fake = FakeAdminWeb(token, dc.replace(SECOND, link="none"), keys=keys, generation="G95")
    view = read(fake, monkeypatch, ids=[1])
    assert [(token.id, token.name, token.reference) for token in view.tokens] == [(1, "First", "1")]
    assert [key.alias for key in view.tokens[0].keys or ()] == ["ca"]
    assert view.warnings == ("crypto token Second is in the list, but not in token_ids, so it was not read",)


def test_view_without_any_ids_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UtrustError) as caught:
        read(FakeAdminWeb(dc.replace(FIRST, link="none")), monkeypatch)
    assert caught.value.code == "crypto_token_id_missing"


def test_view_without_listed_ids_reads_no_failing_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows which id is that of the failing token, so no page of a token is read."""
    fake = FakeAdminWeb(dc.replace(FIRST, link="none", active=False), dc.replace(SECOND, link="none"))
    with pytest.raises(UtrustError) as caught:
        read(fake, monkeypatch, ids=[-2])
    assert caught.value.code == "token_activation_failing"
    assert fake.count(TOKEN) == 0


def test_view_with_one_id_twice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UtrustError) as caught:
        read(FakeAdminWeb(FIRST, dc.replace(FIRST, name="Copy")), monkeypatch)
    assert caught.value.code == "ejbca_page_unrecognized"


def test_view_of_list_that_changes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAdminWeb(FIRST, SECOND)
    fake.respond = lambda path, count: html_response(samples.token_list(FIRST)) if (path, count) == (LIST, 2) else None
    with pytest.raises(UtrustError) as caught:
        read(fake, monkeypatch)
    assert caught.value.code == "crypto_tokens_changed"


# PIN tries


def test_failing_token_is_viewed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list tries the PIN. Neither the page of the token nor a second list tries it again."""
    fake = FakeAdminWeb(dc.replace(FIRST, active=False), SECOND, Token(3, "Third"))
    view = read(fake, monkeypatch)
    assert [code_of(token) for token in view.tokens] == ["token_activation_failing", None, None]
    assert [token.keys for token in view.tokens] == [None, (), ()]
    assert fake.count(LIST) == 1
    assert fake.count(f"{TOKEN}?cryptoTokenId=1&") == 0


def test_failing_token_that_nobody_asked_for_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    view = read(FakeAdminWeb(dc.replace(FIRST, active=False), SECOND), monkeypatch, names=["Second"])
    assert [code_of(token) for token in view.tokens] == ["token_activation_failing", None]


def test_token_that_fails_on_its_page_stops_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token was active in the list, and the HSM lost its login since then."""
    fake = FakeAdminWeb(FIRST, SECOND, Token(3, "Third"))
    inactive = html_response(samples.token_page(dc.replace(FIRST, active=False)))
    fake.respond = lambda path, dummy: inactive if path.startswith(f"{TOKEN}?cryptoTokenId=1&") else None
    view = read(fake, monkeypatch)
    assert [code_of(token) for token in view.tokens] == ["token_activation_failing", None, None]
    assert fake.count(LIST) == 1
    assert fake.count(f"{TOKEN}?cryptoTokenId=1&") == 1


def test_inactive_token_without_auto_activation_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its PIN is not stored, so a view tries nothing."""
    view = read(FakeAdminWeb(dc.replace(FIRST, active=False, auto=False)), monkeypatch)
    assert [(token.active, token.keys, token.problem) for token in view.tokens] == [(False, None, None)]


@pytest.mark.parametrize("failure", ["timeout", "cut"])
def test_view_that_was_sent_is_not_sent_again(monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    """EJBCA may have tried the PIN already."""
    fake = FakeAdminWeb(FIRST)
    fake.respond = lambda path, dummy: NoResponseError(failure, sent=True) if path == LIST else None
    with pytest.raises(UnreachableError) as caught:
        read(fake, monkeypatch)
    assert caught.value.code == "ejbca_unreachable"
    assert fake.count(LIST) == 1


def test_view_that_was_not_sent_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAdminWeb(FIRST)
    fake.respond = lambda path, count: NoResponseError("refused", sent=False) if (path, count) == (LIST, 1) else None
    assert read(fake, monkeypatch).tokens[0].keys == ()


# Sessions


@pytest.mark.parametrize("place", [LIST, f"{TOKEN}?cryptoTokenId=1&ref=default"])
def test_expired_session_is_replaced_once(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    token, keys = with_keys(FIRST, ca=ONE)
    fake = FakeAdminWeb(token, keys=keys)

    def expire(path: str, count: int) -> None:
        if (path, count) == (place, 1):
            fake.expire()

    fake.respond = expire
    view = read(fake, monkeypatch)
    assert [key.fingerprint for key in view.tokens[0].keys or ()] == [ONE.fingerprint]
    assert fake.logins == 3  # the fake begins a session for the page of the expired session, too
    assert fake.count(place) == 2
    again = [place for place, path in enumerate(fake.paths) if path == BASE][1]
    assert fake.paths[again - 1] == fake.paths[again + 1] == place  # page 0 shows first whether the login works


EXPIRED = html_response(samples.page("<h1>Session has timed out.</h1>"))
LOGIN = html_response('<html><body><div class="loginPage"><h2>No client certificate</h2></div></body></html>')
FORBIDDEN = html_response("<html>Forbidden</html>", 403)
MOVED = html_response("<html>moved</html>", 302, Location="https://other/")


@pytest.mark.parametrize("response", [EXPIRED, LOGIN, FORBIDDEN, MOVED])
def test_expired_session_is_not_replaced_twice(monkeypatch: pytest.MonkeyPatch, response: HttpResponse) -> None:
    fake = FakeAdminWeb(FIRST)
    fake.respond = lambda path, dummy: response if path == LIST else None
    with pytest.raises(UtrustError):
        read(fake, monkeypatch)
    assert fake.count(LIST) == 2


@pytest.mark.parametrize("home", [LOGIN, html_response(samples.home().replace("node1", "node2"))])
def test_expired_session_without_its_page_0_is_an_error(monkeypatch: pytest.MonkeyPatch, home: HttpResponse) -> None:
    """The page of the crypto tokens is not requested again without a login, or from another node."""
    fake = FakeAdminWeb(FIRST)

    def respond(path: str, count: int) -> HttpResponse | None:
        return EXPIRED if path == LIST else home if (path, count) == (BASE, 2) else None

    fake.respond = respond
    with pytest.raises(UtrustError) as caught:
        read(fake, monkeypatch)
    assert caught.value.code == ("ejbca_page_unrecognized" if home is LOGIN else "ejbca_identity_unknown")
    assert (fake.count(LIST), fake.count(TOKEN)) == (1, 0)


@pytest.mark.parametrize("place", [LIST, f"{TOKEN}?cryptoTokenId=1&ref=default", DOWNLOAD])
@pytest.mark.parametrize(
    "response",
    [
        html_response(samples.page("<h1>An exception has occurred.</h1>")),
        html_response(samples.token_list(FIRST)[:-9]),
        html_response(samples.page('<div class="loginPage"></div><form id="cryptotokens"></form>')),
        html_response(samples.page('<div class="loginPage"></div>')[:-9]),
        html_response("<html></html>", 404),
        make_response(200, b"\xff<html></html>", media_type="text/html"),
        make_response(200, {"a": 1}),
    ],
)
def test_page_that_may_have_tried_a_pin_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, place: str, response: HttpResponse
) -> None:
    """Only the page of an expired session shows that EJBCA viewed no crypto token."""
    token, keys = with_keys(FIRST, ca=ONE)
    fake = FakeAdminWeb(token, keys=keys)
    fake.respond = lambda path, dummy: response if path.startswith(place) else None
    try:
        view = read(fake, monkeypatch)
    except UtrustError:
        assert place == LIST
    else:
        assert view.tokens[0].problem is not None or [key.fingerprint for key in view.tokens[0].keys or ()] == [None]
    assert (fake.count(place), fake.paths.count(BASE), fake.logins) == (1, 1, 1)


@pytest.mark.parametrize("value", ["", "x" * 600, "a,b", "a b", 'a"b', "\u00fc"])
def test_unusable_session_cookie_is_not_sent(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    fake = FakeAdminWeb(FIRST)
    home = html_response(samples.home(), Set_Cookie=f"JSESSIONID={value}; path=/")
    fake.respond = lambda path, dummy: home if path == BASE else None
    read(fake, monkeypatch)
    assert fake.requests[1].headers.get("Cookie") is None


# Responses without a page


DENIED = html_response(samples.page("<h1>Authorization Denied</h1><h2>Cause: not authorized</h2>"))


@pytest.mark.parametrize("place", [BASE, LIST])
@pytest.mark.parametrize(
    ("response", "code"),
    [
        (DENIED, "ejbca_page_unrecognized"),
        (LOGIN, "ejbca_page_unrecognized"),
        (html_response(samples.home()[:-200]), "ejbca_page_unrecognized"),
        (html_response(samples.token_list(FIRST)[:-9]), "ejbca_page_unrecognized"),
        (html_response("<html></html>"), "ejbca_page_unrecognized"),
        (make_response(200, b"\xff<html></html>", media_type="text/html"), "ejbca_page_unrecognized"),
        (make_response(200, {"a": 1}), "ejbca_page_unrecognized"),
        (html_response("<html>moved</html>", 302, Location="https://other/"), "ejbca_redirected"),
        (html_response("<html>Bad Gateway</html>", 502), "ejbca_page_refused"),
        (html_response("<html>Unavailable</html>", 503, Retry_After="1"), "ejbca_page_refused"),
        (html_response("<html>Forbidden</html>", 403), "ejbca_page_refused"),
        (html_response("<html>Not found</html>", 404), "ejbca_page_refused"),
        (make_response(204, b""), "ejbca_page_refused"),
        (ResponseTooLargeError("too large"), "response_too_large"),
    ],
)
def test_response_that_is_no_page_is_an_error(
    monkeypatch: pytest.MonkeyPatch, place: str, response: t.Any, code: str
) -> None:
    """Such a response never means that a node has no keys."""
    fake = FakeAdminWeb(FIRST)
    fake.respond = lambda path, dummy: response if path == place else None
    with pytest.raises(UtrustError) as caught:
        read(fake, monkeypatch)
    assert caught.value.code == code
    assert fake.count(TOKEN) == 0


@pytest.mark.parametrize("status", [502, 503])
def test_gateway_error_is_not_repeated(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    fake = FakeAdminWeb(FIRST)
    fake.respond = lambda path, dummy: html_response("<html></html>", status) if path == LIST else None
    with pytest.raises(UtrustError):
        read(fake, monkeypatch)
    assert fake.count(LIST) == 1


def test_broken_token_page_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before version 7.11, one unreadable key breaks the page of its token."""
    token, keys = with_keys(SECOND, ca=ONE)
    fake = FakeAdminWeb(FIRST, token, keys=keys)
    broken = html_response(samples.page("<h1>An exception has occurred.</h1>"))
    fake.respond = lambda path, dummy: broken if "cryptoTokenId=1&" in path else None
    view = read(fake, monkeypatch)
    assert [code_of(token) for token in view.tokens] == ["ejbca_page_unrecognized", None]
    assert view.tokens[0].keys is None
    assert [key.alias for key in view.tokens[1].keys or ()] == ["ca"]


def test_failed_listing_has_unknown_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    view = read(FakeAdminWeb(dc.replace(FIRST, alert="CKR_DEVICE_ERROR")), monkeypatch)
    assert (code_of(view.tokens[0]), view.tokens[0].keys) == ("key_listing_failed", None)


def test_contradictory_token_page_has_unknown_state(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAdminWeb(dc.replace(FIRST, auto=False, shows_form=False))
    view = read(fake, monkeypatch)
    assert (code_of(view.tokens[0]), view.tokens[0].active) == ("crypto_token_state_contradictory", None)


def test_account_with_too_many_rights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAdminWeb(dc.replace(FIRST, key_buttons='<input type="submit" value="Remove" />'))
    with pytest.raises(UtrustError) as caught:
        read(fake, monkeypatch)
    assert caught.value.code == "ejbca_rights_excessive"


# Downloads


def test_download_of_another_key_has_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    token, keys = with_keys(FIRST, ca=ONE)
    view = read(FakeAdminWeb(token, keys=dict.fromkeys(keys, TWO)), monkeypatch)
    (key,) = view.tokens[0].keys or ()
    assert (key.subject_key_id, key.fingerprint) == (None, None)
    assert key.problem is not None
    assert TWO.subject_key_id in key.problem


@pytest.mark.parametrize(
    "response",
    [
        html_response("<html></html>", 500),
        html_response("<html></html>", 403),
        html_response("<html></html>"),
        make_response(200, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
        ResponseTooLargeError("too large"),
    ],
)
def test_failed_download_leaves_the_subject_key_id(monkeypatch: pytest.MonkeyPatch, response: t.Any) -> None:
    token, keys = with_keys(FIRST, ca=ONE, next=TWO)
    fake = FakeAdminWeb(token, keys=keys)
    fake.respond = lambda path, dummy: response if path.endswith("alias=ca") else None
    view = read(fake, monkeypatch)
    first, second = view.tokens[0].keys or ()
    assert (first.subject_key_id, first.fingerprint) == (ONE.subject_key_id, None)
    assert first.problem is not None
    assert second.fingerprint == TWO.fingerprint


def test_failed_downloads_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure writes an error to the log of EJBCA."""
    token, dummy = with_keys(FIRST, **{f"k{number}": SampleKey.make(str(number)) for number in range(20)})
    fake = FakeAdminWeb(token)
    view = read(fake, monkeypatch)
    assert fake.count(DOWNLOAD) == limits.MAX_FAILED_DOWNLOADS
    assert all(key.problem for key in view.tokens[0].keys or ())


def test_alias_that_occurs_twice_has_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    token = dc.replace(FIRST, rows=(ONE.row("ca"), TWO.row("ca")))
    fake = FakeAdminWeb(token)
    view = read(fake, monkeypatch)
    assert [(key.subject_key_id, key.problem is not None) for key in view.tokens[0].keys or ()] == [(None, True)] * 2
    assert fake.count(DOWNLOAD) == 0


# Limits


def test_number_of_tokens_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [Token(number, f"T{number}") for number in range(1, limits.MAX_CRYPTO_TOKENS + 2)]
    with pytest.raises(UtrustError) as caught:
        read(FakeAdminWeb(*tokens), monkeypatch)
    assert caught.value.code == "response_too_large"


def test_number_of_keys_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_VIEW_KEYS", 1)
    token, keys = with_keys(FIRST, ca=ONE, next=TWO)
    fake = FakeAdminWeb(token, keys=keys)
    with pytest.raises(UtrustError) as caught:
        read(fake, monkeypatch)
    assert caught.value.code == "response_too_large"
    assert fake.count(DOWNLOAD) == 0


@pytest.mark.parametrize("address", ["127.0.0.2", "127.0.0.3"])
def test_view_of_two_nodes_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A virtual address can lead a second connection to another node, whose keys would count for this node."""
    fake = FakeAdminWeb(FIRST)

    def reconnect(path: str, dummy: int) -> None:
        if path.startswith(TOKEN):
            fake.peer = Peer(address, "sha256:" + ("cd" if address == "127.0.0.2" else "ab") * 32, "TLSv1.3")

    fake.respond = reconnect
    with pytest.raises(UtrustError) as refused:
        read(fake, monkeypatch)
    assert refused.value.code == "ejbca_identity_unknown"


@pytest.mark.parametrize("host", ["node1", "node2"])
def test_second_connection_reads_the_host_name_again(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Address and certificate can be shared, so only the host name shows which node responded."""
    fake = FakeAdminWeb(FIRST)

    def reconnect(path: str, count: int) -> HttpResponse | None:
        if path.startswith(TOKEN):
            fake.peer = Peer("127.0.0.2", "sha256:" + "ab" * 32, "TLSv1.3")
        return html_response(samples.home(host=host)) if path == BASE and count > 1 else None

    fake.respond = reconnect
    if host == "node1":
        assert read(fake, monkeypatch).host_name == "node1"
        return
    with pytest.raises(UtrustError) as refused:
        read(fake, monkeypatch)
    assert refused.value.code == "ejbca_identity_unknown"
