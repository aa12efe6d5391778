# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A crypto token of the EJBCA of one node.

It is active in memory only. Its view of the keys depends on its type (`token_view.py`). Every use of an inactive token with auto-activation tries to
activate it with the stored PIN, which spends a PIN try if the slot of this node has another PIN.
"""

from __future__ import annotations

import contextlib
import hashlib
import typing as t

from utrust_appliance.ejbca import signer
from utrust_appliance.ejbca.database import NG
from utrust_appliance.ejbca.errors import EjbcaError, PinError, TokenOfflineError
from utrust_appliance.ejbca.token_view import Keys, NgView, SunView, ViewedKey, keys_in_hsm
from utrust_appliance.errors import ApiError, OperationError

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.database import SharedDatabase, TokenSettings
    from utrust_appliance.ejbca.node_state import NodeState
    from utrust_appliance.node import Node

TEST_DATA = b"test of a key pair"
_CURVES = {"P-256": "p256", "P-384": "p384", "P-521": "p521"}
_CURVES |= {"SECP256R1": "p256", "PRIME256V1": "p256", "SECP384R1": "p384", "SECP521R1": "p521"}


def kind_of(key_alg: str, key_spec: str) -> str:
    """Convert key_alg and key_spec of EJBCA (RSA 3072, EC P-256 or secp256r1) to a key kind of the HSM."""
    if key_alg.upper() == "RSA" and key_spec in ("2048", "3072", "4096"):
        return f"rsa-{key_spec}"
    if key_alg.upper() in ("EC", "ECDSA") and key_spec.upper() in _CURVES:
        return f"ec-{_CURVES[key_spec.upper()]}"
    raise EjbcaError(400, f"Key algorithm {key_alg[:20]} with key specification {key_spec[:20]} is not supported")


class CryptoToken:
    """The in-memory state of a crypto token on one node. After a restart, the token must be activated again."""

    def __init__(self, node: Node, database: SharedDatabase, name: str, state: NodeState) -> None:
        self._node, self._database, self._name, self._state = node, database, name, state
        self._view: SunView | NgView | None = None

    @property
    def settings(self) -> TokenSettings:
        return self._database.token(self._name)

    @property
    def active(self) -> bool:
        """Whether the token is active, after an attempt of auto-activation."""
        try:
            self._used_view()
        except TokenOfflineError:
            return False
        return True

    def activate(self, code: str) -> None:
        """Activate the token with a code that a person entered."""
        digest = hashlib.sha256(code.encode()).hexdigest()
        try:
            if self._view is None:
                self._activate(self.settings, digest)
            else:
                self._login(self.settings, digest)
        except PinError as exc:
            raise EjbcaError(
                403, f"Authentication failed for crypto token {self._name}: the activation code is wrong ({exc})"
            ) from exc

    def deactivate(self) -> None:
        """Deactivate the token. Auto-activation activates it again immediately, like the button Reactivate of EJBCA."""
        settings = self.settings
        self.close()
        self._state.counters["deactivations"] += 1
        if settings.auto_activation:
            with contextlib.suppress(TokenOfflineError):
                self._auto_activate(settings)

    def close(self) -> None:
        """Forget the session and the view of the keys."""
        self._view = None

    def keys(self) -> Keys:
        """The keys that the token lists."""
        return self._used_view().listed()

    def aliases(self) -> list[str]:
        return sorted(self.keys())

    def fingerprint(self, alias: str) -> str | None:
        """The key fingerprint of the cached key with this alias, or None."""
        key = self._used_view().find(alias)
        return key.identity.fingerprint if key else None

    def public_key(self, alias: str) -> bytes:
        """The public key (DER SubjectPublicKeyInfo) of the cached key."""
        key = self._used_view().find(alias)
        if key is None:
            raise TokenOfflineError(f"No key with alias '{alias}'.")
        return key.public

    def curve(self, alias: str) -> str | None:
        key = self._used_view().find(alias)
        return key.identity.curve if key else None

    def generate(self, alias: str, kind: str) -> None:
        """Generate a key. A key that is not in the cache does not prevent a second key under the same alias."""
        if self._used_view().find(alias):
            raise EjbcaError(409, f"Alias {alias} is already in use in crypto token {self._name}")
        self._make(alias, kind)

    def replace(self, alias: str, like: str) -> None:
        """Generate another key under this alias, with the parameters of the key `like`. EJBCA does this if the test of the next key fails."""
        model = self.keys()[like].identity
        kind = f"rsa-{model.size}" if model.type == "rsa" else f"ec-{_CURVES[model.curve or '']}"
        self._make(alias, kind)

    def remove(self, alias: str) -> None:
        key = self._used_view().find(alias)
        if key is None:
            raise EjbcaError(404, f"The alias {alias} does not exist in crypto token {self._name}")
        self._node.hsm.delete(key.identity.ref)
        self._used_view().drop(alias)
        self._state.counters["removed_keys"] += 1

    def key(self, alias: str) -> signer.RsaKey | signer.EcKey:
        """The key for signatures, verified by a test signature in the HSM."""
        cached = self._used_view().find(alias)
        if cached is None:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} is active, but does not contain a key with alias {alias}"
            )
        try:
            key = signer.private_key(self._node.hsm, cached.identity.ref)
            key.sign(TEST_DATA)
        except (OperationError, ApiError, TypeError) as exc:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} cannot use the key with alias {alias}: {exc}"
            ) from exc
        return key

    def test(self, alias: str) -> None:
        """Sign with the key. EJBCA verifies the signature with the public key beside the private key, so any key under this alias passes."""
        self._state.counters["key_tests"] += 1
        cached = self._used_view().find(alias)
        if cached is None:
            raise TokenOfflineError(f"No key with alias '{alias}'.")
        try:
            self._node.hsm.sign(cached.identity.ref, TEST_DATA)
        except (OperationError, ApiError) as exc:
            raise TokenOfflineError(f"Exception testing key: {exc}") from exc

    # Inside

    def _used_view(self) -> SunView | NgView:
        try:
            self._node.require_operational()
        except ApiError as exc:
            raise TokenOfflineError(f"Crypto token {self._name} of {self._node.name} is offline: {exc.detail}") from exc
        if self._view is None:
            settings = self.settings
            if settings.auto_activation and not (self._state.observed and self._state.pins.is_risky(settings.slot)):
                self._auto_activate(settings)
        if self._view is None:
            raise TokenOfflineError(f"Crypto token {self._name} of {self._node.name} is offline: it is not activated")
        return self._view

    def _auto_activate(self, settings: TokenSettings) -> None:
        self._state.counters["auto_activations"] += 1
        try:
            self._activate(settings, settings.code_sha256)
        except PinError as exc:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} is offline: auto-activation failed: {exc}"
            ) from exc

    def _activate(self, settings: TokenSettings, digest: str) -> None:
        hsm, slot, ng = self._node.hsm, settings.slot, settings.type == NG
        if not any(one.slot == slot and one.activated for one in hsm.slots()):
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} is offline: slot {slot} of its HSM is missing or not activated"
            )
        self._login(settings, digest)

        def read() -> Keys:
            return keys_in_hsm(hsm, slot, self._state.certificates, ng=ng)

        self._view = NgView(read, self._state) if ng else SunView(read)

    def _login(self, settings: TokenSettings, digest: str) -> None:
        try:
            self._state.pins.login(settings.slot, digest, settings.code_sha256)
        except PinError:
            self._state.counters["failed_logins"] += 1
            raise

    def _make(self, alias: str, kind: str) -> None:
        settings = self.settings
        ng = settings.type == NG
        try:
            key_id = alias.encode().hex() if ng else None
            (made,) = self._node.hsm.generate(settings.slot, alias, [(alias, kind)], key_id)
        except OperationError as exc:
            raise EjbcaError(400, str(exc)) from exc
        except ApiError as exc:
            raise TokenOfflineError(
                f"Crypto token {self._name} of {self._node.name} cannot generate a key: {exc.detail}"
            ) from exc
        if ng:
            self._state.certificates.set(made.identity.fingerprint, None)
        self._used_view().add(alias, ViewedKey(made.identity, self._node.hsm.public_key(made.identity.ref)))
