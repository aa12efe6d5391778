# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Public data of the keys and slots of an HSM, and the keys digest (docs/api/appliance-v1.yaml, *Keys digest*)."""

from __future__ import annotations

import hashlib
import json
import typing as t
from dataclasses import asdict, dataclass

if t.TYPE_CHECKING:
    from collections.abc import Iterable

# The types that this firmware supports. `slh-dsa` is not supported, because `cryptography` does not have it.
KNOWN_TYPES = frozenset({"rsa", "ec", "eddsa", "x25519", "x448", "ml-dsa", "ml-kem", "aes", "des3", "generic"})


class KeyRef(t.NamedTuple):
    """A key in an HSM. Several keys can have the same slot, label and id. `fingerprint` is empty before the key exists."""

    slot: int
    label: str
    id: str
    fingerprint: str = ""

    @property
    def place(self) -> tuple[int, str, str]:
        return (self.slot, self.label, self.id)

    def __str__(self) -> str:
        return f"slot {self.slot}, label {self.label}, id {self.id}"


@dataclass(frozen=True)
class KeyIdentity:
    """KeyIdentity of the contract."""

    slot: int
    label: str
    id: str
    type: str
    size: int | None
    curve: str | None
    fingerprint: str

    @property
    def ref(self) -> KeyRef:
        return KeyRef(self.slot, self.label, self.id, self.fingerprint)

    @property
    def order(self) -> KeyRef:
        return self.ref

    def line(self) -> bytes:
        row = [self.slot, self.label, self.id, self.type, self.size, self.curve, self.fingerprint]
        return json.dumps(row, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"

    def as_dict(self) -> dict[str, t.Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> KeyIdentity:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class KeyEntry:
    """A key in an HSM, and whether applications can use it."""

    identity: KeyIdentity
    usable: bool

    def as_dict(self) -> dict[str, t.Any]:
        return {**self.identity.as_dict(), "usable": self.usable}


@dataclass(frozen=True)
class SlotSettings:
    """A PKCS #11 slot. `capacity` is the maximum number of keys."""

    slot: int
    label: str
    activation: str = "auto"
    activated: bool = True
    capacity: int = 1000

    def as_dict(self) -> dict[str, t.Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> SlotSettings:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


def keys_digest(keys: Iterable[KeyIdentity]) -> str:
    return f"sha256:{hashlib.sha256(b''.join(sorted(key.line() for key in keys))).hexdigest()}"


def is_unicode(text: str) -> bool:
    """Whether the text is valid Unicode. Lone surrogates, for example from a command line that is not UTF-8, are not."""
    return text.isascii() or text.encode("utf-8", "ignore").decode() == text
