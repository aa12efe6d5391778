# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pages of EJBCA's Admin Web: recognized by form ids, read by position, in every language and both generations."""

from __future__ import annotations

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.pages import (
    HomePage,
    KeyRow,
    ListedToken,
    TokenPage,
    read_home,
    read_list,
    read_token,
)
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.tree import PageError, parse_page
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

from tests.support import ejbca_pages as samples
from tests.support.ejbca_pages import GENERATIONS, TITLES, Generation, Row, Token

A, B = "a" * 40, "0123456789" * 4
AWKWARD = ("a b", "a+b", "a%20b", "&amp; < > \" '", " x ", "\u00fc", "k;#=/?", "A", "a", "l" * 200, "\\x41")

generations = pytest.mark.parametrize("generation", GENERATIONS)
languages = pytest.mark.parametrize("language", sorted(TITLES))


def listed(text: str) -> tuple[ListedToken, ...]:
    return read_list(parse_page(text))


def token_page(token: Token, text: str | None = None, generation: Generation = "G8") -> TokenPage:
    return read_token(parse_page(text or samples.token_page(token, generation=generation)), token.id)


@languages
def test_home_page_shows_version_host_and_time(language: str) -> None:
    """The name of the administrator can look like a version."""
    expected = HomePage("8.2.0.1", "node1", "2026-05-01 12:00:00+00:00")
    assert read_home(parse_page(samples.home(language=language))) == expected


def test_home_page_without_version_and_host_is_read() -> None:
    found = read_home(parse_page(samples.home(version="EJBCA", host="unknown")))
    assert (found.version, found.host_name) == (None, None)


@languages
@generations
def test_list_page_is_read_by_position(language: str, generation: Generation) -> None:
    tokens = (Token(), Token(7, "a  & <b>", active=False), Token(8, "Soft", auto=False))
    text = samples.token_list(*tokens, language=language, generation=generation)
    assert listed(text) == (
        ListedToken(-1234567, "SigningToken", "1", True, True, "Slot ID"),
        ListedToken(7, "a  & <b>", "1", False, True, "Slot ID"),
        ListedToken(8, "Soft", "1", True, False, "Slot ID"),
    )


@languages
def test_list_page_without_links_has_ids_in_titles(language: str) -> None:
    token = Token(-5, link="title")
    assert [row.id for row in listed(samples.token_list(token, language=language))] == [-5]


def test_list_page_without_ids_has_unknown_ids() -> None:
    assert [row.id for row in listed(samples.token_list(Token(link="none")))] == [None]


def test_list_page_without_tokens_is_empty() -> None:
    """An empty table has one row with empty cells."""
    assert listed(samples.token_list()) == ()


@pytest.mark.parametrize("file", ["status-unknown.png", ""])
def test_list_page_with_other_picture_has_unknown_state(file: str) -> None:
    text = samples.token_list(Token()).replace(samples.ACTIVE, file)
    assert [(row.active, row.auto_activation) for row in listed(text)] == [(None, None)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('id="cryptotokens"', 'id="other"'),
        ('<table class="grid"><thead>', '<table class="list"><thead>'),
        ("cryptoTokenId=-1234567", "cryptoTokenId=1&amp;cryptoTokenId=2"),
        ("cryptoTokenId=-1234567", "cryptoTokenId=99999999999"),
        ("cryptoTokenId=-1234567", "cryptoTokenId=x"),
        ("<td>PKCS#11</td>", ""),
        ("</form></div>", '</form><form id="cryptotokens"></form></div>'),
        ("</html>", ""),
    ],
)
def test_list_page_with_another_layout_is_rejected(old: str, new: str) -> None:
    """Nobody concludes from such a page that a node has no keys."""
    text = samples.token_list(Token())
    assert old in text
    with pytest.raises(PageError):
        listed(text.replace(old, new))


@languages
@generations
def test_token_page_is_read_by_position(language: str, generation: Generation) -> None:
    rows = (Row("signKey", A), Row("later", None, "", ""), Row("pqc", B, "", ""))
    token = Token(rows=rows)
    text = samples.token_page(token, language=language, generation=generation)
    assert token_page(token, text) == TokenPage(
        name="SigningToken",
        type="PKCS11CryptoToken",
        active=True,
        auto_activation=True,
        used=True,
        rows=(
            KeyRow("signKey", "ECDSA", "P-256 / prime256v1", A),
            KeyRow("later", "", "", None),
            KeyRow("pqc", "", "", B),
        ),
        problem=None,
    )


@generations
def test_token_page_keeps_awkward_aliases(generation: Generation) -> None:
    """A blank at the end belongs to the alias, and aliases that look alike are different."""
    token = Token(rows=tuple(Row(alias, A) for alias in AWKWARD))
    assert [row.alias for row in token_page(token, generation=generation).rows or ()] == list(AWKWARD)


@generations
def test_token_page_without_table_has_no_keys(generation: Generation) -> None:
    assert token_page(Token(), generation=generation).rows == ()


