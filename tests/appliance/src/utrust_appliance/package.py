# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Key Synchronization Package of the simulator. The format of real packages is not documented and is different.

    magic | uint16 format version | uint32 length, JSON header in clear | for each key: uint32 length, public key (DER; empty for
    a secret key), uint32 length, key wrapped under the MBK | 32 bytes HMAC-SHA-256 over the SHA-256 of all before it | trailer magic

The header names the cluster, the source, the MBK and the identity of every key, in the order of the wrapped keys. The key of the tag is derived from
the MBK. A file without the trailer is truncated, which is visible without any key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import struct
import typing as t
from dataclasses import dataclass, field

from utrust_appliance.errors import ApiError
from utrust_appliance.hsm.base import WrappedKey
from utrust_appliance.keys import KNOWN_TYPES, KeyIdentity, SlotSettings, keys_digest

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MAGIC = b"KSP-SIMULATOR\r\n\x1a"
TRAILER = b"KSP-SIMULATOR-END"
FORMAT = 2
TAG_SIZE = 32
MAX_HEADER = 16 * 1024 * 1024
MAX_BLOB = 64 * 1024
MAX_TEXT = 513  # bytes in UTF-8; a label has up to 128 characters, and can be empty
Mac = t.Callable[[bytes], bytes]


@dataclass(frozen=True)
class Header:
    """The plaintext header of a package."""

    cluster_id: str
    node: str
    hsm_serial: str
    mbk_name: str
    mbk_check_value: str
    slots: list[SlotSettings]
    keys: list[KeyIdentity]
    destroyed: list[KeyIdentity] = field(default_factory=list)

    @property
    def keys_digest(self) -> str:
        return keys_digest(self.keys)

    def encode(self) -> bytes:
        data = {
            "cluster_id": self.cluster_id,
            "source": {"node": self.node, "hsm_serial": self.hsm_serial},
            "mbk": {"name": self.mbk_name, "check_value": self.mbk_check_value},
            "keys_digest": self.keys_digest,
            "slots": [slot.as_dict() for slot in self.slots],
            "keys": [key.as_dict() for key in self.keys],
        }
        if self.destroyed:
            data["destroyed"] = [key.as_dict() for key in self.destroyed]
        return json.dumps(data, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, content: bytes) -> Header:
        try:
            data = json.loads(content)
            header = cls(
                data["cluster_id"],
                data["source"]["node"],
                data["source"]["hsm_serial"],
                data["mbk"]["name"],
                data["mbk"]["check_value"],
                [SlotSettings.from_dict(slot) for slot in data["slots"]],
                [KeyIdentity.from_dict(key) for key in data["keys"]],
                [KeyIdentity.from_dict(key) for key in data.get("destroyed", [])],
            )
            stated = data["keys_digest"]
            _check_types(header, stated)
            actual = header.keys_digest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise ApiError("package_corrupt", "its header cannot be read") from exc
        if stated != actual:
            raise ApiError(
                "package_corrupt", f"its header has the keys digest {stated}, but the listed keys have {actual}"
            )
        return header

    def facts(self, sha256: str, size: int) -> dict[str, t.Any]:
        """PackageFacts of the contract."""
        return {
            "sha256": sha256,
            "size": size,
            "source": {"node": self.node, "hsm_serial": self.hsm_serial},
            "cluster_id": self.cluster_id,
            "mbk": {"name": self.mbk_name, "check_value": self.mbk_check_value},
            "key_count": len(self.keys),
            "keys_digest": self.keys_digest,
        }


def _check_types(header: Header, stated: t.Any) -> None:
    """Check types and lengths of all members of a header. Raises ValueError."""
    keys = [*header.keys, *header.destroyed]
    texts = [header.cluster_id, header.node, header.hsm_serial, header.mbk_name, header.mbk_check_value, stated]
    texts += [text for key in keys for text in (f"{key.label}.", key.type, key.fingerprint, key.curve or "none")]
    texts += [text for slot in header.slots for text in (slot.label, slot.activation)]
    if not all(isinstance(text, str) and 1 <= len(text.encode()) <= MAX_TEXT for text in texts):
        raise ValueError("a text is empty or too long")
    if not all(isinstance(key.label, str) for key in keys):
        raise ValueError("a label is not a text")
    numbers = [number for key in keys for number in (key.slot, 0 if key.size is None else key.size)]
    numbers += [number for slot in header.slots for number in (slot.slot, slot.capacity)]
    if not all(
        isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 31 for number in numbers
    ):
        raise ValueError("a number is invalid or too large")
    if not all(isinstance(slot.activated, bool) for slot in header.slots):
        raise ValueError("activated is not a boolean")
    if not all(re.fullmatch(r"([0-9a-f]{2}){0,64}", key.id) for key in keys):
        raise ValueError("an id is not hexadecimal")


