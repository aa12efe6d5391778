# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ed25519 keys and signatures. Private to keyops.utrust."""

from __future__ import annotations

import hashlib
import typing as t

if t.TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def verify_ed25519(public_key: str, signature: str, message: bytes) -> bool:
    """Whether an Ed25519 signature (base64) of the message fits the public key (PEM).

    Raises TypeError and ValueError for an invalid public key, and ImportError if `cryptography` is missing.
    """
    import base64
    import binascii

    from cryptography.exceptions import InvalidSignature

    key = _load(public_key)
    try:
        key.verify(base64.b64decode(signature.encode(), validate=True), message)
    except (InvalidSignature, binascii.Error):
        return False
    return True


def public_key_sha256(public_key: str) -> str:
    """Return the key fingerprint of an Ed25519 public key (PEM), which is the same for each spelling of the PEM text.

    Raises TypeError and ValueError for an invalid public key, and ImportError if `cryptography` is missing.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = _load(public_key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def _load(public_key: str) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public_key.encode())
    except UnsupportedAlgorithm as exc:
        raise ValueError("the algorithm is not supported") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("the public key is not an Ed25519 key")
    return key
