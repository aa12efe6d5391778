# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A key pair in a crypto token of one node. Private to keyops.utrust.

EJBCA makes the key and cannot say which keys there are; the HSM's inventory says what is true, before and after.
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import AnswerLost, UtrustError, require
from ansible_collections.keyops.utrust.plugins.module_utils._preflight import problems_of_identity
from ansible_collections.keyops.utrust.plugins.module_utils._wait import Patience, until_answered

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import Appliance, HsmKey
    from ansible_collections.keyops.utrust.plugins.module_utils._application import Application


@dc.dataclass(frozen=True)
class TokenKeyOptions:
    """`slot` is the slot of the HSM that the crypto token uses."""

    expect_node: str | None
    crypto_token: str
    slot: int
    alias: str
    key_alg: str
    key_spec: str
    patience: Patience


def generate_key(
    appliance: Appliance, application: Application, options: TokenKeyOptions, *, dry_run: bool
) -> dict[str, t.Any]:
    """Make the key unless the HSM holds one under the alias; after a lost answer, the HSM tells whether it was made."""
    tried = f"generating {options.alias} in crypto token {options.crypto_token} of {options.expect_node or 'the node'}"
    require(tried, problems_of_identity(appliance.node(), options.expect_node))
    if (held := _find(appliance, options, tried)) is not None:
        if not _is_as_asked(held, options):
            raise UtrustError(
                f"{tried}: the HSM holds another kind of key under that alias ({held.type} {held.curve or held.size}); choose another alias",
                code="key_spec_mismatch",
                hsm_key=held.public(),
            )
        return {"changed": False, "hsm_key": held.public()}
    if dry_run:
        return {"changed": True, "hsm_key": None}
    lost: AnswerLost | None = None
    try:
        application.generate(options.crypto_token, options.alias, options.key_alg, options.key_spec)
    except AnswerLost as exc:
        lost = exc
    made = until_answered(lambda: _find(appliance, options, tried), options.patience, tried)
    if made is None:
        if lost is not None:
            raise UtrustError(
                f"{tried}: the answer was lost, and the HSM holds no such key now. Look into EJBCA's log, then run again",
                code="response_lost",
            ) from lost
        raise UtrustError(
            f"{tried}: EJBCA says that it made the key, but slot {options.slot} of the HSM holds none under that alias. "
            "Check the slot of the crypto token",
            code="key_not_found",
        )
    return {"changed": True, "hsm_key": made.public()}


def _is_as_asked(held: HsmKey, options: TokenKeyOptions) -> bool:
    """Curves have several names; the one that the inventory uses is compared, others are EJBCA's to know."""
    if options.key_alg == "RSA":
        return (held.type, str(held.size)) == ("rsa", options.key_spec)
    return held.type == "ec" and (held.curve == options.key_spec or not options.key_spec.startswith("P-"))


def _find(appliance: Appliance, options: TokenKeyOptions, tried: str) -> HsmKey | None:
    held = [key for key in appliance.inventory() if (key.slot, key.label) == (options.slot, options.alias)]
    if len(held) > 1:
        raise UtrustError(
            f"{tried}: slot {options.slot} holds {len(held)} keys under that alias, and nobody can tell which one is meant. Remove all but one",
            code="alias_ambiguous",
        )
    return held[0] if held else None
