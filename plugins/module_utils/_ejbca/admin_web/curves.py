# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of elliptic curves that are written with their parameters. Private to keyops.utrust.

EJBCA can write the parameters of a curve instead of its name. The same key then has another SubjectPublicKeyInfo.
All parameters are compared, because a curve with another base point is another curve.
"""

from __future__ import annotations

import hashlib
import typing as t

#: Bits of the largest prime. A larger number would only cost time.
_MAX_BITS: t.Final = 521
#: SHA-256 of prime, a, b, base point and order in hexadecimal digits with commas, and the object identifier (DER content). A test calculates them again.
_CURVES: t.Final = {
    "1437de077331570d75036436bca4abcffa6e60c7b8d0398f2adecc069bd80d04": "2a8648ce3d030101",  # prime192v1
    "aef8e3b60cd3a93eb2924791748e0a8aa899c6b61523906b515adc940d4911c9": "2b81040021",  # secp224r1
    "91e0ccc7571c60d979dfb679d65400cb8e5d8b3d141c54baeb4b87970e241013": "2a8648ce3d030107",  # prime256v1
    "d8a9ceaa0573f69feeee32f204e4ce4b4e372a33e50de5d4371933e971723944": "2b81040022",  # secp384r1
    "3eedee93c4063db5467d39cc7331aecccddf519a03549e2ebdb1c2f1fb0cb69c": "2b81040023",  # secp521r1
    "42616fff1ea094f2b17e19726c7b4e69e670c8af1f923364133ac4b3aff7ad06": "2b8104000a",  # secp256k1
    "9c1b72f4a4b0e36a5d25c388939ba3d299670e8a25c9bac62534f6f0a21288aa": "2b2403030208010103",  # brainpoolP192r1
    "b32bd78b511136279afc5edde3651a3e333191a1af8aef82bbf3c1942fc3da86": "2b2403030208010105",  # brainpoolP224r1
    "910bb8329d7533822113ed131db7c03174bac1be4d4786281476902be04e7973": "2b2403030208010107",  # brainpoolP256r1
    "f47482ba4313babaed6b325b61db78c2a77b49055a3185ffb787384156a6d41c": "2b2403030208010108",  # brainpoolP256t1
    "2d0cb8ad34a363be82e0515b83d21beaddc9decafe19ce36da455e2372b1cc07": "2b2403030208010109",  # brainpoolP320r1
    "304f1b5c20b8d7f07cf46701e0935b62ec58314794507ca34c02fdc76552f323": "2b240303020801010a",  # brainpoolP320t1
    "bb14318d44b1718a2b46a515fa7dd4c2c27166bd6bf8bb2dfd52637ab0e80f0e": "2b240303020801010b",  # brainpoolP384r1
    "67bcdedc504966935957543abf29b0fa6238c402ae2ce01d14215e2f129ad3ac": "2b240303020801010c",  # brainpoolP384t1
    "ce9c4675bd7b6d9b44e1e6ee4093c106d3e668de21e4323f26263b3a37fba642": "2b240303020801010d",  # brainpoolP512r1
    "d895474894d5c7b550620994444fe970129493d319f20bf89a0bd5fe6c59e1ce": "2b240303020801010e",  # brainpoolP512t1
}


def named_curve(prime: int, a: int, b: int, base: bytes, order: int) -> bytes | None:
    """Return the object identifier (DER content) of the curve, or None if the curve is unknown. `base` is an encoded point."""
    if not 0 < prime.bit_length() <= _MAX_BITS:
        return None
    point = _decode_point(prime, a, b, base)
    if point is None:
        return None
    numbers = ",".join(f"{number:x}" for number in (prime, a, b, *point, order))
    found = _CURVES.get(hashlib.sha256(numbers.encode("ascii")).hexdigest())
    return bytes.fromhex(found) if found is not None else None


def _decode_point(prime: int, a: int, b: int, point: bytes) -> tuple[int, int] | None:
    size = (prime.bit_length() + 7) // 8
    x = int.from_bytes(point[1 : 1 + size], "big")
    if point[:1] == b"\x04" and len(point) == 1 + 2 * size:
        return x, int.from_bytes(point[1 + size :], "big")
    if point[:1] not in (b"\x02", b"\x03") or len(point) != 1 + size or prime % 4 != 3:
        return None
    # The square root of such a prime field is a power. A wrong root is found in no curve.
    y = pow(x**3 + a * x + b, (prime + 1) // 4, prime)
    return x, y if y % 2 == point[0] % 2 else prime - y
