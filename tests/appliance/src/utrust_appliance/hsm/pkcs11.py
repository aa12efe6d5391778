# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HSM backend with a PKCS #11 token, for example of SoftHSM2. MBK and keys are objects in the token, and leave it only wrapped.

A token writes objects one by one, but an import must be atomic. Therefore the catalog lists every object, either as part of a key (or the MBK) or in
`to_destroy`. Objects are added to `to_destroy` before they are written. The transaction of a change removes the new objects from `to_destroy` and adds
the old objects (triggers below). The objects in `to_destroy` are destroyed after the change, or when the token is opened again. After a kill, the HSM has
either the old keys or the new keys.

The MBK is imported when the shares of the cards are combined, encrypted for a key pair of the token. The key that authenticates packages is imported
at the same time as an object of its own, because PKCS #11 v2.40 does not support HKDF.
"""

from __future__ import annotations

import logging
import secrets
import typing as t
from contextlib import contextmanager

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from utrust_appliance import key_material
from utrust_appliance.errors import ApiError, OperationError
from utrust_appliance.hsm.base import Checkpoint, UnwrapError, WrappedKey
from utrust_appliance.hsm.catalog import CatalogHsm, StoredKey, require_identity
from utrust_appliance.hsm.pkcs11_process import Entry, TokenError, TokenProcess

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.keys import KeyIdentity, KeyRef
    from utrust_appliance.mbk import Mbk

LOG = logging.getLogger(__name__)
TYPES = frozenset({"rsa", "ec", "aes", "des3", "generic"})
BATCH = 32  # keys in one request to the token
# The id of the objects of an MBK is its number, because several MBKs can have the same name.
SCHEMA = """
CREATE TABLE IF NOT EXISTS to_destroy (number INTEGER PRIMARY KEY, type TEXT, label TEXT, id TEXT, fingerprint TEXT, public BLOB);
CREATE TRIGGER IF NOT EXISTS key_in AFTER INSERT ON hsm_keys BEGIN
  DELETE FROM to_destroy WHERE number = NEW.handle; END;
CREATE TRIGGER IF NOT EXISTS key_out AFTER DELETE ON hsm_keys BEGIN
  INSERT INTO to_destroy VALUES (OLD.handle, OLD.type, OLD.label, OLD.id, OLD.fingerprint, OLD.public); END;
CREATE TRIGGER IF NOT EXISTS mbk_in AFTER INSERT ON mbk BEGIN
  DELETE FROM to_destroy WHERE number = NEW.handle; END;
CREATE TRIGGER IF NOT EXISTS mbk_out AFTER DELETE ON mbk BEGIN
  INSERT INTO to_destroy VALUES (OLD.handle, 'mbk', OLD.name, printf('%016x', OLD.handle), NULL, NULL); END;
