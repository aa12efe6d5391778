# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SubjectKeyID and key fingerprint, against the library cryptography and openssl."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import textwrap
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.curves import _CURVES
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.public_key import (
    PublicKeyError,
    read_public_key,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

CURVES = ["prime256v1", "secp384r1", "secp521r1", "secp256k1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"]


def to_pem(der: bytes) -> bytes:
    text = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n".encode()


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    "public_key",
    [
        rsa.generate_private_key(65537, 2048).public_key(),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        ec.generate_private_key(ec.BrainpoolP384R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        ed448.Ed448PrivateKey.generate().public_key(),
    ],
    ids=lambda key: type(key).__name__,
)
def test_public_key_has_the_facts_of_the_library(public_key: t.Any) -> None:
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    found = read_public_key(to_pem(der))
    assert found.subject_key_id == x509.SubjectKeyIdentifier.from_public_key(public_key).digest.hex()
    assert found.fingerprint == "sha256:" + hashlib.sha256(der).hexdigest()
    assert found.problem is None


def test_public_key_of_unknown_algorithm_has_both_facts() -> None:
    """A post-quantum algorithm that no library knows. Its object identifier and its key are only bytes."""
    der = bytes.fromhex("301230 0b0609608648016503040311 0303 00aabb".replace(" ", ""))
    found = read_public_key(to_pem(der))
    assert found.subject_key_id == hashlib.sha1(b"\xaa\xbb", usedforsecurity=False).hexdigest()
    assert found.fingerprint == "sha256:" + hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("base", ["uncompressed", "compressed"])
@pytest.mark.parametrize("curve", CURVES)
def test_explicit_curve_has_the_fingerprint_of_its_name(curve: str, base: str) -> None:
    """EJBCA can write the parameters of a curve. The key fingerprint must be that of the HSM."""
    private = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}")
    named = read_public_key(openssl("pkey", "-pubout", stdin=private))
    written = openssl("ec", "-pubout", "-param_enc", "explicit", "-conv_form", "uncompressed", stdin=private)
    if base == "compressed":  # openssl writes key and base point in one form, so take only the base point
        written = with_compressed_base(written)
    explicit = read_public_key(written)
    assert written not in (b"", openssl("pkey", "-pubout", stdin=private))
    assert explicit == named
    assert named.fingerprint is not None


def with_compressed_base(pem: bytes) -> bytes:
    der = base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))
    algorithm, key = split(split(der)[0][1])
    oid, parameters = split(algorithm[1])
    parts = split(parameters[1])
    point = parts[3][1]
    half = (len(point) - 1) // 2
    parts[3] = (4, bytes([2 + point[-1] % 2]) + point[1 : 1 + half])
    return to_pem(join(0x30, [(0x30, inner([oid, (0x30, inner(parts))])), key]))


def split(der: bytes) -> list[tuple[int, bytes]]:
    found, place = [], 0
    while place < len(der):
        length, begin = der[place + 1], place + 2
        if length >= 0x80:
            count = length & 0x7F
            length, begin = int.from_bytes(der[begin : begin + count], "big"), begin + count
        found.append((der[place], der[begin : begin + length]))
        place = begin + length
    return found


def inner(parts: list[tuple[int, bytes]]) -> bytes:
    return b"".join(encode(tag, content) for tag, content in parts)


def join(tag: int, parts: list[tuple[int, bytes]]) -> bytes:
    return encode(tag, inner(parts))


def encode(tag: int, content: bytes) -> bytes:
    size = len(content)
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, size] if size < 0x80 else [tag, 0x80 | len(digits), *digits]) + content


