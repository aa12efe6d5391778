# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a crypto token shows of the keys in the HSM. The HSM and the view are separate stores.

`SunView` (PKCS11CryptoToken) copies the keys at the activation. `NgView` (Pkcs11NgCryptoToken) follows the HSM after at most 120 seconds.
"""

from __future__ import annotations

import math
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from utrust_appliance.ejbca.node_state import CertificateObjects, NodeState
    from utrust_appliance.hsm.base import Hsm
    from utrust_appliance.keys import KeyIdentity

CACHE_SECONDS = 120.0
SECRET_TYPES = frozenset({"aes", "des3", "generic"})


class ViewedKey(t.NamedTuple):
    """A key as a token has read it. It stays the same when the HSM changes."""

    identity: KeyIdentity
    public: bytes


Keys = dict[str, ViewedKey]  # alias -> key


def alias_of(key: KeyIdentity, certificates: CertificateObjects, *, ng: bool) -> str | None:
    """The label of the certificate object. Without one, the NG token takes the id of the key as text, and the Sun token ignores the key."""
    label = certificates.label(key)
    if label is not None:
        return label
    return bytes.fromhex(key.id).decode("utf-8", "replace") if ng else None


def keys_in_hsm(hsm: Hsm, slot: int, certificates: CertificateObjects, *, ng: bool) -> Keys:
    """The usable key pairs of a slot. Secret keys and damaged keys are not shown."""
    keys: Keys = {}
    for key in hsm.list_keys():
        if key.identity.slot == slot and key.usable and key.identity.type not in SECRET_TYPES:
            alias = alias_of(key.identity, certificates, ng=ng)
            if alias is not None and alias not in keys:
                keys[alias] = ViewedKey(key.identity, hsm.public_key(key.identity.ref))
    return keys


class SunView:
    """The keys at the last activation, and keys that this token generated since then."""

    def __init__(self, read: Callable[[], Keys]) -> None:
        self._keys = read()

    def listed(self) -> Keys:
        return self._keys

    def find(self, alias: str) -> ViewedKey | None:
        return self._keys.get(alias)

    def add(self, alias: str, key: ViewedKey) -> None:
        self._keys[alias] = key

    def drop(self, alias: str) -> None:
        self._keys.pop(alias, None)


class NgView:
    """A cache of the HSM. A key that is replaced under the same alias stays stale, because a lookup of a cached object ignores the time."""

    def __init__(self, read: Callable[[], Keys], state: NodeState) -> None:
        self._read, self._state = read, state
        self._objects: Keys = {}
        self._missing: dict[str, float] = {}
        self._aliases: list[str] = []
        self._listed_at = -math.inf

    def _fresh(self, since: float) -> bool:
        life = CACHE_SECONDS if self._state.flags.since(7, 8, 2) else math.inf
        return self._state.clock.now() - since < life

    def listed(self) -> Keys:
        if not self._fresh(self._listed_at):
            found = self._read()
            for alias, key in found.items():
                self._objects.setdefault(alias, key)
            self._aliases, self._listed_at = list(found), self._state.clock.now()
            self._missing.clear()
        return {alias: self._objects[alias] for alias in self._aliases}

    def find(self, alias: str) -> ViewedKey | None:
        if alias in self._objects:
            return self._objects[alias]
        if self._fresh(self._missing.get(alias, -math.inf)):
            return None
        found = self._read().get(alias)
        if found is None:
            self._missing[alias] = self._state.clock.now()
        else:
            self._objects[alias] = found
        return found

    def add(self, alias: str, key: ViewedKey) -> None:
        self.listed()
        self._objects[alias] = key
        self._missing.pop(alias, None)
        if alias not in self._aliases:
            self._aliases.append(alias)

    def drop(self, alias: str) -> None:
        self._objects.pop(alias, None)
        if alias in self._aliases:
            self._aliases.remove(alias)
