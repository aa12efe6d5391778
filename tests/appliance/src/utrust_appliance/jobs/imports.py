# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key Synchronization Packages brought to a node: verified and staged first, then applied as one change, or discarded."""

from __future__ import annotations

import asyncio
import secrets
import typing as t

from utrust_appliance.clock import Deadlines, utc_in, utc_now
from utrust_appliance.errors import Problem
from utrust_appliance.files import destroy
from utrust_appliance.hsm.base import KeySetChange, UnwrapFailed
from utrust_appliance.inventory import KeyRef, SlotSettings, inventory_digest
from utrust_appliance.package import PackageFile

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.node import Node
    from utrust_appliance.store import Data, Request

ENDED = ("discarded", "expired")


class Imports:
    """The imports of one node."""

    def __init__(self, node: Node, folder: Path, ttl: float) -> None:
        self._node = node
        self._folder = folder
        self._deadlines = Deadlines(ttl)
        self._staging = asyncio.Lock()
        self.applying: str | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = set()
        for data in node.store.list("import"):
            self._settle(data)
            if data["state"] == "staged":
                kept.add(data["id"])
                self._deadlines.resume(data["id"], data["expires_at"])
        for file in folder.iterdir():
            if file.stem not in kept:
                destroy(file)

    def _settle(self, data: Data) -> None:
        """After a crash the HSM says whether an import that was being applied is in it."""
        if data["state"] == "applying":
            if self._node.hsm.committed(data["id"]):
                self._finish(data)
            else:
                data["state"] = "staged"
            self._node.store.save(data)

    def _path(self, import_id: str) -> Path:
        return self._folder / f"{import_id}.ksp"

    def upload_path(self) -> Path:
        """Where an upload may be written before it is staged."""
        return self._folder / f"{secrets.token_hex(16)}.part"

    def require_stageable(self) -> None:
        self._node.require_operational()
        self._node.require_idle()

    async def stage(self, request: Request, upload: Path, sha256: str, size: int) -> Data:
        async with self._staging:
            made = self._node.store.made_by(request)
            if made:
                return self._node.store.get("import", made)
            self.require_stageable()
            return await asyncio.to_thread(self._stage, request, upload, sha256, size)

    def _stage(self, request: Request, upload: Path, sha256: str, size: int) -> Data:
        self._node.checkpoint("import.received")
        package = self._verified(upload)
        held = self._node.hsm.inventory()
        plan = self._node.behaviour.plan_import(held, package.header.keys)
        self._require_room(package, ({key.identity.ref for key in held} | plan.put) - set(plan.remove))
        import_id = secrets.token_hex(16)
        upload.rename(self._path(import_id))
        data = {
            "id": import_id,
            "idempotency_key": request.key,
            "state": "staged",
            "package": package.header.facts(sha256, size),
            "inventory_digest": inventory_digest(key.identity for key in held),
            "rows": plan.rows,
            "created_at": utc_now(),
            "expires_at": utc_in(self._deadlines.ttl),
            "finished_at": None,
        }
        self._node.store.add("import", data, request)
        self._deadlines.start(import_id)
        self._node.checkpoint("import.staged")
        return data

    def _verified(self, path: Path) -> PackageFile:
        hsm, node = self._node.hsm, self._node
        mbk = hsm.mbk()
        if mbk is None:
            raise Problem("hsm_not_operational", "the HSM is in Factory Reset Mode")
        package = PackageFile(path)
        try:
            package.verify(
                mac=hsm.package_mac,
                mbk=mbk.check_value,
                cluster_id=node.cluster.id if node.behaviour.package_bound_to_cluster else None,
                check=hsm.check,
            )
        except UnwrapFailed as exc:
            raise Problem("package_altered", str(exc)) from exc
        return package

    def _require_room(self, package: PackageFile, after: set[KeyRef]) -> None:
        slots: dict[int, SlotSettings] = {slot.slot: slot for slot in [*package.header.slots, *self._node.hsm.slots()]}
        for slot in slots.values():
            count = sum(1 for ref in after if ref.slot == slot.slot)
            if count > slot.capacity:
                raise Problem(
                    "slot_full", f"slot {slot.slot} takes {slot.capacity} keys, the import would make {count}"
                )

    def list(self) -> list[Data]:
        self.sweep()
        return self._node.store.list("import")

    def get(self, import_id: str) -> Data:
        self.sweep()
        return self._node.store.get("import", import_id)

    async def apply(self, import_id: str, request: Request, if_match: t.Container[str]) -> Data:
        data = self.get(import_id)
        self._node.store.made_by(request)  # refuses a key that belongs to another request
        if data["state"] == "applied":
            return data
        if data["state"] == "expired":
            raise Problem("expired", f"import {import_id} was staged more than {self._deadlines.ttl:g} s ago")
        if data["state"] == "discarded":
            raise Problem("import_finished", f"import {import_id} was discarded")
        self._node.require_operational()
        self._node.require_idle()
        now = self._node.hsm.digest()
        if now not in if_match:
            raise Problem(
                "inventory_changed",
                f"the HSM holds the inventory {now}, which If-Match does not name",
                inventory_digest=now,
            )
        if now != data["inventory_digest"]:
            detail = f"the HSM held the inventory {data['inventory_digest']} when the package was staged, now {now}: stage it again"
            raise Problem("inventory_changed", detail, inventory_digest=now)
        self.applying = import_id
        try:
            data["state"] = "applying"
            self._node.store.save(data, request)
            self._node.checkpoint("import.applying")
            await self._node.cluster.faults.hold("hold_apply", self._node.name)
            return await asyncio.to_thread(self._apply, data, now)
        finally:
            self.applying = None

    def _apply(self, data: Data, expect: str) -> Data:
        hsm, path = self._node.hsm, self._path(data["id"])
        try:
            package = self._verified(path)
            plan = self._node.behaviour.plan_import(hsm.inventory(), package.header.keys)
            put = [key for key in package.wrapped_keys() if key.identity.ref in plan.put]
            slots = self._node.behaviour.slots_after_import(hsm.slots(), package.header.slots)
            hsm.apply(KeySetChange(job=data["id"], put=put, remove=plan.remove, slots=slots, expect_digest=expect))
        except (Problem, UnwrapFailed):
            data["state"] = "staged"  # nothing has changed; the client may try again or discard it
            self._node.store.save(data)
            raise
        self._finish(data)
        self._node.store.save(data)
        self._deadlines.forget(data["id"])
        destroy(path)
        self._node.checkpoint("import.applied")
        return data

    def _finish(self, data: Data) -> None:
        data["state"] = "applied"
        data["finished_at"] = utc_now()
        data["inventory_digest"] = self._node.hsm.digest()
        for row in data["rows"]:
            row["outcome"] = "done"

    def discard(self, import_id: str) -> None:
        data = self.get(import_id)
        if data["state"] in ENDED:
            return
        if data["state"] == "applied":
            raise Problem("import_finished", f"import {import_id} was applied")
        if data["state"] == "applying":
            raise Problem("import_in_progress", f"import {import_id} is being applied", running_id=import_id)
        self._end(data, "discarded")

    def sweep(self) -> None:
        for import_id in self._deadlines.passed():
            if import_id != self.applying:
                self._end(self._node.store.get("import", import_id), "expired")

    def _end(self, data: Data, state: str) -> None:
        destroy(self._path(data["id"]))
        data["state"] = state
        data["finished_at"] = utc_now()
        self._node.store.save(data)
        self._deadlines.forget(data["id"])
