# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HSM in software: keys by `cryptography`, durable in SQLite, private parts encrypted at rest.

At rest: AES-256-GCM (NIST SP 800-38D) under a storage key in a file of its own beside the database, the key's place in the HSM
as additional data, so that rows cannot be swapped. It protects a copied database, not this machine: it is a stand-in.
"""

from __future__ import annotations

import secrets
import typing as t

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from utrust_appliance import keymaterial
from utrust_appliance.errors import Problem, Refused
from utrust_appliance.files import write_private
from utrust_appliance.hsm.base import Checkpoint, Image, KeySetChange, UnwrapFailed, WrappedKey
from utrust_appliance.inventory import HeldKey, KeyIdentity, KeyRef, SlotSettings, inventory_digest
from utrust_appliance.mbk import Mbk, MbkFacts
from utrust_appliance.sqlite import Database

if t.TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS mbk (only INTEGER PRIMARY KEY CHECK (only = 1), name TEXT, m INTEGER, n INTEGER, sealed BLOB);
CREATE TABLE IF NOT EXISTS slots (slot INTEGER PRIMARY KEY, label TEXT, activation TEXT, activated INTEGER, capacity INTEGER);
CREATE TABLE IF NOT EXISTS hsm_keys (
  slot INTEGER REFERENCES slots, label TEXT, id TEXT, type TEXT, size INTEGER, curve TEXT, fingerprint TEXT,
  public BLOB, complete INTEGER, sealed BLOB, PRIMARY KEY (slot, label, id));
CREATE TABLE IF NOT EXISTS journal (job TEXT PRIMARY KEY);
"""
_IDENTITY = ", ".join(KeyIdentity.__dataclass_fields__)


