# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalog of an HSM in SQLite: slots, key identities and committed changes. All backends share it.

A change is one transaction, and the committed catalog defines the content of the HSM. Backends store the secrets. The catalog has one value for
each key (`handle`) that identifies its secret part. A backend stores new secrets before the transaction that refers to them.
"""

from __future__ import annotations

import abc
import secrets
import typing as t
from contextlib import contextmanager

from utrust_appliance import key_material
from utrust_appliance.errors import ApiError, OperationError
from utrust_appliance.hsm.base import Checkpoint, Image, KeySetChange, UnwrapError, WrappedKey
from utrust_appliance.keys import KeyEntry, KeyIdentity, KeyRef, SlotSettings, keys_digest
from utrust_appliance.mbk import Mbk, MbkFacts
from utrust_appliance.sqlite import Database

if t.TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS mbk (
  only INTEGER PRIMARY KEY CHECK (only = 1), name TEXT, check_value TEXT, m INTEGER, n INTEGER, handle);
CREATE TABLE IF NOT EXISTS slots (slot INTEGER PRIMARY KEY, label TEXT, activation TEXT, activated INTEGER, capacity INTEGER);
CREATE TABLE IF NOT EXISTS hsm_keys (
  slot INTEGER REFERENCES slots, label TEXT, id TEXT, type TEXT, size INTEGER, curve TEXT, fingerprint TEXT,
  public BLOB, complete INTEGER, handle, PRIMARY KEY (slot, label, id, fingerprint));
CREATE TABLE IF NOT EXISTS journal (job TEXT PRIMARY KEY);
"""
_IDENTITY = ", ".join(KeyIdentity.__dataclass_fields__)
_IS_REF = "(slot, label, id, fingerprint) = (?, ?, ?, ?)"
Handle = t.TypeVar("Handle", bytes, int)


class StoredKey(t.NamedTuple, t.Generic[Handle]):
    """A stored key: its identity, its public key (DER) if it is a key pair, and the backend's reference to its secret part."""

    identity: KeyIdentity
    public: bytes | None
    handle: Handle


