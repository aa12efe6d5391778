# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main page, the list of crypto tokens, and the page of one crypto token."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime

from utrust_appliance.ejbca.admin_web.facts import PageError, TokenFacts, find_token, token_facts, visible_tokens
from utrust_appliance.ejbca.roles import ACTIVATE, DEACTIVATE, DELETE, GENERATE, MODIFY, REMOVE, TEST, VIEW

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.admin_web.facts import KeyFacts
    from utrust_appliance.ejbca.admin_web.render import Page
    from utrust_appliance.ejbca.admin_web.sessions import Session
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode

NOT_AUTHORIZED = "Cause: You are not authorized to view this page."
Row = dict[str, t.Any]


def home(ejbca: EjbcaNode, session: Session, page: Page, dummy_query: t.Mapping[str, str]) -> str:
    flags = ejbca.state.flags
    return page.render(
        "home.html",
        version=f"EJBCA {flags.release} Community (simulator)",
        common_name=session.common_name,
        host_name=flags.host_name if flags.host_name is not None else ejbca.node.name,
        server_time=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S+00:00"),
    )


def list_page(ejbca: EjbcaNode, session: Session, page: Page, dummy_query: t.Mapping[str, str]) -> str:
    if VIEW not in page.rights:
        raise PageError("denied", NOT_AUTHORIZED)
    session.bean.clear()
    rows = [
        _list_row(page, number, token_facts(ejbca, token, with_keys=False))
        for number, token in enumerate(visible_tokens(ejbca))
    ]
    return page.render("tokens.html", rows=rows, can_modify=MODIFY in page.rights)


def _list_row(page: Page, number: int, token: TokenFacts) -> Row:
    place = f"cryptotokens:{page.idt() if number == 0 else 'j_idt61'}:{number}"
    row: Row = {
        name: getattr(token, name) for name in ("id", "name", "library", "slot", "active", "auto_activation", "used")
    }
    row |= {
        "type_text": token.type_text(shown=page.flags.since(7, 5)),
        "can_activate": not token.active and ACTIVATE in page.rights,
        "can_deactivate": token.active and DEACTIVATE in page.rights,
        "can_delete": DELETE in page.rights,
    }
    if row["can_activate"]:
        row["code_field"] = page.field(place, f"code:{token.name}")
        row["activate"] = page.button(place, "activate", token.name)
    if row["can_deactivate"]:
        row["deactivate"] = page.button(place, "deactivate", token.name)
    if row["can_delete"]:
        row["delete"] = page.button(place, "delete", token.name)
    return row


def token_page(ejbca: EjbcaNode, session: Session, page: Page, query: t.Mapping[str, str]) -> str:
    if VIEW not in page.rights:
        raise PageError("denied", NOT_AUTHORIZED)
    token = _current(ejbca, session, page, query)
    page.view.token = token.name if token else None
    own, aliases = "currentCryptoTokenForm", "currentCryptoTokenAliasesForm"
    values: dict[str, t.Any] = {
        "token": token,
        "ref": query.get("ref", "default"),
        "editing": page.view.editing,
        "can_modify": MODIFY in page.rights,
        "edit_button": None,
        "cancel_button": None,
        "rows": [],
        "failed": token.failed if token else None,
        "remove_selected": None,
        "generate_new": None,
    }
    if page.view.editing:
        values["cancel_button"] = page.button(own, "cancel")
    elif token and MODIFY in page.rights and page.flags.generation == "G8":
        values["edit_button"] = page.button(own, "edit")
    if token and token.active:
        values["rows"] = [_key_row(page, token, number, key) for number, key in enumerate(token.keys)]
        if values["rows"] and REMOVE in page.rights and page.flags.generation == "G8":
            values["remove_selected"] = page.button(aliases, "remove_selected", token.name)
        if GENERATE in page.rights:
            values["alias_field"], values["spec_field"] = page.field(aliases, "alias"), page.field(aliases, "spec")
            values["generate_new"] = page.button(aliases, "generate_new", token.name)
    return page.render("token.html", **values)


def _current(ejbca: EjbcaNode, session: Session, page: Page, query: t.Mapping[str, str]) -> TokenFacts | None:
    """The token of the page, or None for the page of a new token.

    A bean with the scope of the session repeats what it has read before, also for a request without a valid id.
    """
    known: TokenFacts | None = session.bean.get("token") if page.flags.bean_of_session else None
    try:
        number = int(query.get("cryptoTokenId", ""))
    except ValueError:
        number = known.id if known else 0
    if known and known.id == number:
        return known
    session.bean.clear()
    if number == 0:
        return None
    token = find_token(ejbca, number)
    if token is None:
        raise PageError("exception", f"Cause: Could not load CryptoToken with cryptoTokenId {number}")
    session.bean["token"] = facts = token_facts(ejbca, token, with_keys=True)
    return facts


def _key_row(page: Page, token: TokenFacts, number: int, key: KeyFacts) -> Row:
    new = page.flags.generation == "G95"
    place = f"currentCryptoTokenAliasesForm:{'keyPairList' if new else 'j_idt80'}:{number}"
    page.view.fields[f"select:{key.alias}"] = f"{place}:j_idt81"
    row: Row = {name: getattr(key, name) for name in ("alias", "algorithm", "specification", "skid")}
    row |= {"select": f"{place}:j_idt81", "test": None, "remove": None, "generate": None, "download_button": None}

    def button(name: str, stable: str) -> str:
        return page.button(place, name, token.name, key.alias, stable=stable if new else None)

    if TEST in page.rights:
        row["test"] = button("test", "test")
    if REMOVE in page.rights and not new:
        row["remove"] = button("remove", "remove")
    if key.skid is None and GENERATE in page.rights:
        row["generate"] = button("generate", "genFromTemplate")
    if key.skid is not None and new:
        row["download_button"] = button("download", "downPub")
    row["download"] = f"cryptoTokenDownloads?cryptoTokenId={token.id}&alias={key.alias}"
    return row