"""
LIVE = """
SELECT handle AS number, type, label, id, fingerprint, public FROM hsm_keys
UNION ALL SELECT handle, 'mbk', name, printf('%016x', handle), NULL, NULL FROM mbk
"""
OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)


class Pkcs11Hsm(CatalogHsm[int]):
    """`handle` is the number that identifies the objects of a key in the token process."""

    # SoftHSM 2.6 can wrap these kinds of keys, and python-pkcs11 can generate them.
    kinds = tuple(kind for kind in key_material.KINDS if kind.partition("-")[0] in TYPES and kind != "des3-112")

    def __init__(self, folder: Path, checkpoint: Checkpoint, module: str, label: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place = (folder, module, label)
        super().__init__(folder, checkpoint, SCHEMA)
        try:
            self._process = self._open()
        except TokenError as exc:
            self._db.close()
            raise OperationError(str(exc)) from exc

    def close(self) -> None:
        with self._db.lock:
            self._process.close()
            super().close()

    # The token process

    def _open(self) -> TokenProcess:
        """Start a token process. Removes keys from the catalog that other programs have destroyed in the token."""
        process = TokenProcess(*self._place)
        try:
            to_destroy = self._entries("SELECT * FROM to_destroy")
            found = process.call("find", live=self._entries(LIVE), to_destroy=to_destroy)
            lost_mbk = [
                row["handle"] for row in self._db.query("SELECT handle FROM mbk") if row["handle"] in found["missing"]
            ]
            if lost_mbk:
                folder, module, label = self._place
                raise TokenError(
                    f"The PKCS #11 token {label} of {module} does not belong to {folder}, because it does not hold the MBK."
                )
        except TokenError:
            process.close()
            raise
        with self._db.transaction() as db:
            for number in found["missing"]:
                LOG.warning("%s: the object of a key is missing in the token, the key was removed", self._place[0])
                db.execute("DELETE FROM hsm_keys WHERE handle = ?", (number,))
            for number in found["incomplete"]:
                db.execute("UPDATE hsm_keys SET complete = 0 WHERE handle = ?", (number,))
            db.execute("DELETE FROM to_destroy")
        self._reload()
        return process

    def _entries(self, sql: str) -> list[Entry]:
        return [
            Entry(row["number"], row["type"], row["label"], row["id"], row["fingerprint"], _hex(row["public"]))
            for row in self._db.query(sql)
        ]

    def _call(self, method: str, **details: t.Any) -> t.Any:
        """Send a request to the running process. A new process would destroy the objects of an unfinished change."""
        try:
            return self._process.call(method, **details)
        except TokenError as exc:
            raise ApiError("hsm_unavailable", str(exc)) from exc

    def _ready(self) -> None:
        """Start a new process if the old process has ended."""
        if not self._process.alive:
            LOG.warning("%s: the process of the PKCS #11 token has ended, starting a new process", self._place[0])
            self._process.close()
            try:
                self._process = self._open()
            except TokenError as exc:
                raise ApiError("hsm_unavailable", str(exc)) from exc

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._db.lock:
            self._ready()
            with super()._changing():
                yield

    # Changes

    def _doom(self, entries: list[Entry]) -> None:
        with self._db.transaction() as db:
            for entry in entries:
                public = None if entry.public is None else bytes.fromhex(entry.public)
                db.execute("INSERT INTO to_destroy VALUES (?, ?, ?, ?, ?, ?)", (*entry[:5], public))

    def _make(self, specs: list[tuple[KeyRef, str]]) -> list[StoredKey[int]]:
        entries = [Entry(_number(), kind.partition("-")[0], ref.label, ref.id, None, None) for ref, kind in specs]
        self._doom(entries)
        made = []
        for (ref, kind), entry in zip(specs, entries, strict=True):
            known = self._call("generate", key=entry, kind=kind)
            public = None if known["public"] is None else bytes.fromhex(known["public"])
            facts = key_material.Facts(**{**known, "public": public})
            made.append(StoredKey(facts.identity(ref), facts.public, entry.number))
        return made

    def _import_mbk(self, mbk: Mbk) -> int:
        number = _number()
        entry = Entry(number, "mbk", mbk.name, f"{number:016x}", None, None)
        self._doom([entry])
        transport = serialization.load_der_public_key(bytes.fromhex(self._call("transport_key")))
        if not isinstance(transport, rsa.RSAPublicKey):
            raise ApiError("hsm_unavailable", "the transport key of the token is not RSA")
        sealed = [transport.encrypt(key, OAEP).hex() for key in (mbk.key, mbk.mac_key)]
        self._call("take_mbk", key=entry, mbk=sealed[0], mac=sealed[1])
        return number

    def _import_keys(self, keys: list[WrappedKey], dummy_mbk: Mbk | None, mbk_handle: int) -> list[StoredKey[int]]:
        entries = [_entry(_number(), key) for key in keys]
        self._doom(entries)
        blobs = [(entry, key.blob.hex()) for entry, key in zip(entries, keys, strict=True)]
        half = len(blobs) // 2
        self._unwrap(mbk_handle, blobs[:half])
        self._checkpoint("hsm.in_token")
        self._unwrap(mbk_handle, blobs[half:])
        return [StoredKey(key.identity, key.public, entry.number) for entry, key in zip(entries, keys, strict=True)]

    def _unwrap(self, mbk_handle: int, blobs: list[tuple[Entry, str]]) -> None:
        for start in range(0, len(blobs), BATCH):
            self._call("unwrap", mbk=mbk_handle, keys=blobs[start : start + BATCH])

    def _drop_public(self, key: StoredKey[int]) -> None:
        self._call("drop_public", number=key.handle)

    def _clean_up(self) -> None:
        to_destroy = [row["number"] for row in self._db.query("SELECT number FROM to_destroy")]
        try:
            for start in range(0, len(to_destroy), BATCH):
                batch = to_destroy[start : start + BATCH]
                self._process.call("drop", numbers=batch)
                with self._db.transaction() as db:
                    db.executemany("DELETE FROM to_destroy WHERE number = ?", [(number,) for number in batch])
        except TokenError as exc:
            LOG.warning("%s: objects will be cleaned up when the token is opened again: %s", self._place[0], exc)

    # Use

    def _wrap(self, mbk_handle: int, keys: list[StoredKey[int]]) -> list[bytes]:
        self._ready()
        blobs: list[bytes] = []
        for start in range(0, len(keys), BATCH):
            numbers = [key.handle for key in keys[start : start + BATCH]]
            blobs += [bytes.fromhex(blob) for blob in self._call("wrap", mbk=mbk_handle, numbers=numbers)]
        return blobs

    def _check(self, mbk_handle: int, key: WrappedKey) -> None:
        self._ready()
        self._call("check", mbk=mbk_handle, key=_entry(0, key), blob=key.blob.hex())

    def _mac(self, mbk_handle: int, content_sha256: bytes) -> bytes:
        self._ready()
        return bytes.fromhex(self._call("mac", mbk=mbk_handle, data=content_sha256.hex()))

    def _sign(self, key: StoredKey[int], data: bytes) -> bytes:
        self._ready()
        return bytes.fromhex(self._call("sign", number=key.handle, data=data.hex(), curve=key.identity.curve))


def _number() -> int:
    return secrets.randbits(62)


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _entry(number: int, key: WrappedKey) -> Entry:
    """Raises UnwrapError if identity, public key and size are inconsistent. The token checks the rest.

    Raises ApiError with unknown_key_type if the token cannot hold the key.
    """
    identity = key.identity
    if identity.type not in TYPES or (identity.type, identity.size) == ("des3", 112):
        raise ApiError("unknown_key_type", f"{identity.ref}: type {identity.type} is not supported by this firmware")
    try:
        bytes.fromhex(identity.id)
        if identity.type in ("rsa", "ec"):
            public = serialization.load_der_public_key(key.public or b"")
            if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
                raise ValueError(f"its public key is of type {type(public).__name__}")
            require_identity(key, key_material.facts_of_public(public))
        # RFC 5649: the key is padded to 8 bytes, with a prefix of 8 bytes.
        elif key.public is not None or len(key.blob) != 8 + 8 * -(-_secret_bytes(identity) // 8):
            raise ValueError(f"{len(key.blob)} bytes are not a wrapped key of {identity.size} bits")
    except ValueError as exc:
        raise UnwrapError(f"{identity.ref} cannot be unwrapped: {exc}") from exc
    return Entry(number, identity.type, identity.label, identity.id, identity.fingerprint, _hex(key.public))


def _secret_bytes(identity: KeyIdentity) -> int:
    if identity.size is None:
        raise ValueError("its size is missing")
    return -(-identity.size // (7 if identity.type == "des3" else 8))
