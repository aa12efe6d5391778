# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages of EJBCA's Admin Web as data: pure functions. Private to keyops.utrust.

A page is recognized by the ids of its forms, and never by its HTTP status, because EJBCA sends its error pages with status 200.
Cells are read by position, because an administrator can choose one of many languages.
"""

from __future__ import annotations

import re
import typing as t
import urllib.parse

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.rights import (
    check_list_rights,
    check_token_rights,
)
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.tree import Element, PageError
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LONG_TEXT, MAX_TEXT
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

LIST_FORM, TOKEN_FORM, KEYS_FORM = "cryptotokens", "currentCryptoTokenForm", "currentCryptoTokenAliasesForm"
_LIST_COLUMNS, _KEY_COLUMNS = 9, 6
_MAX_ID: t.Final = 2**31


class HomePage(t.NamedTuple):
    """Page 0. None stands for a fact that the page does not show."""

    version: str | None
    host_name: str | None
    server_time: str | None


class ListedToken(t.NamedTuple):
    """A row of the list of crypto tokens. None stands for an id or a state that the page does not show."""

    id: int | None
    name: str
    reference: str | None
    active: bool | None
    auto_activation: bool | None
    reference_type: str | None = None


class KeyRow(t.NamedTuple):
    """A row of a crypto token. `alias` is the exact alias. A placeholder has None instead of a SubjectKeyID."""

    alias: str
    algorithm: str
    specification: str
    subject_key_id: str | None


class TokenPage(t.NamedTuple):
    """The page of a crypto token. If the keys are unknown, `rows` has the value None and `problem` has the reason.

    `needs_authorization` is whether the keys are of an HSM that authorizes each use of a key (CP5).
    """

    name: str
    type: str | None
    active: bool
    auto_activation: bool | None
    used: bool | None
    rows: tuple[KeyRow, ...] | None
    problem: ViewProblem | None
    needs_authorization: bool = False


def one_line(text: str, limit: int = MAX_TEXT) -> str:
    """Return a text for people as one short printable line."""
    return escape_unprintable(" ".join(text.split()))[:limit]


def _exact(text: str) -> str:
    """Return a name in printable form. Only the white space around it is from the page. Raises PageError for a text that cannot be a name."""
    name = escape_unprintable(text.strip())
    if len(name) > MAX_LONG_TEXT:
        raise PageError(f"a name has more than {MAX_LONG_TEXT} characters")
    return name


def describe_page(page: Element) -> str:
    """Return the headings of a page that was not recognized, for people."""
    if page.find_all("div", css="loginPage"):
        return "EJBCA shows its login page"
    headings = [one_line(heading.text) for heading in page.find_all("h1", "h2", "title")[:3]]
    return f"the page shows {', '.join(map(repr, headings))}" if headings else "the page has no heading"


def has_no_session(page: Element) -> bool:
    """Whether a page is the login page or the page of an expired session. The second page is recognized by its English heading only."""
    if any(form.attributes.get("id") in (LIST_FORM, TOKEN_FORM, KEYS_FORM) for form in page.find_all("form")):
        return False
    expired = any(heading.text.strip() == "Session has timed out." for heading in page.find_all("h1"))
    return expired or bool(page.find_all("div", css="loginPage"))


def read_home(page: Element) -> HomePage:
    """Return version, host name and time of page 0. Raises PageError if it is another page."""
    information = page.by_id("information", "div")
    if information is None:
        raise PageError(describe_page(page))
    lines = [" ".join(line.text.split()) for line in information.elements if line.tag == "div"]
    host = lines[0].rpartition(" ")[2] if lines else ""
    time = re.search(r"\d{4}-\d{2}-\d{2}.*", lines[1]) if len(lines) > 1 else None
    welcome = page.by_id("welcome")
    around = next((e for e in page.walk() if welcome in e.elements), None) if welcome is not None else None
    before = around.text.partition(welcome.text)[0] if around is not None and welcome is not None else ""
    version = re.search(r"(?<![\w.])\d+(?:\.\d+)+", before)
    return HomePage(
        version[0][:MAX_TEXT] if version else None,
        one_line(host) if host not in ("", "unknown") else None,
        one_line(time[0]) if time else None,
    )


def read_list(page: Element) -> tuple[ListedToken, ...]:
    """Return the rows of the list of crypto tokens. Raises PageError, and UtrustError (`ejbca_rights_excessive`)."""
    form = page.by_id(LIST_FORM, "form")
    if form is None:
        raise PageError(describe_page(page))
    dummy_header, rows = _grid(form, _LIST_COLUMNS)
    # An empty table has one row with empty cells.
    if len(rows) == 1 and not any(cell.text.strip() or cell.elements for cell in rows[0]):
        rows = []
    check_list_rights(form)
    return tuple(_listed_token(row) for row in rows)


def _listed_token(cells: list[Element]) -> ListedToken:
    if len(cells) < _LIST_COLUMNS:
        raise PageError(f"a crypto token has {len(cells)} cells, at least {_LIST_COLUMNS} are expected")
    # The page shows an empty cell or the picture of an active token, so another cell is unknown.
    auto = _status(cells[6])
    if auto is None and not cells[6].text.strip() and not cells[6].elements:
        auto = False
    reference_type, reference = (one_line(cell.text) or None for cell in cells[3:5])
    return ListedToken(_listed_id(cells[0]), _exact(cells[0].text), reference, _status(cells[5]), auto, reference_type)


def _listed_id(cell: Element) -> int | None:
    """Return the id in the link of a crypto token, or else at the end of the title of its name."""
    found: set[str] = set()
    for link in cell.find_all("a"):
        query = urllib.parse.urlsplit(link.attributes.get("href", "")).query
        found.update(value for name, value in urllib.parse.parse_qsl(query) if name == "cryptoTokenId")
    if not found:
        titles = (re.search(r"(?<![\w-])-?\d+$", e.attributes.get("title", "").strip()) for e in cell.find_all("span"))
        found = {title[0] for title in titles if title}
    if len(found) > 1 or not all(_is_id(text) for text in found):
        raise PageError("the id of a crypto token is not one number")
    return int(found.pop()) if found else None


def _is_id(text: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9]{1,10}", text)) and -_MAX_ID <= int(text) < _MAX_ID and int(text) != 0


def _status(cell: Element) -> bool | None:
    """Return whether a cell has the picture of an active or of an inactive crypto token. None for other content."""
    files = [urllib.parse.urlsplit(e.attributes.get("src", "")).path.rpartition("/")[2] for e in cell.find_all("img")]
    # JSF can add its own ending to the name of a picture.
    states = [
        True if file.startswith("status-ca-active.png") else False if file.startswith("status-ca-offline.png") else None
        for file in files
    ]
    return states[0] if len(states) == 1 else None


def read_token(page: Element, token_id: int) -> TokenPage:
    """Return the page of a crypto token. Raises PageError for another page, and UtrustError (`ejbca_rights_excessive`)."""
    form = page.by_id(TOKEN_FORM, "form")
    shown = page.by_id(f"{TOKEN_FORM}:currentCryptoTokenId", "span") if form is not None else None
    if form is None or shown is None:
        raise PageError(describe_page(page))
    if shown.text.strip() != str(token_id):
        raise PageError(f"the page is that of crypto token {one_line(shown.text)}, requested was {token_id}")
    keys_form = page.by_id(KEYS_FORM, "form")
    check_token_rights(form, keys_form)
    active = _checkbox(form, "currentCryptoTokenActive")
    if active is None:
        raise PageError("the page does not show whether the crypto token is active")
    rows, problem = _keys(keys_form, active)
    name = form.by_id(f"{TOKEN_FORM}:currentCryptoTokenName", "span")
    return TokenPage(
        name=_exact(name.text) if name is not None else "",
        type=_field(form, "currentCryptoTokenType"),
        active=active,
        auto_activation=_checkbox(form, "currentCryptoTokenAutoActivate"),
        used=_checkbox(form, "currentCryptoTokenReferenced"),
        rows=rows,
        problem=problem,
        needs_authorization=bool(rows)
        and keys_form is not None
        and len(_grid(keys_form, _KEY_COLUMNS)[0]) > _KEY_COLUMNS,
    )


def _checkbox(form: Element, name: str) -> bool | None:
    box = form.by_id(f"{TOKEN_FORM}:{name}", "input")
    if box is None or box.attributes.get("type", "").lower() != "checkbox":
        return None
    return "checked" in box.attributes


def _field(form: Element, name: str) -> str | None:
    span = form.by_id(f"{TOKEN_FORM}:{name}", "span")
    return (one_line(span.text) or None) if span is not None else None


def _keys(form: Element | None, active: bool) -> tuple[tuple[KeyRow, ...] | None, ViewProblem | None]:
    """Return the rows, or why they are unknown. An inactive crypto token has no form of keys."""
    if active != (form is not None):
        text = (
            "the page shows the crypto token as active but not the form of its keys"
            if active
            else "the page shows the crypto token as inactive but with the form of its keys"
        )
        return None, ViewProblem("crypto_token_state_contradictory", text)
    if form is None:
        return None, None
    if alerts := form.find_all("td", css="alert"):
        return None, ViewProblem(
            "key_listing_failed", one_line(alerts[0].text, MAX_LONG_TEXT) or "EJBCA shows no reason"
        )
    if not form.find_all("table", css="grid"):
        return (), None
    header, rows = _grid(form, _KEY_COLUMNS)
    if header[0].text.strip():
        raise PageError("the first column of the keys has a title, so the columns are in another order")
    return tuple(_key_row(row, len(header)) for row in rows), None


def _key_row(cells: list[Element], columns: int) -> KeyRow:
    if len(cells) != columns:
        raise PageError(f"a key has {len(cells)} cells, {columns} are expected")
    alias, subject_key_id = cells[1], cells[4].text.strip()
    if alias.elements or not alias.text:
        raise PageError("the cell of an alias is empty or has elements")
    if re.fullmatch(r"[0-9a-f]{40}", subject_key_id):
        found: str | None = subject_key_id
    elif subject_key_id and not cells[4].find_all("span"):
        found = None
    else:
        raise PageError(f"the SubjectKeyID of a key is {one_line(subject_key_id)!r}")
    return KeyRow(alias.text, one_line(cells[2].text), one_line(cells[3].text), found)


def _grid(form: Element, columns: int) -> tuple[list[Element], list[list[Element]]]:
    """Return header cells and rows of the only grid of a form. Raises PageError."""
    grids = form.find_all("table", css="grid")
    if len(grids) != 1:
        raise PageError(f"the form has {len(grids)} tables of keys or crypto tokens, 1 is expected")
    header = [cell for part in grids[0].elements if part.tag == "thead" for cell in part.find_all("th")]
    if len(header) < columns:
        raise PageError(f"the table has {len(header)} columns, at least {columns} are expected")
    bodies = [part for part in grids[0].elements if part.tag == "tbody"]
    rows = [row for body in bodies for row in body.elements if row.tag == "tr"]
    return header, [[cell for cell in row.elements if cell.tag == "td"] for row in rows]
