# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports of Key Synchronization Packages: checked and staged, then applied or discarded.

checking -> staged -> waiting_for_card -> waiting_for_pin -> applying -> applied, else failed, canceled, discarded or expired.
The profile can change this: the upload is the commit, keys are written one by one, cards are required, or a restart follows.
"""

from __future__ import annotations

import asyncio
import secrets
import typing as t

from utrust_appliance.clock import Deadlines, utc_in, utc_now
from utrust_appliance.errors import ApiError, JobError
from utrust_appliance.files import destroy
from utrust_appliance.jobs.card_session import CardCallbacks
from utrust_appliance.jobs.import_writer import (
    card_pin_pad,
    check_package,
    keys_changed,
    require_applicable,
    write_import,
)
from utrust_appliance.keys import KeyIdentity
from utrust_appliance.package import PackageFile

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.behavior import ImportPlan
    from utrust_appliance.node import Node
    from utrust_appliance.store import Data, Request

WAITING = ("waiting_for_card", "waiting_for_pin")


class Imports:
    """The imports of one node."""

    def __init__(self, node: Node, folder: Path, ttl: float) -> None:
        self._node = node
        self._folder = folder
        self._deadlines = Deadlines(ttl)
        self.working: str | None = None  # the import that is being checked or applied
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        staged = set()
        for data in node.store.unfinished("import"):
            if data["state"] == "staged":
                staged.add(data["id"])
                self._deadlines.resume(data["id"], data["expires_at"])
            elif node.hsm.committed(data["id"]):
                self._finish(data)
            else:
                self._fail(data, JobError("interrupted", "the node was restarted while the import was running"))
        for file in folder.iterdir():
            if file.stem not in staged:
                destroy(file)

    def _path(self, import_id: str) -> Path:
        return self._folder / f"{import_id}.ksp"

    def upload_path(self) -> Path:
        """Path for an upload before its import is stored."""
        return self._folder / f"{secrets.token_hex(16)}.part"

    # Upload

    async def stage(
        self,
        request: Request,
        upload: Path,
        sha256: str,
        size: int,
        expect_digest: str | None = None,
        *,
        wait: bool = False,
    ) -> Data:
        """Return the import of this request, after the check or in the state checking. `wait` returns it after the check only."""
        turns = self._node.turns
        if made := self._node.store.made_by(request):
            return self.get(made)
        self._node.require_operational()
        header = await asyncio.to_thread(lambda: PackageFile(upload).header)
        await turns.begin()
        try:
            data = self._new(request, upload, header.facts(sha256, size), expect_digest)
            delay = None if wait else turns.later("async_import")
        except BaseException:
            turns.end()
            raise
        work = turns.spawn(self._check(data, delay))
        if delay is None:
            await asyncio.shield(work)
        return self.get(data["id"])

    def _new(self, request: Request, upload: Path, facts: Data, expect_digest: str | None) -> Data:
        """Store the import before the HSM is used."""
        self._node.checkpoint("import.received")
        self._node.require_operational()
        digest = self._node.hsm.digest()
        if expect_digest not in (None, digest):
            raise keys_changed(digest)
        data: Data = {
            "id": secrets.token_hex(16),
            "idempotency_key": request.key,
            "state": "checking",
            "sequence": 1,
            "pin_pad": None,
            "prompt": None,
            "notice": None,
            "cards_accepted": 0,
            "cards_required": None,
            "problem": None,
            "package": facts,
            "keys_digest": digest,
            "rows": [],
            "created_at": utc_now(),
            "expires_at": utc_in(self._deadlines.ttl),
            "finished_at": None,
        }
        self._node.store.add("import", data, request)
        upload.rename(self._path(data["id"]))
        self._deadlines.start(data["id"])
        self.working = data["id"]
        return data

    async def _check(self, data: Data, delay: float | None) -> None:
        """Check the package, and apply it if the upload is the commit. Before the response, an invalid package rejects the request."""
        try:
            await asyncio.sleep(delay or 0)
            plan = await asyncio.to_thread(self._planned, data["id"])
            if self._checking(data["id"]):
                await self._checked(data, plan)
        except (ApiError, OSError) as exc:
            if not self._checking(data["id"]):
                return  # ended meanwhile
            if delay is None:
                self._forget(data["id"])
                self._node.store.remove(data["id"])
                raise
            self._fail(data, JobError.of(exc, "import_failed"))
        finally:
            self.working = None
            self._node.turns.end()

    def _checking(self, import_id: str) -> bool:
        return bool(self._node.store.get("import", import_id)["state"] == "checking")

    def _planned(self, import_id: str) -> ImportPlan:
        plan = check_package(self._node, self._path(import_id))[1]
        if self._node.behavior.commit == "upload":
            card_pin_pad(self._node)
        return plan

    async def _checked(self, data: Data, plan: ImportPlan) -> None:
        data["rows"] = plan.rows
        if self._node.behavior.commit == "upload":
            await self._commit(data)
        else:
            self._change(data, state="staged")
            self._node.checkpoint("import.staged")

    # Reading

    def working_state(self) -> str | None:
        """Return the state of the import that is being checked or applied, or None."""
        return str(self._node.store.get("import", self.working)["state"]) if self.working else None

    def list(self, key: str = "") -> list[Data]:
        """Imports without rows."""
        self.end_expired()
        return [self._node.restores.view(data) for data in self._node.store.list("import", key=key)]

    def get(self, import_id: str) -> Data:
        self.end_expired()
        return self._node.restores.view(self._node.store.get("import", import_id))

    # Commit

    async def apply(self, import_id: str, request: Request, expect_digest: str | None) -> Data:
        """Apply a staged import. A repeated request returns the import without changes."""
        turns = self._node.turns
        if self._node.store.made_by(request) or self._startable(import_id) is None:
            return self.get(import_id)
        self._node.require_operational()
        await turns.begin(long=True)
        try:
            if data := self._startable(import_id):
                self.working = import_id
                await asyncio.to_thread(require_applicable, self._node, self._path(import_id), data, expect_digest)
            if data := self._startable(import_id):  # it can end during the check
                await asyncio.shield(turns.spawn(self._commit(data, request)))
        finally:
            self.working = None
            turns.end()
        return self.get(import_id)

    def _startable(self, import_id: str) -> Data | None:
        """The import if it is staged, or None if it runs or was applied. Raises ApiError in other states."""
        self.end_expired()
        data = self._node.store.get("import", import_id)
        state = data["state"]
        if state == "staged":
            return data
        if state in (*WAITING, "applying", "applied"):
            return None
        if state == "checking":
            raise ApiError("import_in_progress", f"import {import_id} is being checked", running_id=import_id)
        if state == "expired":
            raise ApiError("import_expired", f"import {import_id} was staged more than {self._deadlines.ttl:g} s ago")
        raise ApiError("import_finished", f"import {import_id} has ended: {state}")

    async def _commit(self, data: Data, request: Request | None = None) -> None:
        """Apply the import, or wait for cards first. `request` is the request that commits, if it is not the upload."""
        pad, mbk = card_pin_pad(self._node), self._node.hsm.mbk()
        if pad is not None and mbk is not None:
            self._node.store.save(data, request)
            work = CardCallbacks(lambda: self._after_cards(data), lambda: self._forget(data["id"]))
            self._node.restores.ask_for_cards(data, pad, mbk, work)
            return
        self._change(data, request, state="applying")
        self._node.checkpoint("import.applying")
        await self._write(data)

    def _after_cards(self, data: Data) -> t.Awaitable[None]:
        self.working = data["id"]
        return self._write_after_cards(data)

    async def _write_after_cards(self, data: Data) -> None:
        try:
            await self._write(data)
        finally:
            self.working = None

    async def _write(self, data: Data) -> None:
        node = self._node
        try:
            await node.turns.hold("hold_apply")
            await asyncio.to_thread(write_import, node, data["id"], self._path(data["id"]), data["keys_digest"])
        except JobError as exc:
            self._fail(data, exc)
        except Exception:
            self._fail(data, JobError("import_failed", "an unexpected error was logged on the node"))
            raise
        else:
            node.restart()  # before clients can read the state applied and assume that the node is ready
            self._finish(data)
            node.checkpoint("import.applied")

    # End

    def discard(self, import_id: str) -> Data:
        """End an import. An import that has ended stays unchanged."""
        self.end_expired()
        data = self._node.store.get("import", import_id)
        checking = data["state"] == "checking" and self._node.behavior.commit == "apply"
        if data["finished_at"] is None and self.working == import_id and not checking:
            raise ApiError("import_in_progress", f"import {import_id} is running", running_id=import_id)
        self.end(import_id, JobError("canceled_by_request", "The import was discarded by DELETE"))
        return self.get(import_id)

    def end(self, import_id: str, reason: JobError) -> None:
        """End an import that was not committed. Other imports stay unchanged."""
        data = self._node.store.get("import", import_id)
        if data["state"] in WAITING:
            self._node.restores.cancel_import(reason)
        elif data["state"] in ("checking", "staged"):
            self._end(data, "discarded", reason)

    def end_expired(self) -> None:
        for import_id in self._deadlines.passed():
            running = self._node.running()
            if running is None or running["id"] != import_id:
                detail = f"The package was staged more than {self._deadlines.ttl:g} s ago"
                self._end(self._node.store.get("import", import_id), "expired", JobError("expired", detail))

    def _finish(self, data: Data) -> None:
        for row in data["rows"]:
            row["outcome"] = "done"
        self._change(data, state="applied", finished_at=utc_now(), keys_digest=self._node.hsm.digest())
        self._forget(data["id"])

    def _fail(self, data: Data, reason: JobError) -> None:
        """Set the state failed, and set the outcome of each key in its row."""
        current = {key.identity for key in self._node.hsm.list_keys()}
        for row in data["rows"]:
            there = KeyIdentity.from_dict(row) in current
            row["outcome"] = "done" if there != (row["action"] == "remove") else "pending"
        data["keys_digest"] = self._node.hsm.digest()
        self._end(data, "failed", reason)

    def _end(self, data: Data, state: str, reason: JobError) -> None:
        self._change(data, state=state, prompt=None, notice=None, problem=reason.problem, finished_at=utc_now())
        self._forget(data["id"])

    def _change(self, data: Data, request: Request | None = None, **changes: t.Any) -> None:
        data.update(changes, sequence=data["sequence"] + 1)
        self._node.store.save(data, request)

    def _forget(self, import_id: str) -> None:
        self._deadlines.forget(import_id)
        destroy(self._path(import_id))