@pytest.mark.parametrize("part", [1, 2, 3, 4])
def test_changed_curve_has_no_fingerprint(part: int) -> None:
    """A curve with another base point is another curve. The SubjectKeyID stays the identity of the key."""
    private = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    pem = openssl("ec", "-pubout", "-param_enc", "explicit", "-conv_form", "uncompressed", stdin=private)
    der = base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))
    algorithm, key = split(split(der)[0][1])
    oid, parameters = split(algorithm[1])
    parts = split(parameters[1])
    tag, content = parts[part]
    if part == 2:  # the coefficient a; the seed at the end belongs to no curve
        (first_tag, first), *rest = split(content)
        parts[part] = (tag, inner([(first_tag, first[:-1] + bytes([first[-1] ^ 1])), *rest]))
    else:
        parts[part] = (tag, content[:-1] + bytes([content[-1] ^ 1]))
    found = read_public_key(to_pem(join(0x30, [(0x30, inner([oid, (0x30, inner(parts))])), key])))
    assert found.subject_key_id == read_public_key(pem).subject_key_id
    assert found.fingerprint is None
    assert found.problem is not None
    assert "not of a known curve" in found.problem


def test_compressed_public_key_has_no_fingerprint() -> None:
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = public_key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    algorithm = split(split(der)[0][1])[0]
    found = read_public_key(to_pem(join(0x30, [algorithm, (3, b"\0" + point)])))
    assert found.fingerprint is None
    assert found.problem is not None


def test_curves_are_those_of_openssl() -> None:
    """The table is calculated again from the parameters that openssl writes."""
    names = ["prime192v1", "secp224r1", *CURVES]
    names += [f"brainpoolP{size}{kind}" for size, kind in [(192, "r1"), (224, "r1"), (256, "t1"), (320, "r1")]]
    names += ["brainpoolP320t1", "brainpoolP384t1", "brainpoolP512t1"]
    found = {}
    for name in names:
        whole = split(openssl("ecparam", "-name", name, "-param_enc", "explicit", "-outform", "DER"))[0][1]
        dummy_version, (dummy, field), (dummy, curve), (dummy, base), (dummy, order) = split(whole)[:5]
        half = (len(base) - 1) // 2
        numbers = [
            split(field)[1][1],
            *(part for dummy, part in split(curve)[:2]),
            base[1 : 1 + half],
            base[1 + half :],
        ]
        text = ",".join(f"{int.from_bytes(number, 'big'):x}" for number in [*numbers, order])
        oid = split(openssl("ecparam", "-name", name, "-outform", "DER"))[0][1]
        found[hashlib.sha256(text.encode()).hexdigest()] = oid.hex()
    assert found == _CURVES


ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(b"\1" * 32).public_key()
GOOD = ED25519.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"<html></html>",
        to_pem(GOOD) * 2,
        to_pem(GOOD).replace(b"PUBLIC", b"PRIVATE"),
        to_pem(GOOD)[:-5],
        to_pem(GOOD).replace(b"MC", b"M"),
        to_pem(b""),
        to_pem(GOOD[:-1]),
        to_pem(GOOD + b"\0"),
        to_pem(b"\x30\x80" + GOOD[2:]),
        to_pem(b"\x30\x81\x2a" + GOOD[2:]),
        to_pem(b"\x30\x85\0\0\0\0\x2a" + GOOD[2:]),
        to_pem(b"\x31" + GOOD[1:]),
        to_pem(GOOD.replace(b"\x03\x21\0", b"\x03\x21\1")),
        to_pem(bytes.fromhex("300f30090607" + "2a8648ce3d0201" + "03020000")),
    ],
)
def test_text_that_is_not_a_public_key_is_an_error(pem: bytes) -> None:
    with pytest.raises(PublicKeyError):
        read_public_key(pem)


@given(st.binary(max_size=80))
def test_any_der_is_read_or_rejected(der: bytes) -> None:
    """Bytes of a hostile server cause no other exception."""
    for content in (der, b"\x30\x0d\x06\x07\x2a\x86\x48\xce\x3d\x02\x01" + der):
        try:
            found = read_public_key(to_pem(encode(0x30, content + b"\x03\x02\0\x04")))
        except PublicKeyError:
            continue
        assert len(found.subject_key_id) == 40