def write_package(path: Path, header: Header, keys: Iterable[WrappedKey], mac: Mac) -> tuple[str, int]:
    """Write the package atomically. Returns `sha256:…` and the size in bytes."""
    authenticated, whole, size = hashlib.sha256(), hashlib.sha256(), 0
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:

        def put(content: bytes) -> None:
            nonlocal size
            file.write(content)
            whole.update(content)
            size += len(content)

        def put_authenticated(content: bytes) -> None:
            authenticated.update(content)
            put(content)

        encoded = header.encode()
        put_authenticated(MAGIC + struct.pack(">HI", FORMAT, len(encoded)) + encoded)
        for key in keys:
            for part in (key.public or b"", key.blob):
                put_authenticated(struct.pack(">I", len(part)) + part)
        put(mac(authenticated.digest()))
        put(TRAILER)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return f"sha256:{whole.hexdigest()}", size


class PackageFile:
    """A package on disk. The constructor checks its structure, and `verify` checks its content."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._end = self._check_frame(file)
            version, length = struct.unpack(">HI", self._read(file, 6))
            if version != FORMAT:
                raise ApiError("package_corrupt", f"its format version is {version}, expected {FORMAT}")
            if length > MAX_HEADER:
                raise ApiError("package_corrupt", "its header is too long")
            self.header = Header.decode(self._read(file, length))
            self._start = file.tell()

    def _check_frame(self, file: t.BinaryIO) -> int:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        begin = file.read(len(MAGIC))
        if begin != MAGIC[: len(begin)]:
            raise ApiError("package_corrupt", "its first bytes are not those of a package")
        file.seek(max(0, size - len(TRAILER)))
        if size < len(MAGIC) + 6 + TAG_SIZE + len(TRAILER) or file.read() != TRAILER:
            raise ApiError("package_truncated", f"the trailer is missing after {size} bytes")
        file.seek(len(MAGIC))
        return size - len(TRAILER) - TAG_SIZE

    def _read(self, file: t.BinaryIO, length: int) -> bytes:
        if file.tell() + length > self._end:
            raise ApiError("package_corrupt", "a length in it points beyond its end")
        return file.read(length)

    def verify_tag(self, mac: Mac) -> None:
        digest = hashlib.sha256()
        with self._path.open("rb") as file:
            left = self._end
            while left:
                chunk = file.read(min(left, 1 << 16))
                digest.update(chunk)
                left -= len(chunk)
            tag = file.read(TAG_SIZE)
        if not hmac.compare_digest(tag, mac(digest.digest())):
            raise ApiError("package_corrupt", "its authentication tag is wrong")

    def wrapped_keys(self) -> Iterable[WrappedKey]:
        with self._path.open("rb") as file:
            file.seek(self._start)
            for identity in self.header.keys:
                public, blob = self._read_part(file, identity), self._read_part(file, identity)
                yield WrappedKey(identity, public or None, blob)
            if file.tell() != self._end:
                raise ApiError("package_corrupt", "it has content after the last key")

    def _read_part(self, file: t.BinaryIO, identity: KeyIdentity) -> bytes:
        (length,) = struct.unpack(">I", self._read(file, 4))
        if length > MAX_BLOB:
            raise ApiError("package_corrupt", f"{identity.ref} is too long")
        return self._read(file, length)

    def verify(self, *, mac: Mac, mbk: str, cluster_id: str | None, check: Callable[[WrappedKey], None]) -> None:
        """Check everything that can be checked before an import. `mbk` is the check value of the MBK of the HSM."""
        header = self.header
        if header.mbk_check_value != mbk:
            raise ApiError(
                "mbk_mismatch",
                f"the package uses MBK {header.mbk_name} ({header.mbk_check_value}), the HSM holds {mbk}",
            )
        self.verify_tag(mac)
        self.verify_header(cluster_id)
        for key in self.wrapped_keys():
            check(key)

    def verify_header(self, cluster_id: str | None) -> None:
        """Check everything that can be checked without the MBK."""
        header = self.header
        if cluster_id is not None and header.cluster_id != cluster_id:
            raise ApiError(
                "cluster_mismatch",
                f"the package belongs to cluster {header.cluster_id}, the node to cluster {cluster_id}",
            )
        for identity in header.keys:
            if identity.type not in KNOWN_TYPES:
                raise ApiError(
                    "unknown_key_type", f"{identity.ref}: type {identity.type} is not supported by this firmware"
                )
        refs = [identity.ref for identity in header.keys]
        if len(set(refs)) != len(refs):
            raise ApiError("package_corrupt", "it contains the same key twice")
