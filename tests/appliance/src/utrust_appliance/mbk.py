# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Master Backup Key: AES-256, m-of-n shares and derived keys.

Shares: Shamir over GF(2^128) (pycryptodome, Crypto.Protocol.SecretSharing). Both halves of the key use the same share numbers.
Derived keys and the check value: HKDF with SHA-256 (RFC 5869). Key wrapping: AES-KWP (RFC 5649).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import typing as t
from dataclasses import dataclass

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from utrust_appliance.errors import OperationError

Share = tuple[int, bytes]


@dataclass(frozen=True)
class MbkFacts:
    """The public facts of an MBK."""

    name: str
    check_value: str
    m: int
    n: int

    def as_dict(self) -> dict[str, t.Any]:
        return {"name": self.name, "check_value": self.check_value, "m": self.m, "n": self.n}

    def __str__(self) -> str:
        return f"{self.name} ({self.check_value})"


@dataclass(frozen=True)
class Mbk:
    """An MBK in plaintext. It exists inside an HSM only, and briefly at its PIN pad."""

    name: str
    key: bytes
    m: int
    n: int

    def __repr__(self) -> str:
        return f"Mbk({self.facts})"

    @classmethod
    def generate(cls, name: str, m: int, n: int) -> Mbk:
        if not 1 <= len(name) <= 8 or not name.isascii() or not name.isalnum():
            raise OperationError(f"An MBK name must have 1 to 8 letters and digits, not {name!r}.")
        if not 1 <= m <= n <= 16:
            raise OperationError(f"m of n must satisfy 1 <= m <= n <= 16, not {m} of {n}.")
        return cls(name, secrets.token_bytes(32), m, n)

    @property
    def facts(self) -> MbkFacts:
        return MbkFacts(self.name, self._derive(b"check value", 8).hex(), self.m, self.n)

    def _derive(self, purpose: bytes, length: int = 32) -> bytes:
        kdf = HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=b"keyops.utrust simulator " + purpose)
        return kdf.derive(self.key)

    def wrap(self, material: bytes) -> bytes:
        return keywrap.aes_key_wrap_with_padding(self.key, material)

    def unwrap(self, blob: bytes) -> bytes:
        """Raises InvalidUnwrap if the blob is corrupt or wrapped under another key."""
        return keywrap.aes_key_unwrap_with_padding(self.key, blob)

    def mac(self, content_sha256: bytes) -> bytes:
        """The authentication tag of a package. `content_sha256` is the digest of the content before the tag."""
        return hmac.new(self.mac_key, content_sha256, hashlib.sha256).digest()

    @property
    def mac_key(self) -> bytes:
        return self._derive(b"package authentication")

    def split(self) -> list[Share]:
        halves = [dict(Shamir.split(self.m, self.n, self.key[start : start + 16])) for start in (0, 16)]
        return [(number, halves[0][number] + halves[1][number]) for number in sorted(halves[0])]


def combine(shares: t.Sequence[Share]) -> bytes:
    """Combine shares. Shares of different MBKs give a wrong key, which the check value shows."""
    halves = [[(number, share[start : start + 16]) for number, share in shares] for start in (0, 16)]
    return bytes(Shamir.combine(halves[0]) + Shamir.combine(halves[1]))