def test_token_page_of_cp5_needs_authorization() -> None:
    page = token_page(Token(rows=(Row("signKey", A),), cp5=True))
    assert page.needs_authorization
    assert page.rows is not None


def test_token_page_of_inactive_token_has_unknown_keys() -> None:
    page = token_page(Token(active=False))
    assert (page.active, page.rows, page.problem) == (False, None, None)


@pytest.mark.parametrize("active", [True, False])
def test_token_page_that_contradicts_itself_has_unknown_keys(active: bool) -> None:
    page = token_page(Token(active=active, shows_form=not active, rows=(Row("signKey", A),)))
    assert page.rows is None
    assert page.problem is not None
    assert page.problem.code == "crypto_token_state_contradictory"


@pytest.mark.parametrize("rows", [(), (Row("later", None),)])
def test_token_page_with_failed_listing_has_unknown_keys(rows: tuple[Row, ...]) -> None:
    """Placeholders can be in the table although EJBCA could not list the keys."""
    page = token_page(Token(rows=rows, alert="Failed to load\x1b[2J key pairs"))
    assert page.rows is None
    assert page.problem is not None
    assert page.problem == ("key_listing_failed", "Failed to load\\x1b[2J key pairs")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("currentCryptoTokenForm:currentCryptoTokenId", "other"),
        (">-1234567</span>", ">7</span>"),
        (">-1234567</span>", "></span>"),
        ('id="currentCryptoTokenForm:currentCryptoTokenActive" type="checkbox"', 'id="x" type="checkbox"'),
        ('<th scope="col"></th>', '<th scope="col">Alias</th>'),
        ("<td>signKey</td>", "<td></td>"),
        ("<td>signKey</td>", "<td><b>signKey</b></td>"),
        ("<td>signKey</td>", "<td>signKey</td><td>more</td>"),
        (A, A[1:]),
        (A, A.upper()),
        (A, ""),
        ("</html>", ""),
    ],
)
def test_token_page_with_another_layout_is_rejected(old: str, new: str) -> None:
    token = Token(rows=(Row("signKey", A),))
    text = samples.token_page(token)
    assert old in text
    with pytest.raises(PageError):
        token_page(token, text.replace(old, new))


@pytest.mark.parametrize(
    "content",
    [
        "<h1>Authorization Denied</h1><h2>Cause: You are not authorized to view this page.</h2>",
        '<div class="loginPage"><h2>No client certificate was presented</h2></div>',
        "<h1>Session has timed out.</h1>",
        "<h1>An exception has occurred.</h1>",
        '<form id="currentCryptoTokenForm"><input /></form>',
        "",
    ],
)
def test_error_page_is_never_a_page_without_keys(content: str) -> None:
    """EJBCA sends these pages with status 200. The page of a new crypto token has the same form, but not the span with the id."""
    page = parse_page(samples.page(content))
    for read in (read_home, read_list, lambda page: read_token(page, -1234567)):
        with pytest.raises(PageError):
            read(page)


SUBMIT = '<input type="submit" name="j_idt7" value="Entfernen" />'


@pytest.mark.parametrize(
    "content",
    [
        SUBMIT,
        '<input type="password" name="code" />',
        "<button>x</button>",
        '<a href="deletecryptotoken.xhtml?x=1">x</a>',
    ],
)
@generations
def test_list_page_with_too_many_rights_is_refused(content: str, generation: Generation) -> None:
    with pytest.raises(UtrustError) as caught:
        listed(samples.token_list(Token(list_buttons=content), generation=generation))
    assert caught.value.code == "ejbca_rights_excessive"


def test_list_page_that_creates_tokens_is_refused() -> None:
    text = samples.token_list(after='<a href="cryptotoken.jsf?cryptoTokenId=0&amp;ref=cryptotokens">New</a>')
    with pytest.raises(UtrustError) as caught:
        listed(text)
    assert caught.value.code == "ejbca_rights_excessive"


@generations
def test_token_page_with_buttons_of_keys_is_refused(generation: Generation) -> None:
    """Test and Remove stand side by side, and their names mean nothing."""
    with pytest.raises(UtrustError) as caught:
        token_page(Token(rows=(Row("signKey", A),), key_buttons=SUBMIT), generation=generation)
    assert caught.value.code == "ejbca_rights_excessive"


@pytest.mark.parametrize("active", [True, False])
def test_token_page_in_edit_mode_is_refused(active: bool) -> None:
    with pytest.raises(UtrustError) as caught:
        token_page(Token(page_buttons=SUBMIT, active=active))
    assert caught.value.code == "ejbca_rights_excessive"


def test_token_page_of_newer_version_can_have_cancel() -> None:
    token = Token(rows=(Row("signKey", A),), page_buttons='<input type="submit" value="Cancel" />')
    assert token_page(token, generation="G95").rows


def test_page_that_is_nested_too_deeply_is_rejected() -> None:
    with pytest.raises(PageError, match="nested"):
        parse_page("<html>" + "<div>" * 1000 + "</html>")
