# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the pages show of crypto tokens and keys."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from utrust_appliance.ejbca.admin_web.spki import algorithm_of, subject_key_id
from utrust_appliance.ejbca.database import NG
from utrust_appliance.ejbca.errors import TokenOfflineError
from utrust_appliance.errors import OperationError

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.crypto_token import CryptoToken
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode

LIBRARY = "Utimaco"


class PageError(Exception):
    """An error page, which JSF sends with the status 200."""

    def __init__(self, title: str, cause: str) -> None:
        super().__init__(cause)
        self.title, self.cause = title, cause  # `title` is the name of a text


@dataclass(frozen=True)
class KeyFacts:
    """A row of the key table. A placeholder has no `skid`."""

    alias: str
    algorithm: str
    specification: str
    skid: str | None


@dataclass(frozen=True)
class TokenFacts:
    """A crypto token. `keys` is empty if the token is not active, and `failed` is the reason why the keys are missing."""

    id: int
    name: str
    type: str
    slot: int
    active: bool
    auto_activation: bool
    used: bool
    keys: tuple[KeyFacts, ...] = ()
    failed: str | None = None
    library: str = LIBRARY

    def type_text(self, *, shown: bool) -> str:
        return "PKCS#11 NG" if self.type == NG and shown else "PKCS#11"


def visible_tokens(ejbca: EjbcaNode) -> list[CryptoToken]:
    """The tokens that the account may view, by name."""
    hidden = ejbca.state.flags.hidden_tokens
    return sorted(
        (token for token in ejbca.tokens() if token.settings.name not in hidden),
        key=lambda token: token.settings.name.lower(),
    )


def token_id(ejbca: EjbcaNode, token: CryptoToken) -> int:
    return ejbca.state.flags.token_ids.get(token.settings.name, token.settings.id)


def find_token(ejbca: EjbcaNode, number: int) -> CryptoToken | None:
    return next((token for token in visible_tokens(ejbca) if token_id(ejbca, token) == number), None)


def token_facts(ejbca: EjbcaNode, token: CryptoToken, *, with_keys: bool) -> TokenFacts:
    """Read a token, which activates it if it is inactive and has auto-activation."""
    settings, active = token.settings, token.active
    keys, failed = _keys(ejbca, token) if with_keys and active else ((), None)
    return TokenFacts(
        token_id(ejbca, token),
        settings.name,
        settings.type,
        settings.slot,
        active,
        settings.auto_activation,
        ejbca.is_used(settings.name),
        keys,
        failed,
    )


def _keys(ejbca: EjbcaNode, token: CryptoToken) -> tuple[tuple[KeyFacts, ...], str | None]:
    flags = ejbca.state.flags
    rows: list[KeyFacts] = []
    failed = None
    if flags.listing_error is not None:
        failed = f"Failed to load key pairs from CryptoToken: {flags.listing_error}"
    else:
        for alias, key in token.keys().items():
            if alias in flags.unreadable:
                if not flags.since(7, 11):
                    raise PageError("exception", "Cause: java.lang.RuntimeException: the key cannot be read")
                continue
            try:
                skid = subject_key_id(token.public_key(alias))
            except (OperationError, TokenOfflineError):
                continue  # EJBCA drops a key without a public key silently
            rows.append(KeyFacts(alias, *algorithm_of(key.identity, flags), skid))
    known = {row.alias for row in rows}
    rows += [KeyFacts(alias, "RSA", "2048", None) for alias in token.settings.placeholders if alias not in known]
    return tuple(sorted(rows, key=lambda row: row.alias.encode("utf-16-be", "surrogatepass"))), failed
