# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports of Key Synchronization Packages: verified and staged, then applied atomically or discarded.

The profile can change this: the upload is the commit, keys are written one by one, cards are required, or a restart follows.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import typing as t

from utrust_appliance.clock import Deadlines, utc_in, utc_now
from utrust_appliance.errors import ApiError
from utrust_appliance.files import destroy
from utrust_appliance.hsm.base import KeySetChange, UnwrapError
from utrust_appliance.jobs.restores import CardCallbacks
from utrust_appliance.keys import KeyIdentity, KeyRef, SlotSettings, keys_digest
from utrust_appliance.package import PackageFile

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.node import Node
    from utrust_appliance.store import Data, Request

LOG = logging.getLogger(__name__)
ENDED = ("discarded", "expired", "failed", "canceled")


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
        """After a crash, the HSM defines the outcome of a running import."""
        if data["state"] not in ("applying", "waiting_for_card", "waiting_for_pin"):
            return
        behavior = self._node.behavior
        if self._node.hsm.committed(data["id"]):
            self._finish(data)
        elif data["state"] == "applying" and (behavior.commit, behavior.atomic) == ("apply", "all"):
            data["state"] = "staged"
        else:
            self._fail(data, ApiError("import_failed", "the node was restarted while the import was running"))
        self._node.store.save(data)

    def _path(self, import_id: str) -> Path:
        return self._folder / f"{import_id}.ksp"

    def upload_path(self) -> Path:
        """Path for an upload before it is staged."""
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
            data = await asyncio.to_thread(self._stage, request, upload, sha256, size)
            return await self._commit(data) if self._node.behavior.commit == "upload" else data

    def _stage(self, request: Request, upload: Path, sha256: str, size: int) -> Data:
        self._node.checkpoint("import.received")
        package = self._verified(upload)
        current = self._node.hsm.list_keys()
        plan = self._node.behavior.plan_import(current, package.header.keys, package.header.destroyed)
        self._require_room(package, ({key.identity.ref for key in current} | plan.put) - set(plan.remove))
        import_id = secrets.token_hex(16)
        upload.rename(self._path(import_id))
        data = {
            "id": import_id,
            "idempotency_key": request.key,
            "state": "staged",
            "sequence": 1,
            "package": package.header.facts(sha256, size),
            "keys_digest": keys_digest(key.identity for key in current),
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
        mbk = node.mbk()
        if mbk is None:
            raise ApiError("hsm_not_operational", "the HSM is in Factory Reset Mode")
        package = PackageFile(path)
        try:
            package.verify(
                mac=hsm.package_mac,
                mbk=mbk.check_value,
                cluster_id=node.cluster.id if node.behavior.binding == "cluster" else None,
                check=hsm.check,
            )
        except UnwrapError as exc:
            raise ApiError("package_corrupt", str(exc)) from exc
        return package

    def _require_room(self, package: PackageFile, after: set[KeyRef]) -> None:
        slots: dict[int, SlotSettings] = {slot.slot: slot for slot in [*package.header.slots, *self._node.hsm.slots()]}
        for slot in slots.values():
            count = sum(1 for ref in after if ref.slot == slot.slot)
            capacity = slot.capacity
            full = self._node.cluster.faults.find("slot_full", self._node.name)
            if full and full.params["slot"] == slot.slot:
                capacity = sum(1 for key in self._node.hsm.list_keys() if key.identity.slot == slot.slot)
            if count > capacity:
                raise ApiError(
                    "slot_full", f"slot {slot.slot} can hold {capacity} keys, the import would result in {count} keys"
                )

    def list(self) -> list[Data]:
        self.end_expired()
        return [self._node.restores.view(data) for data in self._node.store.list("import")]

    def get(self, import_id: str) -> Data:
        self.end_expired()
        return self._node.restores.view(self._node.store.get("import", import_id))

    async def apply(self, import_id: str, request: Request, if_match: t.Container[str]) -> Data:
        self.end_expired()
        data = self._node.store.get("import", import_id)
        self._node.store.made_by(request)  # rejects an Idempotency-Key of another request
        if data["state"] == "applied":
            return data
        if data["state"] == "expired":
            raise ApiError("import_expired", f"import {import_id} was staged more than {self._deadlines.ttl:g} s ago")
        if data["state"] in ENDED:
            raise ApiError("import_finished", f"import {import_id} has ended: {data['state']}")
        self._node.require_operational()
        self._node.require_idle()
        now = self._node.hsm.digest()
        if now not in if_match:
            raise ApiError(
                "keys_changed",
                f"the keys digest of the HSM is {now}, which If-Match does not name",
                keys_digest=now,
            )
        if now != data["keys_digest"]:
            detail = f"the keys digest was {data['keys_digest']} when the package was staged and is now {now}: stage the package again"
            raise ApiError("keys_changed", detail, keys_digest=now)
        return await self._commit(data, request)

    async def _commit(self, data: Data, request: Request | None = None) -> Data:
        """Apply the import, or wait for cards first."""
        mbk = self._node.hsm.mbk()
        if self._node.behavior.cards == "asked" and mbk is not None:
            pad = next((pad["name"] for pad in self._node.pin_pads() if pad["status"] == "ready"), None)
            if pad is None:
                self._end(data, "failed")
                raise ApiError(
                    "pin_pad_unavailable", f"an import requires cards, but no PIN pad of {self._node.name} responds"
                )
            self._node.store.save(data, request)
            work = CardCallbacks(lambda: self._after_cards(data), lambda: self._forget(data["id"]))
            return self._node.restores.ask_for_cards(data, pad, mbk, work)
        self.applying = data["id"]
        try:
            data["state"] = "applying"
            self._node.store.save(data, request)
            self._node.checkpoint("import.applying")
            await self._node.cluster.faults.hold("hold_apply", self._node.name)
            return await asyncio.to_thread(self._apply, data)
        finally:
            self.applying = None

    def _after_cards(self, data: Data) -> t.Awaitable[None]:
        self.applying = data["id"]
        return self._apply_in_background(data)

    async def _apply_in_background(self, data: Data) -> None:
        try:
            await self._node.cluster.faults.hold("hold_apply", self._node.name)
            await asyncio.to_thread(self._apply, data)
        except (ApiError, UnwrapError) as exc:
            LOG.info("%s: import %s: %s", self._node.name, data["id"], exc)
            if data["state"] == "staged":
                self._fail(data, ApiError("import_failed", str(exc)))
                self._node.store.save(data)
        finally:
            self.applying = None

    def _apply(self, data: Data) -> Data:
        node, behavior, hsm, path = self._node, self._node.behavior, self._node.hsm, self._path(data["id"])
        try:
            package = self._verified(path)
            plan = behavior.plan_import(hsm.list_keys(), package.header.keys, package.header.destroyed)
            put = [key for key in package.wrapped_keys() if key.identity.ref in plan.put]
            slots = behavior.slots_after_import(hsm.slots(), package.header.slots)
            self._restart_instead()
            self._write(KeySetChange(data["id"], put, plan.remove, slots, expect_digest=data["keys_digest"]))
        except (ApiError, UnwrapError) as exc:
            if isinstance(exc, ApiError) and exc.code == "import_failed":
                self._fail(data, exc)
            elif behavior.commit == "upload":
                self._fail(data, ApiError("import_failed", str(exc)))
            else:
                data["state"] = "staged"  # unchanged; the client can apply or discard the import
            node.store.save(data)
            raise
        if behavior.deletions == "travel":
            node.note_destroyed(package.header.destroyed)
        self._finish(data)
        node.restart()  # before clients can read the state applied and assume that the node is ready
        node.store.save(data)
        self._forget(data["id"])
        node.checkpoint("import.applied")
        return data

    def _restart_instead(self) -> None:
        """Fault: the node restarts without a response. With `old`, the import has not started; otherwise it continues."""
        if restart := self._node.cluster.faults.find("restart_during_import", self._node.name):
            self._node.go_down(float(restart.params["seconds"]))
            if restart.params["keys"] == "old":
                raise ApiError("unavailable", "the node was restarted while the import was running")

    def _write(self, change: KeySetChange) -> None:
        """Write all keys atomically or one by one. If keys are written one by one, keys without a replacement are removed last."""
        fails = self._node.cluster.faults.find("import_failure", self._node.name)
        after = int(fails.params["after"]) if fails else len(change.put) + 1
        if self._node.behavior.atomic == "all":
            if after <= len(change.put):
                raise ApiError(
                    "import_failed", f"key {after} of {len(change.put)} could not be written, and no key was changed"
                )
            self._node.hsm.apply(change)
            return
        expect, slots, remove = change.expect_digest, change.slots, list(change.remove)
        for number, key in enumerate(change.put):
            if number == after:
                raise ApiError("import_failed", f"{number} of {len(change.put)} keys were written, then the HSM failed")
            place = (key.identity.slot, key.identity.label)
            beside = [ref for ref in remove if (ref.slot, ref.label) == place][:1]
            try:
                self._node.hsm.apply(KeySetChange(f"{change.job}/{number}", [key], beside, slots, expect_digest=expect))
            except (ApiError, UnwrapError) as exc:
                if number == 0:
                    raise
                raise ApiError(
                    "import_failed", f"{number} of {len(change.put)} keys were written, then: {exc}"
                ) from exc
            expect, slots, remove = None, [], [ref for ref in remove if ref not in beside]
        if len(change.put) == after:
            raise ApiError("import_failed", "all keys were written, then the HSM failed")
        self._node.hsm.apply(KeySetChange(change.job, [], remove, slots, expect_digest=expect))

    def _finish(self, data: Data) -> None:
        data["state"] = "applied"
        data["finished_at"] = utc_now()
        data["keys_digest"] = self._node.hsm.digest()
        for row in data["rows"]:
            row["outcome"] = "done"

    def _fail(self, data: Data, problem: ApiError) -> None:
        """Set the state failed, and set the outcome of each key in its row."""
        current = {key.identity for key in self._node.hsm.list_keys()}
        data.update(state="failed", finished_at=utc_now(), keys_digest=self._node.hsm.digest())
        data["problem"] = {"code": problem.code, "title": problem.title, "detail": problem.detail}
        for row in data["rows"]:
            there = KeyIdentity.from_dict(row) in current
            row["outcome"] = "done" if there != (row["action"] == "remove") else "pending"
        self._forget(data["id"])

    def _forget(self, import_id: str) -> None:
        self._deadlines.forget(import_id)
        destroy(self._path(import_id))

    def discard(self, import_id: str) -> None:
        self.end_expired()
        data = self._node.store.get("import", import_id)
        if data["state"] in ENDED:
            return
        if data["state"] == "applied":
            raise ApiError("import_finished", f"import {import_id} was applied")
        if data["state"] == "applying":
            raise ApiError("import_in_progress", f"import {import_id} is running", running_id=import_id)
        if data["state"] in ("waiting_for_card", "waiting_for_pin"):
            self._node.restores.cancel_import()
        else:
            self._end(data, "discarded")

    def end_expired(self) -> None:
        for import_id in self._deadlines.passed():
            running = self._node.running()
            if running is None or running["id"] != import_id:
                self._end(self._node.store.get("import", import_id), "expired")

    def _end(self, data: Data, state: str) -> None:
        data["state"] = state
        data["finished_at"] = utc_now()
        self._node.store.save(data)
        self._forget(data["id"])
