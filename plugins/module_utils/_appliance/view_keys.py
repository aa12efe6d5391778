# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of a node as its EJBCA shows them: pure functions. Private to keyops.utrust.

A view is never a node without keys: a crypto token that cannot be read makes the keys of the node unknown.
"""

from __future__ import annotations

import collections
import re
import typing as t
import zlib

from ansible_collections.keyops.utrust.plugins.module_utils._appliance import fields, schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN, HsmKey, Slot
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LABEL

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import EjbcaView, ViewKey, ViewToken

#: Names of algorithms on the pages of EJBCA. The other names become lowercase words.
#: The class of EJBCA whose keys are in the database and in no HSM. Such a crypto token is active on a node whose HSM has no keys.
SOFT: t.Final = "SoftCryptoToken"
TYPES: t.Final = {"ecdsa": "ec", "ec": "ec", "rsa": "rsa", "dsa": "dsa"}


def unreadable(view: EjbcaView) -> ViewProblem | None:
    """Return why some keys are unknown, or None. A crypto token that people have to activate is inactive for certain."""
    for token in view.tokens:
        if token.problem is not None:
            return token.problem
        if token.keys is None and not _left_inactive(token):
            return ViewProblem("ejbca_view_unknown", f"the keys of crypto token {token.name} could not be read")
    return None


def _left_inactive(token: ViewToken) -> bool:
    return token.active is False and token.auto_activation is False


def keys_of(view: EjbcaView) -> tuple[HsmKey, ...]:
    """Return the key pairs of all crypto tokens that are active. Two crypto tokens on one slot show the same keys."""
    found = (_key(slot_number(token), key) for token in _in_hsm(view) for key in token.keys or () if _is_key(key))
    return tuple(dict.fromkeys(found))


def _in_hsm(view: EjbcaView) -> list[ViewToken]:
    return [token for token in view.tokens if token.type != SOFT]


def _is_key(key: ViewKey) -> bool:
    """Whether the row is a key, and not the placeholder of a key that nobody generated."""
    return key.subject_key_id is not None or key.problem is not None


def _key(slot: int, key: ViewKey) -> HsmKey:
    """Return the key. Its fingerprint is its whole identity, because the other facts of the page change with the version of EJBCA."""
    word = re.sub(r"[^a-z0-9_.-]", "", key.algorithm.lower())[:32]
    kind = TYPES.get(word, word)
    return HsmKey(
        slot=slot,
        label=key.alias[:MAX_LABEL],
        id="",
        type=kind if fields.KEY_TYPE.fullmatch(kind) else UNKNOWN,
        size=None,
        curve=None,
        fingerprint=key.fingerprint or UNKNOWN,
    )


def slot_number(token: ViewToken) -> int:
    """Return the number of the slot. A slot that EJBCA names by its label gets a number of this label, which is the same on all nodes."""
    reference = (token.reference or "").strip()
    if reference.isdecimal() and reference.isascii() and int(reference[:10]) <= schema.MAX_SLOT_NUMBER:
        return int(reference[:10])
    return zlib.crc32(reference.encode()) % schema.MAX_SLOT_NUMBER


def slots_of(view: EjbcaView) -> tuple[Slot, ...]:
    """Return each slot that crypto tokens use. The label has the names of the crypto tokens, and None stands for an unknown fact."""
    tokens: dict[int, list[ViewToken]] = collections.defaultdict(list)
    for token in _in_hsm(view):
        tokens[slot_number(token)].append(token)
    return tuple(_slot(number, tokens[number]) for number in sorted(tokens))


def _slot(number: int, tokens: t.Sequence[ViewToken]) -> Slot:
    read = [token for token in tokens if token.keys is not None]
    activated = True if read else (False if all(map(_left_inactive, tokens)) else None)
    settings = {{True: "auto", False: "manual", None: UNKNOWN}[token.auto_activation] for token in tokens}
    activation = settings.pop() if len(settings) == 1 else UNKNOWN
    names = ", ".join(token.name for token in tokens)
    count = len({key.alias for token in read for key in token.keys or () if _is_key(key)}) if read else None
    return Slot(number, names, activation, activated, count)
