# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SubjectKeyID and key fingerprint of a public key in a PEM file. Private to keyops.utrust.

A bastion may lack the library cryptography, so this file reads the few DER elements itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.curves import named_curve

_PEM: t.Final = re.compile(rb"-----BEGIN PUBLIC KEY-----\s([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*")
_SEQUENCE, _INTEGER, _BIT_STRING, _OCTET_STRING, _OID = 0x30, 0x02, 0x03, 0x04, 0x06
_EC_PUBLIC_KEY: t.Final = bytes.fromhex("2a8648ce3d0201")
_PRIME_FIELD: t.Final = bytes.fromhex("2a8648ce3d0101")


class PublicKeyError(Exception):
    """The text is not a public key. The message is the reason."""


class PublicKey(t.NamedTuple):
    """Facts of a public key. If the key fingerprint cannot be calculated, it has the value None and `problem` has the reason."""

    subject_key_id: str
    fingerprint: str | None
    problem: str | None


def read_public_key(pem: bytes) -> PublicKey:
    """Return the facts of a SubjectPublicKeyInfo in PEM.

    The SubjectKeyID does not depend on how an elliptic curve is written. The key fingerprint is always that of the named curve.
    Raises PublicKeyError.
    """
    match = _PEM.fullmatch(pem)
    if match is None:
        raise PublicKeyError("it is not one PEM block PUBLIC KEY")
    try:
        der = base64.b64decode(b"".join(match[1].split()), validate=True)
    except binascii.Error as exc:
        raise PublicKeyError(f"its Base64 is invalid: {exc}") from exc
    algorithm, key = _elements(_only(der, _SEQUENCE), _SEQUENCE, _BIT_STRING)
    if key[:1] != b"\0":
        raise PublicKeyError("its bit string has unused bits")
    subject_key_id = hashlib.sha1(key[1:], usedforsecurity=False).hexdigest()
    try:
        return PublicKey(subject_key_id, _fingerprint(der, algorithm, key), None)
    except _UnknownCurveError as exc:
        return PublicKey(subject_key_id, None, str(exc))


class _UnknownCurveError(Exception):
    """The key fingerprint of the named curve cannot be calculated."""


def _fingerprint(der: bytes, algorithm: bytes, key: bytes) -> str:
    (oid,) = _elements(algorithm, _OID, more=True)
    if oid == _EC_PUBLIC_KEY:
        parameters = _split(algorithm)[1:]
        if [tag for tag, dummy in parameters] not in ([_OID], [_SEQUENCE]):
            raise PublicKeyError("its elliptic curve has no parameters")
        if key[1:2] != b"\x04":
            raise _UnknownCurveError("the public key is a compressed point, so its key fingerprint is unknown")
        if parameters[0][0] == _SEQUENCE:
            curve = _explicit_curve(parameters[0][1])
            der = _encode(
                _SEQUENCE,
                _encode(_SEQUENCE, _encode(_OID, oid) + _encode(_OID, curve)) + _encode(_BIT_STRING, key),
            )
    return "sha256:" + hashlib.sha256(der).hexdigest()


def _explicit_curve(parameters: bytes) -> bytes:
    """Return the object identifier of a curve that is written with its parameters. Raises _UnknownCurveError."""
    dummy_version, field, curve, base, order = _elements(
        parameters, _INTEGER, _SEQUENCE, _SEQUENCE, _OCTET_STRING, _INTEGER, more=True
    )
    found = None
    if _elements(field, _OID, more=True) == [_PRIME_FIELD]:
        numbers = [
            _elements(field, _OID, _INTEGER)[1],
            *_elements(curve, _OCTET_STRING, _OCTET_STRING, more=True),
            order,
        ]
        prime, a, b, number = (int.from_bytes(digits, "big") for digits in numbers)
        found = named_curve(prime, a, b, base, number)
    if found is None:
        raise _UnknownCurveError("the parameters of the elliptic curve are not of a known curve")
    return found


def _only(der: bytes, tag: int) -> bytes:
    (content,) = _elements(der, tag)
    return content


def _elements(der: bytes, *tags: int, more: bool = False) -> list[bytes]:
    """Return the contents of elements with exactly these tags. `more` allows elements after them. Raises PublicKeyError."""
    found = _split(der)
    if [tag for tag, dummy in found[: len(tags)]] != list(tags) or (len(found) > len(tags) and not more):
        raise PublicKeyError("its DER has another structure")
    return [content for dummy, content in found[: len(tags)]]


def _split(der: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each element. Raises PublicKeyError if a length is not DER."""
    found, place = [], 0
    while place < len(der):
        header = der[place : place + 2]
        if len(header) < 2 or header[0] & 0x1F == 0x1F:
            raise PublicKeyError("its DER is cut off")
        length, begin = header[1], place + 2
        if length >= 0x80:
            digits = der[begin : begin + (length & 0x7F)]
            begin, length = begin + len(digits), int.from_bytes(digits, "big")
            if not 1 <= len(digits) <= 4 or length < 0x80 or digits[0] == 0:
                raise PublicKeyError("a length of its DER is invalid")
        place = begin + length
        if place > len(der):
            raise PublicKeyError("its DER is cut off")
        found.append((header[0], der[begin:place]))
    return found


def _encode(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    digits = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content
