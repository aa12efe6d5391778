# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plaintext keys, which exist inside an HSM only: generation, key fingerprints, signatures.

Key fingerprints follow the contract. Key check values follow PKCS #11 v3.1, 6.3: the first three bytes of an encrypted zero block (AES, 6.13, and
DES3, 6.16) or of the SHA-1 of the value (generic secrets, 6.8).
"""

from __future__ import annotations

import hashlib
import importlib
import secrets
import typing as t

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from utrust_appliance.errors import OperationError
from utrust_appliance.keys import KeyIdentity, KeyRef

CURVES: dict[str, tuple[type[ec.EllipticCurve], hashes.HashAlgorithm]] = {
    "P-256": (ec.SECP256R1, hashes.SHA256()),
    "P-384": (ec.SECP384R1, hashes.SHA384()),
    "P-521": (ec.SECP521R1, hashes.SHA512()),
    "secp256k1": (ec.SECP256K1, hashes.SHA256()),
    "brainpoolP256r1": (ec.BrainpoolP256R1, hashes.SHA256()),
}
EC_KINDS = {f"ec-{name.replace('P-', 'p').lower()}": name for name in CURVES}
# DES3 with 112 bits has the first key again as the third key.
SECRETS = {"aes-128": 16, "aes-192": 24, "aes-256": 32, "des3-112": 16, "des3-168": 24, "generic": 32}
PublicKey = t.Any  # `cryptography` does not have a common base of public keys
PrivateKey = t.Any


class Algorithm(t.NamedTuple):
    """A type of key pairs without further parameters: the classes of `cryptography`, and the members of the contract."""

    private: t.Any
    public: t.Any
    type: str
    size: int | None
    curve: str | None


def _post_quantum(kind: str) -> dict[str, Algorithm]:
    """The parameter sets of a type that the installed `cryptography` supports, for example of ML-DSA."""
    name = kind.upper()
    try:
        module = importlib.import_module(f"cryptography.hazmat.primitives.asymmetric.{kind.replace('-', '')}")
    except ImportError:
        return {}
    found = {}
    for size in ("44", "65", "87", "512", "768", "1024"):
        private = getattr(module, f"{name.replace('-', '')}{size}PrivateKey", None)
        if private:
            public = getattr(module, f"{name.replace('-', '')}{size}PublicKey")
            found[f"{kind}-{size}"] = Algorithm(private, public, kind, None, f"{name}-{size}")
    return found


ALGORITHMS = {
    "ed25519": Algorithm(ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey, "eddsa", 256, "Ed25519"),
    "ed448": Algorithm(ed448.Ed448PrivateKey, ed448.Ed448PublicKey, "eddsa", 456, "Ed448"),
    "x25519": Algorithm(x25519.X25519PrivateKey, x25519.X25519PublicKey, "x25519", 256, None),
    "x448": Algorithm(x448.X448PrivateKey, x448.X448PublicKey, "x448", 448, None),
    **_post_quantum("ml-dsa"),
    **_post_quantum("ml-kem"),
}
KINDS = ("rsa-2048", "rsa-3072", "rsa-4096", *EC_KINDS, *ALGORITHMS, *SECRETS)
SIGNATURE_TYPES = frozenset({"rsa", "ec", "eddsa", "ml-dsa"})


class Facts(t.NamedTuple):
    """The public facts of a key."""

    type: str
    size: int | None
    curve: str | None
    fingerprint: str
    public: bytes | None

    def identity(self, ref: KeyRef) -> KeyIdentity:
        return KeyIdentity(ref.slot, ref.label, ref.id, self.type, self.size, self.curve, self.fingerprint)


def require_kind(kind: str, kinds: t.Collection[str] = KINDS) -> None:
    """Raises OperationError if an HSM with these kinds cannot generate the key."""
    if kind not in KINDS:
        raise OperationError(f"The key type {kind} is unknown. Key types: {', '.join(kinds)}.")
    if kind not in kinds:
        raise OperationError(f"This HSM backend does not support the key type {kind}. Key types: {', '.join(kinds)}.")


def generate(kind: str) -> tuple[Facts, bytes]:
    """Generate a key. Returns its public facts and its material (PKCS #8 for key pairs, the value for secret keys)."""
    require_kind(kind)
    family, dummy, variant = kind.partition("-")
    if kind in SECRETS:
        material = secrets.token_bytes(SECRETS[kind])
        if family == "des3":
            material = with_odd_parity(material)
        return facts_of(family, material), material
    key: PrivateKey
    if family == "rsa":
        key = rsa.generate_private_key(65537, int(variant))
    elif kind in EC_KINDS:
        key = ec.generate_private_key(CURVES[EC_KINDS[kind]][0]())
    else:
        key = ALGORITHMS[kind].private.generate()
    return facts_of_public(key.public_key()), _pkcs8(key)


def with_odd_parity(key: bytes) -> bytes:
    """Set the parity bits of a DES3 key (FIPS 46-3), which are not part of its strength."""
    return bytes(byte & 0xFE | (byte >> 1).bit_count() % 2 ^ 1 for byte in key)


def facts_of(key_type: str, material: bytes) -> Facts:
    """The public facts of a key. Raises ValueError if the material is not a key of this type."""
    if key_type == "aes":
        return Facts("aes", len(material) * 8, None, _block_check_value(algorithms.AES(material)), None)
    if key_type == "des3":
        if len(material) not in (16, 24):
            raise ValueError(f"{len(material)} bytes are not a DES3 key")
        whole = material + material[: 24 - len(material)]
        return Facts("des3", len(material) * 7, None, _block_check_value(TripleDES(whole)), None)
    if key_type == "generic":
        check = hashlib.sha1(material, usedforsecurity=False).digest()[:3]
        return Facts("generic", len(material) * 8, None, f"kcv:{check.hex()}", None)
    return facts_of_public(load_private(material).public_key())


def _block_check_value(algorithm: t.Any) -> str:
    encryptor = Cipher(algorithm, modes.ECB()).encryptor()  # by definition
    return f"kcv:{encryptor.update(bytes(algorithm.block_size // 8))[:3].hex()}"


def facts_of_public(key: PublicKey) -> Facts:
    public = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    fingerprint = f"sha256:{hashlib.sha256(public).hexdigest()}"
    if isinstance(key, rsa.RSAPublicKey):
        return Facts("rsa", key.key_size, None, fingerprint, public)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return Facts("ec", key.curve.key_size, curve_name(key.curve), fingerprint, public)
    for known in ALGORITHMS.values():
        if isinstance(key, known.public):
            return Facts(known.type, known.size, known.curve, fingerprint, public)
    raise ValueError(f"{type(key).__name__} is not supported")


def curve_name(curve: ec.EllipticCurve) -> str:
    for name, (kind, dummy) in CURVES.items():
        if isinstance(curve, kind):
            return name
    raise ValueError(f"curve {curve.name} is not supported")


def load_private(material: bytes) -> PrivateKey:
    # The skipped checks of RSA parameters take 50 ms a key. The material comes from authenticated encryption.
    key = serialization.load_der_private_key(material, password=None, unsafe_skip_rsa_key_validation=True)
    known = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, *(one.private for one in ALGORITHMS.values()))
    if not isinstance(key, known):
        raise ValueError(f"{type(key).__name__} is not supported")
    return key


def sign(material: bytes, data: bytes) -> bytes:
    """Sign data. RSA: PKCS #1 v1.5 with SHA-256. EC: ECDSA with the hash of the curve (FIPS 186-5). EdDSA and ML-DSA: without a context."""
    key = load_private(material)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(CURVES[curve_name(key.curve)][1]))
    return bytes(key.sign(data))


def _pkcs8(key: PrivateKey) -> bytes:
    return bytes(
        key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
