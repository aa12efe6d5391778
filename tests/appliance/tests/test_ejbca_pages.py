# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages of the simulated Admin Web, as a reader sees them."""

from __future__ import annotations

import re
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.admin_web_client import LIST, TOKEN_PAGE, Browser, Page, text_of
from tests.support.ejbca_client import FIRST, TOKEN

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

FORM, ALIASES = "currentCryptoTokenForm", "currentCryptoTokenAliasesForm"
AWKWARD = ["a b", "a+b", 'x&y<z>"q"\'', " lead", "trail ", "schlüssel", "l" * 128]
KINDS = {"brain": "ec-brainpoolp256r1", "edwards": "ed25519", "exchange": "x25519", "quantum": "ml-dsa-65"}


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, ejbca=True) as running:
        for alias in AWKWARD:
            running.generate_key("node1", alias)
        for alias, kind in KINDS.items():
            running.generate_key("node1", alias, kind)
        running.ejbca("node1", "deactivate")
        running.ejbca("node1", "create_token", name="Backup <1>", slot=1, id=-5, placeholders=["template"])
        running.ejbca("node1", "create_token", name="aManual", slot=1, id=77, auto_activation=False, kind="ng")
        yield running


@pytest.fixture(autouse=True)
def defaults(control: Control) -> Iterator[None]:
    yield
    for node in ("node1", "node2"):
        control.ejbca(node, "flags", reset=True)


def token_id(control: Control, node: str = "node1", name: str = TOKEN) -> int:
    tokens = control.ejbca(node, "status")["crypto_tokens"]
    return next(int(token["id"]) for token in tokens if token["name"] == name)


def labels(page: Page) -> list[str]:
    return [text_of(row[0]) for row in page.cells("cryptotokens")]


def test_main_page_shows_version_host_and_time(control: Control) -> None:
    """The main page shows release, host name and server time."""
    page = Browser(control, "node2")("")
    information = page.by_id("information")
    assert information is not None
    host, time = (text_of(one) for one in information.findall("div"))
    assert page.status == 200
    assert "Version : EJBCA 8.2.0.1 Community" in page.text
    assert host == "Node hostname : node2"
    assert re.fullmatch(r"Server time : \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00", time)


def test_main_page_host_name_and_version_by_flag(control: Control) -> None:
    """Flags set the release and the host name."""
    control.ejbca("node1", "flags", version="7.4.3.2", host_name="ca.example")
    page = Browser(control, "node1")("index.xhtml")
    assert "EJBCA 7.4.3.2 Community" in page.text
    assert "Node hostname : ca.example" in page.text


@pytest.mark.parametrize("suffix", ["xhtml", "jsf"])
def test_list_page_shows_every_token(control: Control, suffix: str) -> None:
    """The list has one row for each crypto token, by name, and one link to its page."""
    page = Browser(control, "node1")(f"cryptotoken/cryptotokens.{suffix}")
    rows = page.cells("cryptotokens")
    assert labels(page) == ["aManual", "Backup <1>", TOKEN]
    assert len(page.heads("cryptotokens")) == 9
    assert [row[0].find("a").get("href") for row in rows] == [  # type: ignore[union-attr]
        f"cryptotoken.jsf?cryptoTokenId={number}&ref=default" for number in (77, -5, token_id(control))
    ]
    assert [row[5].find("img").get("src", "").rpartition("-")[2] for row in rows] == [  # type: ignore[union-attr]
        "offline.png",
        "active.png",
        "active.png",
    ]
    assert [len(list(row[6])) for row in rows] == [0, 1, 1]
    assert [text_of(row[7]) for row in rows] == ["No", "No", "Yes"]
    assert page.buttons() == []


@pytest.mark.parametrize("links", ["title", "none"])
def test_list_page_without_links(control: Control, links: str) -> None:
    """Newer releases can have a list without links. Then the title of the name has the id, or nothing has it."""
    control.ejbca("node1", "flags", generation="G95", list_links=links)
    cell = Browser(control, "node1")(LIST).cells("cryptotokens")[0][0]
    assert (cell.find("a"), text_of(cell)) == (None, "aManual")
    span = cell.find("span")
    assert (span.get("title") if span is not None else None) == (
        "View Crypto Token with ID 77" if links == "title" else None
    )


def test_list_page_hidden_tokens_have_no_row(control: Control) -> None:
    """A list without a visible token has one row with empty cells."""
    control.ejbca("node1", "flags", hidden_tokens=[TOKEN, "aManual"])
    assert labels(Browser(control, "node1")(LIST)) == ["Backup <1>"]
    control.ejbca("node1", "flags", hidden_tokens=[TOKEN, "aManual", "Backup <1>"])
    page = Browser(control, "node1")(LIST)
    assert [[text_of(cell) for cell in row] for row in page.cells("cryptotokens")] == [[""] * 9]
    assert "Could not load" in Browser(control, "node1").token(77).cause


