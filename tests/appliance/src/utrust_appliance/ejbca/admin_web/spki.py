# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Public keys as EJBCA shows them: SubjectKeyID, algorithm, specification, and PEM with named or explicit EC parameters (RFC 5480, X9.62)."""

from __future__ import annotations

import base64
import hashlib
import textwrap
import typing as t

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.flags import Flags
    from utrust_appliance.keys import KeyIdentity

#: Texts of curves, as Bouncy Castle 1.7x orders the names.
_CURVE_TEXTS = {
    "P-256": "P-256 / prime256v1 / secp256r1",
    "P-384": "P-384 / secp384r1",
    "P-521": "P-521 / secp521r1",
}
#: p, a, b, x and y of the base point, order n, in hexadecimal (FIPS 186-4, D.1.2).
_P256 = (
    "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
    "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
    "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
)
_P384 = (
    "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
    "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000fffffffc",
    "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
    "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
    "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
)
_EXPLICIT = {"P-256": _P256, "P-384": _P384}
_EC_PUBLIC_KEY = bytes.fromhex("06072a8648ce3d0201")
_PRIME_FIELD = bytes.fromhex("06072a8648ce3d0101")


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def _integer(number: str) -> bytes:
    value = bytes.fromhex(number).lstrip(b"\0") or b"\0"
    return _der(2, b"\0" + value if value[0] & 0x80 else value)


def _content(data: bytes) -> tuple[bytes, bytes]:
    """The content of the first element, and what follows it."""
    length, start = data[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start], "big")
    return data[start : start + length], data[start + length :]


def _bit_string(spki: bytes) -> bytes:
    """The contents of the bit string of a SubjectPublicKeyInfo."""
    dummy_algorithm, rest = _content(_content(spki)[0])
    return _content(rest)[0][1:]


def subject_key_id(spki: bytes) -> str:
    """Method 1 of RFC 5280: it does not depend on the form of EC parameters."""
    return hashlib.sha1(_bit_string(spki), usedforsecurity=False).hexdigest()


def with_explicit_parameters(spki: bytes, curve: str | None) -> bytes:
    """The same public key with the parameters of its curve instead of the name. Other keys are unchanged."""
    if curve not in _EXPLICIT:
        return spki
    p, a, b, x, y, n = _EXPLICIT[curve]
    field = _der(0x30, _PRIME_FIELD + _integer(p))
    equation = _der(0x30, _der(4, bytes.fromhex(a)) + _der(4, bytes.fromhex(b)))
    base = _der(4, b"\4" + bytes.fromhex(x) + bytes.fromhex(y))
    parameters = _der(0x30, _integer("01") + field + equation + base + _integer(n) + _integer("01"))
    return _der(0x30, _der(0x30, _EC_PUBLIC_KEY + parameters) + _der(3, b"\0" + _bit_string(spki)))


def pem(spki: bytes) -> bytes:
    lines = textwrap.wrap(base64.b64encode(spki).decode(), 64)
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""]).encode()


def algorithm_of(key: KeyIdentity, flags: Flags) -> tuple[str, str]:
    """Key algorithm and key specification. The cells of an algorithm that the release does not support are empty."""
    if key.type == "rsa":
        return "RSA", str(key.size)
    if key.type == "ec":
        return "ECDSA", _CURVE_TEXTS.get(key.curve or "", key.curve or "")
    if key.type == "eddsa" or (key.type in ("ml-dsa", "ml-kem") and flags.since(9)):
        return key.curve or "", key.curve or ""
    return "", ""
