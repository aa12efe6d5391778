# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects that requests create on a node (restores, packages, imports), with the Idempotency-Keys of the requests."""

from __future__ import annotations

import json
import typing as t

from utrust_appliance.errors import ApiError
from utrust_appliance.sqlite import Database

if t.TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, kind TEXT, data TEXT);
CREATE TABLE IF NOT EXISTS requests (
  key TEXT PRIMARY KEY, digest TEXT, object TEXT REFERENCES objects (id) ON DELETE CASCADE);
"""
Data = dict[str, t.Any]


class Request(t.NamedTuple):
    """An idempotent request: its Idempotency-Key and a digest of its content."""

    key: str
    digest: str


class Store:
    """The objects of a node. An Idempotency-Key is stored as long as the object of its request."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, SCHEMA)

    def made_by(self, request: Request) -> str | None:
        """The id of the object that this request created earlier, or None."""
        rows = self._db.query("SELECT digest, object FROM requests WHERE key = ?", request.key)
        if not rows:
            return None
        if rows[0]["digest"] != request.digest:
            raise ApiError("idempotency_key_reused", f"the Idempotency-Key {request.key} was used for another request")
        return str(rows[0]["object"])

    def add(self, kind: str, data: Data, request: Request) -> None:
        with self._db.transaction() as db:
            db.execute("INSERT INTO objects (id, kind, data) VALUES (?, ?, ?)", (data["id"], kind, json.dumps(data)))
            db.execute("INSERT INTO requests (key, digest, object) VALUES (?, ?, ?)", (*request, data["id"]))

    def save(self, data: Data, request: Request | None = None) -> None:
        """Store an object. `request` is another request that returns this object."""
        with self._db.transaction() as db:
            db.execute("UPDATE objects SET data = ? WHERE id = ?", (json.dumps(data), data["id"]))
            if request:
                db.execute(
                    "INSERT OR IGNORE INTO requests (key, digest, object) VALUES (?, ?, ?)", (*request, data["id"])
                )

    def get(self, kind: str, object_id: str) -> Data:
        rows = self._db.query("SELECT data FROM objects WHERE kind = ? AND id = ?", kind, object_id)
        if not rows:
            raise ApiError("not_found", f"the {kind} {object_id} does not exist")
        return t.cast("Data", json.loads(rows[0]["data"]))

    def list(self, kind: str) -> list[Data]:
        """All objects of a kind, newest first."""
        return [
            json.loads(row["data"])
            for row in self._db.query("SELECT data FROM objects WHERE kind = ? ORDER BY number DESC", kind)
        ]

    def remove(self, object_id: str) -> None:
        with self._db.transaction() as db:
            db.execute("DELETE FROM objects WHERE id = ?", (object_id,))

    def close(self) -> None:
        self._db.close()