@pytest.mark.parametrize("language", ["en", "de", "fr"])
@pytest.mark.parametrize("generation", ["G8", "G95"])
def test_token_page_shows_every_key(control: Control, generation: str, language: str) -> None:
    """Ids, positions and SubjectKeyIDs are the same in both generations and all languages."""
    control.ejbca("node1", "flags", generation=generation, language=language)
    page = Browser(control, "node1").token(token_id(control))
    assert text_of(page.by_id(f"{FORM}:currentCryptoTokenId")) == str(token_id(control))  # type: ignore[arg-type]
    assert text_of(page.by_id(f"{FORM}:currentCryptoTokenType")) == "PKCS11CryptoToken"  # type: ignore[arg-type]
    assert page.checked("currentCryptoTokenActive")
    assert page.checked("currentCryptoTokenReferenced")
    assert (page.heads(ALIASES)[0], len(page.heads(ALIASES))) == ("", 6)
    hsm = {key["label"] for key in control.keys("node1") if key["slot"] == 0}
    assert set(page.key_ids) == hsm
    assert list(page.key_ids) == sorted(page.key_ids, key=lambda alias: alias.encode("utf-16-be"))
    assert all(re.fullmatch("[0-9a-f]{40}", skid) for skid in page.key_ids.values())
    state = "jakarta" if generation == "G95" else "javax"
    assert f"{state}.faces.ViewState" in page.fields(FORM)
    assert page.fields(FORM)[FORM] == FORM


def test_token_page_key_specifications(control: Control) -> None:
    """Algorithms that the release does not support have empty cells."""
    number = token_id(control)

    def shown(alias: str) -> list[str]:
        return [text_of(cell) for cell in Browser(control, "node1").token(number).key_row(alias)[2:4]]

    assert shown(FIRST) == ["RSA", "3072"]
    assert shown("a b") == ["ECDSA", "P-256 / prime256v1 / secp256r1"]
    assert shown("brain") == ["ECDSA", "brainpoolP256r1"]
    assert shown("edwards") == ["Ed25519", "Ed25519"]
    assert shown("quantum") == shown("exchange") == ["", ""]
    control.ejbca("node1", "flags", version="9.3.7")
    assert shown("quantum") == ["ML-DSA-65", "ML-DSA-65"]


def test_token_page_inactive_has_no_keys(control: Control) -> None:
    """The page of an inactive token has one form, and no list of keys."""
    page = Browser(control, "node1").token(77)
    assert not page.checked("currentCryptoTokenActive")
    assert page.by_id(ALIASES) is None
    assert "only available for active Crypto Tokens" in page.text
    assert text_of(page.by_id(f"{FORM}:currentCryptoTokenType")) == "Pkcs11NgCryptoToken"  # type: ignore[arg-type]


def test_token_page_placeholder_is_no_key(control: Control) -> None:
    """A placeholder is a row without a SubjectKeyID."""
    page = Browser(control, "node1").token(-5)
    assert page.title == "Crypto Token : Backup <1>"
    assert page.key_ids["template"] == "(Not generated)"
    assert page.key_row("template")[4].find("span") is None
    assert page.key_row("template")[5].find("a") is None
    assert "backupKey-2025" not in page.key_ids  # a secret key
    assert "recoveryKey-2025" in page.key_ids


def test_token_page_failed_listing(control: Control) -> None:
    """A failed listing shows the reason, and can still have placeholders."""
    control.ejbca("node1", "flags", listing_error="CKR_DEVICE_ERROR <1>")
    page = Browser(control, "node1").token(-5)
    alert = page.root.find(".//div[@class='message']//td[@class='alert']")
    assert alert is not None
    assert text_of(alert) == "Failed to load key pairs from CryptoToken: CKR_DEVICE_ERROR <1>"
    assert list(page.key_ids) == ["template"]
    assert Browser(control, "node1").token(token_id(control)).cells(ALIASES) == []


def test_token_page_unreadable_key(control: Control) -> None:
    """Before 7.11, a key that cannot be read breaks the page. Later releases do not show the key."""
    number = token_id(control)
    control.ejbca("node1", "flags", unreadable=["a b"])
    assert "a b" not in Browser(control, "node1").token(number).key_ids
    assert Browser(control, "node1").download(number, "a b").status == 500
    control.ejbca("node1", "flags", version="7.5.0")
    broken = Browser(control, "node1").token(number)
    assert (broken.status, broken.title) == (200, "An exception has occurred.")


