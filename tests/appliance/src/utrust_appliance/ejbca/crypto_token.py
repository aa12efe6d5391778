# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A crypto token of the EJBCA of one node.

Like the Java PKCS #11 token of EJBCA, it reads and caches the aliases when it is activated. It does not find new keys until it is deactivated and
activated again. Auto-activation activates the token again.
"""

from __future__ import annotations

import contextlib
import typing as t

from utrust_appliance.ejbca import signer
from utrust_appliance.ejbca.errors import EjbcaError, TokenOfflineError
from utrust_appliance.errors import ApiError, OperationError

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.database import SharedDatabase, TokenSettings
    from utrust_appliance.keys import KeyEntry, KeyIdentity
    from utrust_appliance.node import Node

_CURVES = {"P-256": "p256", "P-384": "p384", "P-521": "p521"}
_CURVES |= {"SECP256R1": "p256", "PRIME256V1": "p256", "SECP384R1": "p384", "SECP521R1": "p521"}


def _is_supported(key: KeyIdentity) -> bool:
    """Whether the simulated EJBCA can use keys of this type."""
    return key.type == "rsa" or (key.type == "ec" and key.curve in _CURVES)


def kind_of(key_alg: str, key_spec: str) -> str:
    """Convert key_alg and key_spec of EJBCA (RSA 3072, EC P-256 or secp256r1) to a key kind of the HSM."""
    if key_alg.upper() == "RSA" and key_spec in ("2048", "3072", "4096"):
        return f"rsa-{key_spec}"
    if key_alg.upper() in ("EC", "ECDSA") and key_spec.upper() in _CURVES:
        return f"ec-{_CURVES[key_spec.upper()]}"
    raise EjbcaError(400, f"Key algorithm {key_alg[:20]} with key specification {key_spec[:20]} is not supported")


class CryptoToken:
    """The in-memory state of a crypto token on one node. After a restart, the token must be activated again."""

    def __init__(self, node: Node, database: SharedDatabase, name: str) -> None:
        self._node, self._database, self._name = node, database, name
        self._keys: dict[str, KeyEntry] | None = None

    @property
    def active(self) -> bool:
        """Whether the token is active, after an attempt of auto-activation."""
        try:
            self._cached_keys()
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
        """Deactivate the token. Auto-activation activates it again immediately, like the button Reactivate of EJBCA."""
        settings = self._settings()
        self._keys = None
        if settings.auto_activation:
            with contextlib.suppress(TokenOfflineError):
                self._read(settings)

    def aliases(self) -> list[str]:
        return sorted(self._cached_keys())

    def fingerprint(self, alias: str) -> str | None:
        """The key fingerprint of the cached key with this alias, or None."""
        key = self._cached_keys().get(alias)
        return key.identity.fingerprint if key else None

    def generate(self, alias: str, kind: str) -> None:
        """Generate a key. A key that is not in the cache does not prevent a second key under the same alias."""
        if alias in self._cached_keys():
            raise EjbcaError(409, f"Alias {alias} is already in use in crypto token {self._name}")
        self._make(alias, kind)

    def replace(self, alias: str, like: str) -> None:
        """Generate another key under this alias, with the parameters of the key `like`. EJBCA does this if the test of the next key fails."""
        model = self._cached_keys()[like].identity
        kind = f"rsa-{model.size}" if model.type == "rsa" else f"ec-{_CURVES[model.curve or '']}"
        self._make(alias, kind)

    def remove(self, alias: str) -> None:
        key = self._cached_keys().get(alias)
        if key is None:
            raise EjbcaError(404, f"The alias {alias} does not exist in crypto token {self._name}")
        self._node.hsm.delete(key.identity.ref)
        del self._cached_keys()[alias]

    def key(self, alias: str) -> signer.RsaKey | signer.EcKey:
        """The key for signatures, verified by a test signature in the HSM."""
        cached = self._cached_keys().get(alias)
        if cached is None:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} is active, but does not contain a key with alias {alias}"
            )
        try:
            key = signer.private_key(self._node.hsm, cached.identity.ref)
            key.sign(b"test of a key pair")
        except (OperationError, ApiError, TypeError) as exc:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} cannot use the key with alias {alias}: {exc}"
            ) from exc
        return key

    # Inside

    def _settings(self) -> TokenSettings:
        return self._database.token(self._name)

    def _cached_keys(self) -> dict[str, KeyEntry]:
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
            if key.identity.slot == settings.slot and key.usable and _is_supported(key.identity):
                keys.setdefault(key.identity.label, key)
        self._keys = keys

    def _make(self, alias: str, kind: str) -> None:
        try:
            made = self._node.hsm.generate(self._settings().slot, alias, [(alias, kind)])
        except OperationError as exc:
            raise EjbcaError(400, str(exc)) from exc
        except ApiError as exc:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} cannot generate a key: {exc.detail}"
            ) from exc
        self._cached_keys()[alias] = made[0]
