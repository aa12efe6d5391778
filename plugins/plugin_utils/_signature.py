# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ed25519 signatures. Private to keyops.utrust."""

from __future__ import annotations


def verify_ed25519(public_key: str, signature: str, message: bytes) -> bool:
    """Whether an Ed25519 signature (base64) of the message fits the public key (PEM).

    Raises TypeError and ValueError for an invalid public key, and ImportError if `cryptography` is missing.
    """
    import base64
    import binascii

    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public_key.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("the public key is not an Ed25519 key")
    try:
        key.verify(base64.b64decode(signature.encode(), validate=True), message)
    except (InvalidSignature, binascii.Error):
        return False
    return True
