# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A crypto token as one node's application sees it.

As EJBCA's Java PKCS#11 token does, it reads the aliases once, when it is activated, and remembers them: a key that arrives later does not
exist for it until the token is deactivated and activated again. With auto-activation the second half of that happens by itself.
"""

from __future__ import annotations

import contextlib
import typing as t

from utrust_appliance.ejbca import signer
from utrust_appliance.ejbca.errors import EjbcaError, TokenOfflineError
from utrust_appliance.errors import ApiError, OperationError

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.database import SharedDatabase, TokenSettings
    from utrust_appliance.keys import KeyEntry
    from utrust_appliance.node import Node

_CURVES = {"P-256": "p256", "P-384": "p384", "P-521": "p521"}
_CURVES |= {"SECP256R1": "p256", "PRIME256V1": "p256", "SECP384R1": "p384", "SECP521R1": "p521"}


def kind_of(key_alg: str, key_spec: str) -> str:
    """EJBCA's key_alg and key_spec (RSA 3072, EC P-256 or secp256r1) as a kind of key of the HSM."""
    if key_alg.upper() == "RSA" and key_spec in ("2048", "3072", "4096"):
        return f"rsa-{key_spec}"
    if key_alg.upper() in ("EC", "ECDSA") and key_spec.upper() in _CURVES:
        return f"ec-{_CURVES[key_spec.upper()]}"
    raise EjbcaError(400, f"Key algorithm {key_alg[:20]} with key specification {key_spec[:20]} is not supported")


class CryptoToken:
    """The state of one crypto token on one node. It lives in memory: a restart of the application activates anew, or not."""

    def __init__(self, node: Node, database: SharedDatabase, name: str) -> None:
        self._node, self._database, self._name = node, database, name
        self._keys: dict[str, KeyEntry] | None = None

    @property
    def active(self) -> bool:
        """Whether it is active, after an attempt of auto-activation."""
        try:
            self._seen()
        except TokenOfflineError:
            return False
        return True

    def activate(self, code: str) -> None:
        settings = self._settings()
        if not settings.accepts(code):
            raise EjbcaError(403, f"Authentication failed for crypto token {self._name}: the activation code is wrong")
        if self._keys is None:
            self._read(settings)

    def deactivate(self) -> None:
        """With auto-activation, the next use activates it again; it is used at once, as EJBCA's button Reactivate does."""
        settings = self._settings()
        self._keys = None
        if settings.auto_activation:
            with contextlib.suppress(TokenOfflineError):
                self._read(settings)

    def aliases(self) -> list[str]:
        return sorted(self._seen())

    def fingerprint(self, alias: str) -> str | None:
        """Of the key that this node uses under that alias; None where it sees none."""
        key = self._seen().get(alias)
        return key.identity.fingerprint if key else None

    def generate(self, alias: str, kind: str) -> None:
        """A key that this token does not see does not stop it: it makes a second one under the same alias."""
        if alias in self._seen():
            raise EjbcaError(409, f"Alias {alias} is already in use in crypto token {self._name}")
        self._make(alias, kind)

    def replace(self, alias: str, like: str) -> None:
        """What EJBCA does when the test of a next key fails for whatever reason: a new one, like another key, under the same alias."""
        model = self._seen()[like].identity
        kind = f"rsa-{model.size}" if model.type == "rsa" else f"ec-{_CURVES[model.curve or '']}"
        self._make(alias, kind)

    def remove(self, alias: str) -> None:
        key = self._seen().get(alias)
        if key is None:
            raise EjbcaError(404, f"There is no alias {alias} in crypto token {self._name}")
        self._node.hsm.delete(key.identity.ref)
        del self._seen()[alias]

    def key(self, alias: str) -> signer.RsaKey | signer.EcKey:
        """The key for signing, proven to be in the HSM by a test signature."""
        held = self._seen().get(alias)
        if held is None:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} is active, but there is no key with alias {alias} in it"
            )
        try:
            key = signer.private_key(self._node.hsm, held.identity.ref)
            key.sign(b"test of a key pair")
        except (OperationError, ApiError, TypeError) as exc:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} cannot use the key with alias {alias}: {exc}"
            ) from exc
        return key

    # Inside

    def _settings(self) -> TokenSettings:
        return self._database.token(self._name)

    def _seen(self) -> dict[str, KeyEntry]:
        try:
            self._node.require_operational()
        except ApiError as exc:
            raise TokenOfflineError(f"Crypto token {self._name} of {self._node.name} is offline: {exc.detail}") from exc
        settings = self._settings()
        if self._keys is None and settings.auto_activation:
            self._read(settings)
        if self._keys is None:
            raise TokenOfflineError(f"Crypto token {self._name} of {self._node.name} is offline: it is not activated")
        return self._keys

    def _read(self, settings: TokenSettings) -> None:
        hsm = self._node.hsm
        if not any(slot.slot == settings.slot and slot.activated for slot in hsm.slots()):
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} is offline: slot {settings.slot} of its HSM is missing or not activated"
            )
        keys: dict[str, KeyEntry] = {}
        for key in hsm.list_keys():
            if key.identity.slot == settings.slot and key.usable and key.identity.type in ("rsa", "ec"):
                keys.setdefault(key.identity.label, key)
        self._keys = keys

    def _make(self, alias: str, kind: str) -> None:
        try:
            made = self._node.hsm.generate(self._settings().slot, alias, [(alias, kind)])
        except OperationError as exc:
            raise EjbcaError(400, str(exc)) from exc
        except ApiError as exc:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} cannot make a key: {exc.detail}"
            ) from exc
        self._seen()[alias] = made[0]