def test_token_page_cp5_has_two_more_columns(control: Control) -> None:
    """A token of a CP5 HSM has two more columns before the actions."""
    control.ejbca("node1", "flags", cp5=True)
    page = Browser(control, "node1").token(token_id(control))
    assert page.heads(ALIASES)[5:] == ["Padding Scheme", "Key Authorization Key", "Action"]
    assert {len(row) for row in page.cells(ALIASES)} == {8}


@pytest.mark.parametrize("query", ["?cryptoTokenId=0&ref=default", "?cryptoTokenId=abc", ""])
def test_token_page_of_new_token_has_no_id(control: Control, query: str) -> None:
    """Without a valid id, the page is the one of a new token, which has the same form without an id."""
    page = Browser(control, "node1")(f"{TOKEN_PAGE}{query}")
    assert (page.status, page.title) == (200, "New Crypto Token")
    assert page.by_id(FORM) is not None
    assert page.by_id(f"{FORM}:currentCryptoTokenId") is None
    assert page.by_id(ALIASES) is None


def test_session_bean_remembers_token_without_id(control: Control) -> None:
    """Up to 7.10, a request without a valid id shows the last token of the session."""
    control.ejbca("node1", "flags", version="7.10.0.2")
    browser = Browser(control, "node1")
    browser.token(-5)
    assert browser(f"{TOKEN_PAGE}?cryptoTokenId=abc").title == "Crypto Token : Backup <1>"
    browser(LIST)
    assert browser(TOKEN_PAGE).title == "New Crypto Token"


def test_session_bean_repeats_old_token_page(control: Control) -> None:
    """Up to 7.10, a session repeats the page of a token until it opens the list or another token."""
    control.ejbca("node1", "flags", version="7.10.0.2")
    number, browser = token_id(control), Browser(control, "node1")
    assert "late" not in browser.token(number).key_ids
    control.generate_key("node1", "late")
    control.ejbca("node1", "deactivate")
    assert "late" not in browser.token(number).key_ids
    assert "late" in Browser(control, "node1").token(number).key_ids
    browser(LIST)
    assert "late" in browser.token(number).key_ids
    control.delete_key("node1", "late")
    control.ejbca("node1", "deactivate")
    assert "late" in browser.token(number).key_ids
    control.ejbca("node1", "flags", version="7.11.0")
    assert "late" not in browser.token(number).key_ids


# Errors


def test_error_pages_have_status_200(control: Control) -> None:
    """Login page, denied page and exception page have the status 200 and no forms of the asked page."""
    anonymous = Browser(control, "node1", None)(LIST)
    assert (anonymous.status, anonymous.cause) == (200, "No client certificate was presented")
    assert anonymous.root.find(".//div[@class='loginPage']") is not None
    guest = Browser(control, "node1", "guest")(LIST)
    assert (guest.status, guest.title) == (200, "Authorization Denied")
    assert guest.cause == "Cause: You are not authorized to view this page."
    unknown = Browser(control, "node1").token(4711)
    assert (unknown.status, unknown.title) == (200, "An exception has occurred.")
    assert unknown.cause == "Cause: Could not load CryptoToken with cryptoTokenId 4711"
    assert unknown.by_id(FORM) is None
    assert {anonymous.by_id("cryptotokens"), guest.by_id("cryptotokens")} == {None}
    control.ejbca("node1", "flags", version="7.4.3")
    assert "Client certificate or OAuth bearer token required." in Browser(control, "node1", None)(LIST).cause


@pytest.mark.parametrize(
    "path",
    [
        "cryptotoken/unknown.xhtml",
        "cryptotoken/cryptotokens%2exhtml",
        "cryptotoken/cryptotokens.xhtml;jsessionid=1",
        "cryptotoken//cryptotokens.xhtml",
    ],
)
def test_other_paths_are_not_found(control: Control, path: str) -> None:
    """Unknown paths and other spellings of a path are not found."""
    assert Browser(control, "node1")(path).status == 404


def test_other_methods_are_rejected(control: Control) -> None:
    """The pages accept GET, HEAD and POST only."""
    assert [Browser(control, "node1")(LIST, method=method).status for method in ("PUT", "DELETE", "OPTIONS")] == [
        405
    ] * 3
    head = Browser(control, "node1")(LIST, method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_adminweb_without_slash_redirects(control: Control) -> None:
    """The address without a slash redirects to the main page."""
    page = Browser(control, "node1")("", root="/ejbca/adminweb")
    assert (page.status, page.headers["Location"]) == (302, "/ejbca/adminweb/")
