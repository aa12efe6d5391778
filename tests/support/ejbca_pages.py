# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sample pages of EJBCA's Admin Web in both generations, written by their description. No page is a copy.

`G8` are the pages of versions 7.4 to 9.3, and `G95` those of 9.5 and later.
"""

from __future__ import annotations

import dataclasses as dc
import html
import typing as t

from tests.support.fakes import make_response

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

Generation = t.Literal["G8", "G95"]
GENERATIONS: tuple[Generation, ...] = ("G8", "G95")
ACTIVE, OFFLINE = "status-ca-active.png", "status-ca-offline.png"
TITLES = {
    "en": ("View Crypto Token with ID", "Alias", "Yes", "(Not generated)", "Node hostname", "Server time"),
    "de": ("Krypto-Token anzeigen,\nID", "Name\nder Taste", "Ja", "(Nicht erzeugt)", "Rechner", "Zeit des\nServers"),
    "fr": ("Voir le jeton n\u00b0", "Alias", "Oui", "(Non g\u00e9n\u00e9r\u00e9)", "N\u0153ud", "Heure"),
}


@dc.dataclass(frozen=True)
class Row:
    """A key. Without SubjectKeyID it is a placeholder."""

    alias: str
    subject_key_id: str | None
    algorithm: str = "ECDSA"
    specification: str = "P-256 / prime256v1"


@dc.dataclass(frozen=True)
class Token:
    """A crypto token and how its pages show it. `buttons` are drawn for an account that may do more than read."""

    id: int = -1234567
    name: str = "SigningToken"
    rows: tuple[Row, ...] = ()
    active: bool = True
    auto: bool = True
    link: t.Literal["link", "title", "none"] = "link"
    list_buttons: str = ""
    page_buttons: str = ""
    key_buttons: str = ""
    alert: str = ""
    cp5: bool = False
    shows_form: bool | None = None
    changes: dict[str, str] = dc.field(default_factory=dict)


def page(content: str, generation: Generation = "G8") -> str:
    """Return a page with menus, tables and forms around the content."""
    namespace = "javax" if generation == "G8" else "jakarta"
    menu = '<ul id="menu"><li><a href="/ejbca/adminweb/cryptotoken/cryptotokens.xhtml">Crypto</a><li><br>'
    other = (
        f'<form id="menuform" name="menuform"><input type="hidden" name="{namespace}.faces.ViewState" value="1:2" />'
    )
    other += (
        '<input type="submit" value="Search" /><table class="grid"><tbody><tr><td>0</td></tr></tbody></table></form>'
    )
    return (
        f'<?xml version="1.0"?><!DOCTYPE html><html><head><title>EJBCA</title><script>if (1 < 2) {{ "<form id=\\"cryptotokens\\">" }}</script></head>'
        f'<body>{menu}{other}<div id="messages"></div><div id="content">{content}</div><div id="footer">node9</div></body></html>'
    )


def home(*, version: str = "EJBCA 8.2.0.1 Community (a1b2)", host: str = "node1", language: str = "en") -> str:
    dummy, dummy, dummy, dummy, node, time = TITLES[language]
    return page(
        f'Version {version}<h3 id="welcome">Welcome 10.0.0.9 to EJBCA</h3><div id="information"><div>{node} {host}</div>'
        f"<div>{time} 2026-05-01 12:00:00+00:00</div></div>"
    )


def token_list(*tokens: Token, language: str = "en", generation: Generation = "G8", after: str = "") -> str:
    head = "".join(f'<th scope="col">{html.escape(TITLES[language][1])}</th>' for dummy in range(9))
    rows = "".join(_list_row(token, language) for token in tokens) or "<tr>" + "<td></td>" * 9 + "</tr>"
    table = f'<table class="grid"><thead>\n<tr>\n{head}\n</tr></thead>\n<tbody>\n{rows}</tbody></table>'
    return page(f'<h1>Tokens</h1><form id="cryptotokens" name="cryptotokens">{table}{after}</form>', generation)


def _list_row(token: Token, language: str) -> str:
    view, yes = TITLES[language][0], TITLES[language][2]
    name = html.escape(token.name)
    if token.link != "none":
        name = f'<span title="{html.escape(view)} {token.id}">{name}</span>'
    if token.link == "link":
        name = f'<a href="cryptotoken.jsf?cryptoTokenId={token.id}&amp;ref=default">{name}</a>'
    picture = f'<img class="statusIcon" src="/ejbca/adminweb/images/{ACTIVE if token.active else OFFLINE}" />'
    auto = f'<img class="statusIcon" src="/ejbca/adminweb/images/{ACTIVE}" />' if token.auto else ""
    cells = [name, "PKCS#11", "lib", "Slot ID", "1", picture, auto, yes, token.list_buttons]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"


def token_page(token: Token, *, language: str = "en", generation: Generation = "G8") -> str:
    namespace = "javax" if generation == "G8" else "jakarta"
    form = "currentCryptoTokenForm"
    spans = "".join(
        f'<tr><td>x</td><td><span id="{form}:currentCryptoToken{name}">{html.escape(value)}</span></td></tr>'
        for name, value in {
            "Id": str(token.id),
            "Name": token.name,
            "Type": "PKCS11CryptoToken",
            **token.changes,
        }.items()
    )
    boxes = "".join(
        f'<input id="{form}:currentCryptoToken{name}" type="checkbox" disabled="disabled"{" checked" * value} />'
        for name, value in {"Active": token.active, "AutoActivate": token.auto, "Referenced": True}.items()
    )
    state = f'<input type="hidden" name="{namespace}.faces.ViewState" value="3:4" />'
    first = f'<form id="{form}"><table><tbody>{spans}</tbody></table>{boxes}{token.page_buttons}{state}</form>'
    shown = token.active if token.shows_form is None else token.shows_form
    second = _keys_form(token, language, generation) if shown else "<p>only for active tokens</p>"
    return page(f"<h1>Token : {html.escape(token.name)}</h1>{first}{second}", generation)


def _keys_form(token: Token, language: str, generation: Generation) -> str:
    titles = ["", *(TITLES[language][1],) * (7 if token.cp5 else 5)]
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
    rows = "".join(_key_row(token, number, language, generation) for number in range(len(token.rows)))
    name = ' id="currentCryptoTokenAliasesForm:keyPairList"' if generation == "G95" else ""
    table = (
        f'<table class="grid"{name}><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>' if token.rows else ""
    )
    alert = f'<div class="message"><table><tr><td class="alert">{html.escape(token.alert)}</td></tr></table></div>'
    return f'<form id="currentCryptoTokenAliasesForm">{alert if token.alert else ""}{table}{token.key_buttons}</form>'


def _key_row(token: Token, number: int, language: str, generation: Generation) -> str:
    row = token.rows[number]
    # The page prints another link than the one that fetches the key.
    link = f'<a href="cryptoTokenDownloads?cryptoTokenId={token.id}&amp;alias={html.escape(row.alias)}">Download</a>'
    button = f'<input type="submit" id="currentCryptoTokenAliasesForm:keyPairList:{number}:downPub" value="Download" />'
    shown = f'<span style="font-family: monospace;">{row.subject_key_id}</span>'
    action = link if generation == "G8" else button
    if row.subject_key_id is None:
        shown, action = TITLES[language][3], '<input type="submit" disabled="disabled" value="Test" />'
    cells = ['<input type="checkbox" />', *map(html.escape, (row.alias, row.algorithm, row.specification)), shown]
    cells += ["PKCS#1", "none"] if token.cp5 else []
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in [*cells, action]) + "</tr>"


def html_response(text: str, status: int = 200, **headers: str) -> HttpResponse:
    return make_response(status, text.encode(), media_type="text/html", **headers)
