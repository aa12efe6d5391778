# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects that requests create on a node (restores, packages, imports), with the Idempotency-Keys of the requests."""

from __future__ import annotations

import json
import typing as t
from contextlib import nullcontext

from utrust_appliance.claims import permitted
from utrust_appliance.clock import utc_in
from utrust_appliance.errors import ApiError
from utrust_appliance.sqlite import Database

if t.TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, kind TEXT, key TEXT, finished TEXT, data TEXT);
CREATE TABLE IF NOT EXISTS requests (
  key TEXT PRIMARY KEY, digest TEXT, object TEXT REFERENCES objects (id) ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS claims (object TEXT PRIMARY KEY REFERENCES objects (id) ON DELETE CASCADE, claim TEXT);
"""
# x-limits of the contract.
LIST_OBJECTS = 100
JOB_CHANGES = 10_000
RETENTION_SECONDS = 86_400
Data = dict[str, t.Any]


class Request(t.NamedTuple):
    """An idempotent request: its Idempotency-Key and a digest of its content."""

    key: str
    digest: str


class Store:
    """The objects of a node. An Idempotency-Key is stored as long as the object of its request."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, SCHEMA)

    def knows(self, key: str) -> bool:
        """Whether an object with this Idempotency-Key is stored."""
        return bool(self._db.query("SELECT 1 FROM requests WHERE key = ?", key))

    def made_by(self, request: Request) -> str | None:
        """The id of the object that this request created earlier, or None."""
        rows = self._db.query("SELECT digest, object FROM requests WHERE key = ?", request.key)
        if not rows:
            return None
        if rows[0]["digest"] != request.digest:
            raise ApiError("idempotency_key_reused", f"the Idempotency-Key {request.key} was used for another request")
        return str(rows[0]["object"])

    def add(self, kind: str, data: Data, request: Request) -> None:
        """Store a new object, and remove objects that ended before the retention time."""
        with permitted() as claim, self._db.transaction() as db:
            db.execute("DELETE FROM objects WHERE finished < ?", (utc_in(-RETENTION_SECONDS),))
            db.execute(
                "INSERT INTO objects (id, kind, key, finished, data) VALUES (?, ?, ?, ?, ?)",
                (data["id"], kind, request.key, data["finished_at"], json.dumps(data)),
            )
            db.execute("INSERT INTO requests (key, digest, object) VALUES (?, ?, ?)", (*request, data["id"]))
            db.execute("INSERT INTO claims (object, claim) VALUES (?, ?)", (data["id"], claim))

    def made_with(self, claim: str) -> list[tuple[str, str]]:
        """Kind and id of the objects that requests with this claim created, newest first."""
        rows = self._db.query(
            "SELECT kind, id FROM objects JOIN claims ON object = id WHERE claim = ? ORDER BY number DESC", claim
        )
        return [(row["kind"], row["id"]) for row in rows]

    def save(self, data: Data, request: Request | None = None) -> None:
        """Store an object. `request` is another request that returns this object."""
        with permitted() if request else nullcontext(), self._db.transaction() as db:
            db.execute(
                "UPDATE objects SET data = ?, finished = ? WHERE id = ?",
                (json.dumps(data), data["finished_at"], data["id"]),
            )
            if request:
                db.execute(
                    "INSERT OR IGNORE INTO requests (key, digest, object) VALUES (?, ?, ?)", (*request, data["id"])
                )

    def get(self, kind: str, object_id: str) -> Data:
        rows = self._db.query("SELECT data FROM objects WHERE kind = ? AND id = ?", kind, object_id)
        if not rows:
            raise ApiError("not_found", f"the {kind} {object_id} does not exist")
        return t.cast("Data", json.loads(rows[0]["data"]))

    def list(self, kind: str, *, key: str = "", running: bool | None = None) -> list[Data]:
        """The newest objects of a kind, without rows. `key` selects the object of one request, `running` objects that have ended or not."""
        rows = self._db.query(
            "SELECT json_remove(data, '$.rows') AS data FROM objects WHERE kind = ? AND ? IN ('', key)"
            " AND (? IS NULL OR (finished IS NULL) = ?) ORDER BY number DESC LIMIT ?",
            kind, key, running, running, LIST_OBJECTS,
        )  # fmt: skip
        return [json.loads(row["data"]) for row in rows]

    def unfinished(self, kind: str) -> t.Iterator[Data]:
        """All objects of a kind that have not ended, with rows."""
        for row in self._db.query("SELECT data FROM objects WHERE kind = ? AND finished IS NULL", kind):
            yield json.loads(row["data"])

    def remove(self, object_id: str) -> None:
        """Remove an object of a rejected request, with its Idempotency-Key."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM objects WHERE id = ?", (object_id,))

    def close(self) -> None:
        self._db.close()
