# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plaintext keys, which exist inside an HSM only: generation, key fingerprints, signatures.

Key fingerprints follow the contract. Key check values follow PKCS #11 v3.1, 6.3: the first three bytes of an encrypted zero block (AES, 6.13) or
of the SHA-1 of the value (generic secrets, 6.8).
"""

from __future__ import annotations

import hashlib
import secrets
import typing as t

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from utrust_appliance.errors import OperationError
from utrust_appliance.keys import KeyIdentity, KeyRef

CURVES: dict[str, tuple[type[ec.EllipticCurve], hashes.HashAlgorithm]] = {
    "P-256": (ec.SECP256R1, hashes.SHA256()),
    "P-384": (ec.SECP384R1, hashes.SHA384()),
    "P-521": (ec.SECP521R1, hashes.SHA512()),
}
KINDS = ("rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384", "ec-p521", "aes-128", "aes-256", "generic")
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class Facts(t.NamedTuple):
    """The public facts of a key."""

    type: str
    size: int
    curve: str | None
    fingerprint: str
    public: bytes | None

    def identity(self, ref: KeyRef) -> KeyIdentity:
        return KeyIdentity(*ref, self.type, self.size, self.curve, self.fingerprint)


def require_kind(kind: str) -> None:
    if kind not in KINDS:
        raise OperationError(f"The key type {kind} is unknown. Key types: {', '.join(KINDS)}.")


def generate(kind: str) -> tuple[Facts, bytes]:
    """Generate a key. Returns its public facts and its material (PKCS #8 for key pairs, the value for secret keys)."""
    require_kind(kind)
    family, dummy, variant = kind.partition("-")
    if family in ("aes", "generic"):
        material = secrets.token_bytes(int(variant or 256) // 8)
        return facts_of(family, material), material
    key: PrivateKey
    if family == "rsa":
        key = rsa.generate_private_key(65537, int(variant))
    else:
        key = ec.generate_private_key(CURVES[f"P-{variant[1:]}"][0]())
    return facts_of_public(key.public_key()), _pkcs8(key)


def facts_of(key_type: str, material: bytes) -> Facts:
    """The public facts of a key. Raises ValueError if the material is not a key of this type."""
    if key_type == "aes":
        encryptor = Cipher(algorithms.AES(material), modes.ECB()).encryptor()  # by definition
        return Facts("aes", len(material) * 8, None, f"kcv:{encryptor.update(bytes(16))[:3].hex()}", None)
    if key_type == "generic":
        check = hashlib.sha1(material, usedforsecurity=False).digest()[:3]
        return Facts("generic", len(material) * 8, None, f"kcv:{check.hex()}", None)
    return facts_of_public(load_private(material).public_key())


def facts_of_public(key: PublicKey) -> Facts:
    public = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    fingerprint = f"sha256:{hashlib.sha256(public).hexdigest()}"
    if isinstance(key, rsa.RSAPublicKey):
        return Facts("rsa", key.key_size, None, fingerprint, public)
    return Facts("ec", key.curve.key_size, curve_name(key.curve), fingerprint, public)


def curve_name(curve: ec.EllipticCurve) -> str:
    for name, (kind, dummy) in CURVES.items():
        if isinstance(curve, kind):
            return name
    raise ValueError(f"curve {curve.name} is not supported")


def load_private(material: bytes) -> PrivateKey:
    # The skipped checks of RSA parameters take 50 ms a key. The material comes from authenticated encryption.
    key = serialization.load_der_private_key(material, password=None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError(f"{type(key).__name__} is not supported")
    return key


def sign(material: bytes, data: bytes) -> bytes:
    """Sign data. RSA: PKCS #1 v1.5 with SHA-256. EC: ECDSA with the hash of the curve (FIPS 186-5)."""
    key = load_private(material)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(data, ec.ECDSA(CURVES[curve_name(key.curve)][1]))


def _pkcs8(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