class CatalogHsm(abc.ABC, t.Generic[Handle]):
    """Implements `utrust_appliance.hsm.base.Hsm` except for the secrets. `kinds` are the kinds of keys that the backend supports."""

    kinds: t.ClassVar[tuple[str, ...]] = key_material.KINDS

    def __init__(self, folder: Path, checkpoint: Checkpoint, schema: str = "") -> None:
        self._db = Database(folder / "keys.sqlite3", SCHEMA + schema)
        self._checkpoint = checkpoint
        self._reload()

    # The secrets

    @abc.abstractmethod
    def _make(self, specs: list[tuple[KeyRef, str]]) -> list[StoredKey[Handle]]:
        """Generate keys of these kinds."""

    @abc.abstractmethod
    def _import_mbk(self, mbk: Mbk) -> Handle:
        """Return a handle of the MBK."""

    @abc.abstractmethod
    def _import_keys(self, keys: list[WrappedKey], mbk: Mbk | None, mbk_handle: Handle) -> list[StoredKey[Handle]]:
        """Unwrap keys. `mbk` is the plaintext MBK in a restore, else None. Raises UnwrapError."""

    @abc.abstractmethod
    def _wrap(self, mbk_handle: Handle, keys: list[StoredKey[Handle]]) -> list[bytes]:
        """Return the keys, wrapped with the MBK."""

    @abc.abstractmethod
    def _check(self, mbk_handle: Handle, key: WrappedKey) -> None:
        """Raise an error if the wrapped key is not authentic."""

    @abc.abstractmethod
    def _mac(self, mbk_handle: Handle, content_sha256: bytes) -> bytes:
        """Return the code that authenticates a package."""

    @abc.abstractmethod
    def _sign(self, key: StoredKey[Handle], data: bytes) -> bytes:
        """Return a signature of the data with a key."""

    @abc.abstractmethod
    def _drop_public(self, key: StoredKey[Handle]) -> None:
        """Delete the public object of a key."""

    @abc.abstractmethod
    def _clean_up(self) -> None:
        """Destroy unused secrets. Called after every change, successful or not. Does not raise."""

    # Content

    def mbk(self) -> MbkFacts | None:
        return self._mbk

    def slots(self) -> list[SlotSettings]:
        return list(self._slots)

    def list_keys(self) -> list[KeyEntry]:
        return list(self._keys)

    def digest(self) -> str:
        return self._digest

    def committed(self, job: str) -> bool:
        return bool(self._db.query("SELECT 1 FROM journal WHERE job = ?", job))

    def close(self) -> None:
        self._db.close()

    # Changes by admin operations

    def initialize(self, mbk: Mbk, slots: list[SlotSettings]) -> None:
        self.apply(KeySetChange(job=secrets.token_hex(16), put=[], remove=[], slots=slots, mbk=mbk))

    def generate(
        self, slot: int, label: str, kinds: list[tuple[str, str]], key_id: str | None = None
    ) -> list[KeyEntry]:
        for dummy, kind in kinds:
            key_material.require_kind(kind, self.kinds)
        with self._changing():
            if self._mbk is None:
                raise OperationError(f"The HSM is in Factory Reset Mode. The key {label} was not generated.")
            if not any(settings.slot == slot for settings in self._slots):
                known = ", ".join(str(settings.slot) for settings in self._slots)
                raise OperationError(f"The slot {slot} does not exist. Slots: {known}.")
            made = self._make([(KeyRef(slot, name, key_id or secrets.token_hex(8)), kind) for name, kind in kinds])
            with self._db.transaction() as db:
                for key in made:
                    self._put(db, key)
                self._check_capacity(db)
        refs = {key.identity.ref for key in made}
        return [key for key in self.list_keys() if key.identity.ref in refs]

    def delete(self, ref: KeyRef) -> None:
        with self._changing(), self._db.transaction() as db:
            self._remove(db, ref)

    def damage(self, ref: KeyRef) -> None:
        with self._changing():
            for key in self._stored(ref):
                self._drop_public(key)
            with self._db.transaction() as db:
                db.execute(f"UPDATE hsm_keys SET complete = 0 WHERE {_IS_REF}", ref)

    def set_slot(self, settings: SlotSettings) -> None:
        with self._changing(), self._db.transaction() as db:
            self._put_slot(db, settings)

    def factory_reset(self) -> None:
        with self._changing(), self._db.transaction() as db:
            for table in ("hsm_keys", "slots", "mbk"):
                db.execute(f"DELETE FROM {table}")

    # Use

    def public_key(self, ref: KeyRef) -> bytes:
        rows = self._db.query(f"SELECT public FROM hsm_keys WHERE {_IS_REF} AND complete AND public IS NOT NULL", *ref)
        if not rows:
            raise OperationError(f"The key with {ref} does not have a public key object.")
        return bytes(rows[0]["public"])

    def sign(self, ref: KeyRef, data: bytes) -> bytes:
        found = next((key for key in self._keys if key.identity.ref == ref), None)
        if found is None:
            raise OperationError(f"The HSM does not have a key with {ref}.")
        if found.identity.type not in key_material.SIGNATURE_TYPES:
            raise OperationError(f"The key with {ref} cannot sign, because its type is {found.identity.type}.")
        if not found.usable:
            raise OperationError(
                f"The key with {ref} is unusable. Its object set is incomplete or its slot is not activated."
            )
        with self._db.lock:
            (key,) = self._stored(ref)
            return self._sign(key, data)

    # Export and import

    def export(self) -> Image:
        with self._db.lock:
            facts, handle = self._current_mbk()
            keys = sorted(self._stored(), key=lambda key: key.identity.order)
            wrapped = [
                WrappedKey(key.identity, key.public, blob)
                for key, blob in zip(keys, self._wrap(handle, keys), strict=True)
            ]
            return Image(facts, list(self._slots), wrapped)

    def package_mac(self, content_sha256: bytes) -> bytes:
        with self._db.lock:
            return self._mac(self._current_mbk()[1], content_sha256)

    def check(self, key: WrappedKey) -> None:
        with self._db.lock:
            self._check(self._current_mbk()[1], key)

    def apply(self, change: KeySetChange) -> None:
        with self._changing():
            old_mbk = None if change.mbk else self._current_mbk()[1]
            if change.expect_digest not in (None, self._digest):
                raise ApiError(
                    "keys_changed",
                    f"the keys digest of the HSM is {self._digest}, not {change.expect_digest}",
                    keys_digest=self._digest,
                )
            self._checkpoint("hsm.before_transaction")
            mbk = self._import_mbk(change.mbk) if change.mbk else t.cast("Handle", old_mbk)
            arrived = self._import_keys(change.put, change.mbk, mbk)
            with self._db.transaction() as db:
                if change.mbk:
                    self._put_mbk(db, change.mbk.facts, mbk)
                for settings in change.slots:
                    self._put_slot(db, settings)
                for ref in change.remove:
                    self._remove(db, ref)
                for index, key in enumerate(arrived):
                    if index == len(arrived) // 2:
                        self._checkpoint("hsm.in_transaction")
                    self._put(db, key)
                self._check_capacity(db)
                db.execute("INSERT INTO journal (job) VALUES (?)", (change.job,))
                self._checkpoint("hsm.before_commit")
            self._checkpoint("hsm.after_commit")

    # Inside

    def _current_mbk(self) -> tuple[MbkFacts, Handle]:
        rows = self._db.query("SELECT handle FROM mbk")
        if self._mbk is None or not rows:
            raise ApiError("mbk_missing", "the HSM is in Factory Reset Mode and holds no Master Backup Key")
        return self._mbk, rows[0]["handle"]

    def _stored(self, ref: KeyRef | None = None) -> list[StoredKey[Handle]]:
        """The key with this reference, or all keys."""
        sql = f"SELECT {_IDENTITY}, public, handle FROM hsm_keys"
        rows = self._db.query(f"{sql} WHERE {_IS_REF}", *ref) if ref else self._db.query(sql)
        return [StoredKey(KeyIdentity.from_dict(dict(row)), row["public"], row["handle"]) for row in rows]

    # A row is always deleted before it is replaced, because backends can have a trigger on DELETE.

    @staticmethod
    def _remove(db: sqlite3.Connection, ref: KeyRef) -> None:
        db.execute(f"DELETE FROM hsm_keys WHERE {_IS_REF}", ref)

    def _put(self, db: sqlite3.Connection, key: StoredKey[Handle]) -> None:
        self._remove(db, key.identity.ref)
        row = (*key.identity.as_dict().values(), key.public, key.handle)
        db.execute(
            f"INSERT INTO hsm_keys ({_IDENTITY}, public, complete, handle) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)", row
        )

    @staticmethod
    def _put_mbk(db: sqlite3.Connection, facts: MbkFacts, handle: Handle) -> None:
        db.execute("DELETE FROM mbk")
        row = (facts.name, facts.check_value, facts.m, facts.n, handle)
        db.execute("INSERT INTO mbk (only, name, check_value, m, n, handle) VALUES (1, ?, ?, ?, ?, ?)", row)

    @staticmethod
    def _put_slot(db: sqlite3.Connection, settings: SlotSettings) -> None:
        row = (settings.slot, settings.label, settings.activation, settings.activated, settings.capacity)
        db.execute(
            "INSERT INTO slots (slot, label, activation, activated, capacity) VALUES (?, ?, ?, ?, ?) ON CONFLICT (slot) DO UPDATE SET "
            "label = excluded.label, activation = excluded.activation, activated = excluded.activated, capacity = excluded.capacity",
            row,
        )

    @staticmethod
    def _check_capacity(db: sqlite3.Connection) -> None:
        sql = "SELECT slot, capacity, COUNT(*) AS keys FROM hsm_keys JOIN slots USING (slot) GROUP BY slot HAVING keys > capacity"
        for row in db.execute(sql):
            raise ApiError(
                "slot_full",
                f"slot {row['slot']} can hold {row['capacity']} keys, the change would result in {row['keys']} keys",
            )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Serialize changes. Afterwards, reload the cache and let the backend clean up."""
        with self._db.lock:
            try:
                yield
            finally:
                self._reload()
                self._clean_up()

    def _reload(self) -> None:
        with self._db.lock:
            rows = self._db.query("SELECT name, check_value, m, n FROM mbk")
            self._mbk = MbkFacts(*rows[0]) if rows else None
            self._slots = [
                SlotSettings(row["slot"], row["label"], row["activation"], bool(row["activated"]), row["capacity"])
                for row in self._db.query("SELECT * FROM slots ORDER BY slot")
            ]
            activated = {settings.slot: settings.activated for settings in self._slots}
            rows = self._db.query(f"SELECT {_IDENTITY}, complete FROM hsm_keys")
            keys = [
                KeyEntry(KeyIdentity.from_dict(dict(row)), bool(row["complete"]) and activated[row["slot"]])
                for row in rows
            ]
            self._keys = sorted(keys, key=lambda key: key.identity.order)
            self._digest = keys_digest(key.identity for key in self._keys)


def require_identity(key: WrappedKey, facts: key_material.Facts) -> None:
    """Raises UnwrapError if the facts do not match the identity of the key."""
    if facts.identity(key.identity.ref) != key.identity or facts.public != key.public:
        raise UnwrapError(
            f"{key.identity.ref} contains the key {facts.fingerprint}, but its identity names {key.identity.fingerprint}"
        )
