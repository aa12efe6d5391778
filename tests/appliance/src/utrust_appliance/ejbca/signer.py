# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys in an HSM as private keys of `cryptography`, whose X.509 builders accept every implementation of its abstract classes.

Only signatures and public keys are supported, because all other operations need the plaintext key.
"""

from __future__ import annotations

import typing as t

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if t.TYPE_CHECKING:
    from utrust_appliance.hsm.base import Hsm
    from utrust_appliance.keys import KeyRef

SignatureHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512
_EC_HASHES: dict[int, SignatureHash] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}


class _InHsm:
    """Base of both key classes. The HSM hashes with SHA-256 (RSA) or with the hash of the curve (EC)."""

    def __init__(self, hsm: Hsm, ref: KeyRef, public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> None:
        self._hsm, self._ref, self._public = hsm, ref, public

    def public_key(self) -> t.Any:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, data: t.Any, *dummy_algorithm: t.Any) -> bytes:
        return self._hsm.sign(self._ref, bytes(data))

    def _reject(self, *dummy_args: t.Any, **dummy_kwargs: t.Any) -> t.NoReturn:
        raise TypeError("a key in an HSM supports signatures only")

    private_bytes = private_numbers = _reject

    def __copy__(self) -> t.Any:
        return self

    def __deepcopy__(self, dummy_memo: t.Any) -> t.Any:
        return self


class RsaKey(_InHsm, rsa.RSAPrivateKey):
    """An RSA key in an HSM."""

    decrypt = _InHsm._reject


class EcKey(_InHsm, ec.EllipticCurvePrivateKey):
    """An EC key in an HSM."""

    exchange = _InHsm._reject

    @property
    def curve(self) -> ec.EllipticCurve:
        return t.cast("ec.EllipticCurvePublicKey", self._public).curve


def private_key(hsm: Hsm, ref: KeyRef) -> RsaKey | EcKey:
    public = serialization.load_der_public_key(hsm.public_key(ref))
    if isinstance(public, rsa.RSAPublicKey):
        return RsaKey(hsm, ref, public)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return EcKey(hsm, ref, public)
    raise TypeError(f"{ref}: a key of this type cannot sign certificates")


def hash_of(key: RsaKey | EcKey) -> SignatureHash:
    """The hash that the HSM uses with this key."""
    return _EC_HASHES[key.key_size] if isinstance(key, EcKey) else hashes.SHA256()
