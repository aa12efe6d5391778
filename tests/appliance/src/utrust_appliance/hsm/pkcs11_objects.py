# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of a key in a PKCS #11 token: their classes, their public data, and their assignment to keys."""

from __future__ import annotations

import hashlib
import os
import sys
import typing as t

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error
from pkcs11.util.ec import encode_ec_public_key

if t.TYPE_CHECKING:
    from pkcs11 import Object, Session

    from utrust_appliance import key_material
    from utrust_appliance.hsm.pkcs11_process import Entry

Part = tuple[ObjectClass, KeyType]
# The objects of a key, with the secret object first. The second object of an MBK authenticates packages.
PARTS: dict[str, tuple[Part, ...]] = {
    "rsa": ((ObjectClass.PRIVATE_KEY, KeyType.RSA), (ObjectClass.PUBLIC_KEY, KeyType.RSA)),
    "ec": ((ObjectClass.PRIVATE_KEY, KeyType.EC), (ObjectClass.PUBLIC_KEY, KeyType.EC)),
    "aes": ((ObjectClass.SECRET_KEY, KeyType.AES),),
    "des3": ((ObjectClass.SECRET_KEY, KeyType.DES3),),
    "generic": ((ObjectClass.SECRET_KEY, KeyType.GENERIC_SECRET),),
    "mbk": ((ObjectClass.SECRET_KEY, KeyType.AES), (ObjectClass.SECRET_KEY, KeyType.GENERIC_SECRET)),
}
SECRET_TYPES = {parts[0][1]: name for name, parts in PARTS.items() if name in ("aes", "des3", "generic")}
EMPTY = f"kcv:{hashlib.sha1(b'', usedforsecurity=False).hexdigest()[:6]}"


def is_of(session: Session, key: Entry, part: Part, thing: t.Any) -> bool | None:
    """Whether this object belongs to this key. None if this is unknown, for example for an unfinished object."""
    if key.type == "mbk":
        return True  # the id of an MBK is unique
    if key.fingerprint is None or not is_finished(session, part, thing):
        return None
    if part[0] == ObjectClass.PUBLIC_KEY:
        return public_key(key.type, thing) == load(key.public)
    if key.type == "rsa":
        return number(thing, Attribute.MODULUS) == t.cast("rsa.RSAPublicKey", load(key.public)).public_numbers().n
    if key.type == "ec":
        return _signs_for(load(key.public), thing)
    return check_value(session, key.type, thing) == key.fingerprint


def is_finished(session: Session, part: Part, thing: t.Any) -> bool:
    """SoftHSM writes the key of an object last, so a kill can leave an object without a key."""
    kind, key_type = part
    try:
        if kind == ObjectClass.PUBLIC_KEY:
            return bool(public_key("rsa" if key_type == KeyType.RSA else "ec", thing))
        if key_type == KeyType.RSA:
            return number(thing, Attribute.MODULUS) > 0
        if key_type == KeyType.EC:
            return bool(ecdsa(thing, bytes(32)))
        return check_value(session, SECRET_TYPES[key_type], thing) != EMPTY
    except (
        PKCS11Error,
        ValueError,
        KeyError,
        AttributeError,
    ):  # AttributeError: the object does not support the operation
        return False


def _signs_for(public: t.Any, private: t.Any) -> bool:
    challenge = os.urandom(32)
    try:
        public.verify(ecdsa(private, challenge), challenge, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def check_value(session: Session, key_type: str, thing: t.Any) -> str:
    """CKA_CHECK_VALUE, which SoftHSM does not set for unwrapped keys."""
    if key_type == "des3":
        return f"kcv:{thing.encrypt(bytes(8), mechanism=Mechanism.DES3_ECB)[:3].hex()}"
    if key_type == "aes":
        return f"kcv:{thing.encrypt(bytes(16), mechanism=Mechanism.AES_ECB)[:3].hex()}"
    return f"kcv:{session.digest(thing, mechanism=Mechanism.SHA_1)[:3].hex()}"


def ecdsa(key: t.Any, digest: bytes) -> bytes:
    """Convert a PKCS #11 signature (r and s concatenated) to DER."""
    raw = key.sign(digest, mechanism=Mechanism.ECDSA)
    half = len(raw) // 2
    return utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def public_key(key_type: str, thing: t.Any) -> key_material.PublicKey:
    if key_type == "rsa":
        numbers = rsa.RSAPublicNumbers(number(thing, Attribute.PUBLIC_EXPONENT), number(thing, Attribute.MODULUS))
        return numbers.public_key()
    return load(encode_ec_public_key(thing).hex())


def load(der: str | None) -> key_material.PublicKey:
    return t.cast("key_material.PublicKey", serialization.load_der_public_key(bytes.fromhex(der or "")))


def encode(key: key_material.PublicKey) -> str:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo).hex()


def number(thing: t.Any, attribute: Attribute) -> int:
    return int.from_bytes(thing[attribute], "big")


def as_bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def read(thing: Object, *attributes: Attribute) -> list[t.Any] | None:
    """Attributes of an object, or None for an unfinished object."""
    try:
        return [thing[attribute] for attribute in attributes]
    except (PKCS11Error, ValueError):
        return None


def destroy(thing: Object) -> None:
    try:
        thing.destroy()
    except PKCS11Error as exc:  # another program has already destroyed the object
        print(f"an object could not be destroyed: {error_text(exc)}", file=sys.stderr)


def error_text(exc: Exception) -> str:
    return str(exc) if isinstance(exc, ValueError) else " ".join(filter(None, [type(exc).__name__, str(exc)]))