class SoftwareHsm:
    """Implements `utrust_appliance.hsm.base.Hsm`."""

    def __init__(self, folder: Path, checkpoint: Checkpoint) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        storage_key = folder / "storage.key"
        if not storage_key.exists():
            write_private(storage_key, secrets.token_bytes(32))
        self._aead = AESGCM(storage_key.read_bytes())
        self._db = Database(folder / "keys.sqlite3", SCHEMA)
        self._checkpoint = checkpoint
        self._read_again()

    # What it holds

    def mbk(self) -> MbkFacts | None:
        return self._mbk.facts if self._mbk else None

    def slots(self) -> list[SlotSettings]:
        return list(self._slots)

    def inventory(self) -> list[HeldKey]:
        return list(self._keys)

    def digest(self) -> str:
        return self._digest

    def committed(self, job: str) -> bool:
        return bool(self._db.query("SELECT 1 FROM journal WHERE job = ?", job))

    def close(self) -> None:
        self._db.close()

    # Changes by people

    def initialise(self, mbk: Mbk, slots: list[SlotSettings]) -> None:
        self.apply(KeySetChange(job=secrets.token_hex(16), put=[], remove=[], slots=slots, mbk=mbk))

    def generate(self, slot: int, label: str, kinds: list[tuple[str, str]], key_id: str | None = None) -> list[HeldKey]:
        made = [
            (KeyRef(slot, name, key_id or secrets.token_hex(8)), *keymaterial.generate(kind)) for name, kind in kinds
        ]
        with self._db.lock:
            if self._mbk is None:
                raise Refused(f"the HSM is in Factory Reset Mode: no key {label} can be generated")
            if not any(settings.slot == slot for settings in self._slots):
                known = ", ".join(str(settings.slot) for settings in self._slots)
                raise Refused(f"there is no slot {slot}; this HSM has {known}")
            with self._changing() as db:
                for ref, key_type, material in made:
                    self._put(db, ref, key_type, material)
                self._check_capacity(db)
            refs = {ref for ref, *dummy in made}
            return [key for key in self._keys if key.identity.ref in refs]

    def delete(self, ref: KeyRef) -> None:
        with self._changing() as db:
            db.execute("DELETE FROM hsm_keys WHERE (slot, label, id) = (?, ?, ?)", ref)

    def damage(self, ref: KeyRef) -> None:
        with self._changing() as db:
            db.execute("UPDATE hsm_keys SET public = NULL, complete = 0 WHERE (slot, label, id) = (?, ?, ?)", ref)

    def set_slot(self, settings: SlotSettings) -> None:
        with self._changing() as db:
            self._put_slot(db, settings)

    def factory_reset(self) -> None:
        with self._changing() as db:
            for table in ("hsm_keys", "slots", "mbk"):
                db.execute(f"DELETE FROM {table}")

    # Use

    def public_key(self, ref: KeyRef) -> bytes:
        rows = self._db.query("SELECT public FROM hsm_keys WHERE (slot, label, id) = (?, ?, ?)", *ref)
        if not rows or rows[0]["public"] is None:
            raise Refused(f"{ref}: there is no public key object")
        return bytes(rows[0]["public"])

    def sign(self, ref: KeyRef, data: bytes) -> bytes:
        held = next((key for key in self._keys if key.identity.ref == ref), None)
        if held is None:
            raise Refused(f"{ref}: this HSM holds no such key")
        if held.identity.type not in ("rsa", "ec"):
            raise Refused(f"{ref}: a key of type {held.identity.type} does not sign")
        if not held.usable:
            raise Refused(f"{ref}: the key is unusable (its object set is incomplete or its slot is not activated)")
        return keymaterial.sign(self._material(ref), data)

    # Keys on their way

    def export(self) -> Image:
        with self._db.lock:
            mbk = self._held_mbk()
            keys = [WrappedKey(key.identity, mbk.wrap(self._material(key.identity.ref))) for key in self._keys]
            return Image(mbk.facts, list(self._slots), keys)

    def package_mac(self, content_sha256: bytes) -> bytes:
        return self._held_mbk().mac(content_sha256)

    def check(self, key: WrappedKey) -> None:
        self._unwrap(self._held_mbk(), key)

    def apply(self, change: KeySetChange) -> None:
        with self._db.lock:
            mbk = change.mbk or self._held_mbk()
            unwrapped = [(key.identity.ref, key.identity.type, self._unwrap(mbk, key)) for key in change.put]
            if change.expect_digest not in (None, self._digest):
                raise Problem(
                    "inventory_changed",
                    f"the HSM holds the inventory {self._digest}, not {change.expect_digest}",
                    inventory_digest=self._digest,
                )
            self._checkpoint("hsm.before_transaction")
            with self._changing() as db:
                if change.mbk:
                    sealed = self._seal(b"mbk", change.mbk.key)
                    row = (change.mbk.name, change.mbk.m, change.mbk.n, sealed)
                    db.execute("INSERT OR REPLACE INTO mbk (only, name, m, n, sealed) VALUES (1, ?, ?, ?, ?)", row)
                for settings in change.slots:
                    self._put_slot(db, settings)
                for ref in change.remove:
                    db.execute("DELETE FROM hsm_keys WHERE (slot, label, id) = (?, ?, ?)", ref)
                for index, (ref, key_type, material) in enumerate(unwrapped):
                    if index == len(unwrapped) // 2:
                        self._checkpoint("hsm.in_transaction")
                    self._put(db, ref, key_type, material)
                self._check_capacity(db)
                db.execute("INSERT INTO journal (job) VALUES (?)", (change.job,))
                self._checkpoint("hsm.before_commit")
            self._checkpoint("hsm.after_commit")

    # Inside

    def _held_mbk(self) -> Mbk:
        if self._mbk is None:
            raise Problem("mbk_missing", "the HSM is in Factory Reset Mode and holds no Master Backup Key")
        return self._mbk

    @staticmethod
    def _unwrap(mbk: Mbk, key: WrappedKey) -> bytes:
        try:
            material = mbk.unwrap(key.blob)
            facts = keymaterial.facts_of(key.identity.type, material)
        except (InvalidUnwrap, ValueError) as exc:
            raise UnwrapFailed(f"{key.identity.ref} cannot be unwrapped: {exc or 'integrity check failed'}") from exc
        if facts.identity(key.identity.ref) != key.identity:
            raise UnwrapFailed(
                f"{key.identity.ref} is another key inside ({facts.fingerprint}) than its identity says ({key.identity.fingerprint})"
            )
        return material

    def _seal(self, place: bytes, secret: bytes) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._aead.encrypt(nonce, secret, place)

    def _open(self, place: bytes, sealed: bytes) -> bytes:
        try:
            return self._aead.decrypt(sealed[:12], sealed[12:], place)
        except InvalidTag as exc:
            raise Problem("hsm_unavailable", f"the HSM's storage is damaged at {place.decode()}") from exc

    def _material(self, ref: KeyRef) -> bytes:
        rows = self._db.query("SELECT sealed FROM hsm_keys WHERE (slot, label, id) = (?, ?, ?)", *ref)
        return self._open(str(ref).encode(), rows[0]["sealed"])

    def _put(self, db: sqlite3.Connection, ref: KeyRef, key_type: str, material: bytes) -> None:
        facts = keymaterial.facts_of(key_type, material)
        row = (
            *ref,
            facts.type,
            facts.size,
            facts.curve,
            facts.fingerprint,
            facts.public,
            self._seal(str(ref).encode(), material),
        )
        db.execute(
            f"INSERT OR REPLACE INTO hsm_keys ({_IDENTITY}, public, complete, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)",
            row,
        )

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
        sql = "SELECT slot, capacity, COUNT(*) AS held FROM hsm_keys JOIN slots USING (slot) GROUP BY slot HAVING held > capacity"
        for row in db.execute(sql):
            raise Problem(
                "slot_full", f"slot {row['slot']} takes {row['capacity']} keys, this would make {row['held']}"
            )

    def _changing(self) -> _Change:
        return _Change(self)

    def _read_again(self) -> None:
        with self._db.lock:
            held = self._db.query("SELECT * FROM mbk")
            self._mbk = (
                Mbk(held[0]["name"], self._open(b"mbk", held[0]["sealed"]), held[0]["m"], held[0]["n"])
                if held
                else None
            )
            self._slots = [
                SlotSettings(row["slot"], row["label"], row["activation"], bool(row["activated"]), row["capacity"])
                for row in self._db.query("SELECT * FROM slots ORDER BY slot")
            ]
            activated = {settings.slot: settings.activated for settings in self._slots}
            rows = self._db.query(f"SELECT {_IDENTITY}, complete FROM hsm_keys")
            keys = [
                HeldKey(KeyIdentity.from_dict(dict(row)), bool(row["complete"]) and activated[row["slot"]])
                for row in rows
            ]
            self._keys = sorted(keys, key=lambda key: key.identity.order)
            self._digest = inventory_digest(key.identity for key in self._keys)


class _Change:
    """A transaction; what is cached of the HSM is read again when it has ended, however it ended."""

    def __init__(self, hsm: SoftwareHsm) -> None:
        self._hsm = hsm

    def __enter__(self) -> sqlite3.Connection:
        self._transaction = self._hsm._db.transaction()
        return self._transaction.__enter__()

    def __exit__(self, *exc: t.Any) -> None:
        self._transaction.__exit__(*exc)
        self._hsm._read_again()
