# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key Synchronization Packages that a node offers for download."""

from __future__ import annotations

import asyncio
import secrets
import typing as t
from contextlib import contextmanager
from dataclasses import replace

from utrust_appliance.clock import Deadlines, utc_in, utc_now
from utrust_appliance.errors import ApiError, JobError
from utrust_appliance.files import destroy
from utrust_appliance.hsm.base import UnwrapError
from utrust_appliance.jobs.import_writer import keys_changed
from utrust_appliance.package import Header, write_package

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.node import Node
    from utrust_appliance.store import Data, Request


def build_package(node: Node, path: Path) -> tuple[Header, str, int]:
    """Write a consistent package of the HSM of this node. Guided restores of other nodes use the same function."""
    image = node.hsm.export()
    mbk = node.mbk() or image.mbk
    header = Header(
        cluster_id=node.cluster.id,
        node=node.name,
        hsm_serial=node.serial,
        mbk_name=mbk.name,
        mbk_check_value=mbk.check_value,
        slots=image.slots,
        keys=[key.identity for key in image.keys],
        destroyed=node.destroyed() if node.behavior.deletions == "replicated" else [],
    )
    faults = node.cluster.faults
    if other := faults.find("package_cluster", node.name):
        header = replace(header, cluster_id=other.params["cluster_id"])
    if header.keys and (exotic := faults.find("package_key_type", node.name)):
        header = replace(header, keys=[replace(header.keys[0], type=exotic.params["type"]), *header.keys[1:]])
    sha256, size = write_package(path, header, image.keys, node.hsm.package_mac)
    return header, sha256, size


class Packages:
    """The packages of one node: preparing -> ready -> deleted or expired, else failed. The content exists in the state ready only."""

    def __init__(self, node: Node, folder: Path, ttl: float) -> None:
        self._node = node
        self._folder = folder
        self._deadlines = Deadlines(ttl)
        self._downloading: set[str] = set()
        self.working: str | None = None  # the package that is being prepared
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ready = set()
        for data in node.store.unfinished("package"):
            if data["state"] == "ready" and self._path(data["id"]).exists():
                ready.add(data["id"])
                self._deadlines.resume(data["id"], data["expires_at"])
            else:
                self._end(data, "failed", JobError("interrupted", "the node was restarted during the preparation"))
        for file in folder.iterdir():
            if file.stem not in ready:
                destroy(file)  # unfinished file of a killed process

    def _path(self, package_id: str) -> Path:
        return self._folder / f"{package_id}.ksp"

    async def create(self, request: Request, expect_digest: str | None, *, wait: bool = False) -> Data:
        """Return the package of this request: ready, failed, or preparing. `wait` returns it at its end only."""
        turns = self._node.turns
        if made := self._node.store.made_by(request):
            return self.get(made)
        self._node.require_operational()
        await turns.begin()
        try:
            data = self._new(request, expect_digest)
            delay = None if wait else turns.later("async_package")
        except BaseException:
            turns.end()
            raise
        work = turns.spawn(self._prepare(data, expect_digest, delay))
        if delay is None:
            await asyncio.shield(work)
        return self.get(data["id"])

    def _new(self, request: Request, expect_digest: str | None) -> Data:
        """Store the package before the HSM is used."""
        self.end_expired()
        node = self._node
        node.require_operational()
        mbk = node.mbk()
        if mbk is None:
            raise ApiError("mbk_missing", "a package requires a Master Backup Key")
        digest = node.hsm.digest()
        if expect_digest not in (None, digest):
            raise keys_changed(digest)
        data: Data = {
            "id": secrets.token_hex(16),
            "idempotency_key": request.key,
            "state": "preparing",
            "sequence": 1,
            "sha256": None,
            "size": None,
            "source": {"node": node.name, "hsm_serial": node.serial},
            "cluster_id": node.cluster.id,
            "mbk": {"name": mbk.name, "check_value": mbk.check_value},
            "key_count": len(node.hsm.list_keys()),
            "keys_digest": digest,
            "single_download": node.cluster.faults.find("single_download", node.name) is not None,
            "problem": None,
            "created_at": utc_now(),
            "expires_at": utc_in(self._deadlines.ttl),
            "finished_at": None,
        }
        node.store.add("package", data, request)
        self._deadlines.start(data["id"])
        self.working = data["id"]
        return data

    async def _prepare(self, data: Data, expect_digest: str | None, delay: float | None) -> None:
        """Write the content. If the response was not sent, unexpected keys reject the request."""
        try:
            await asyncio.sleep(delay or 0)
            await self._node.turns.hold("hold_package")
            facts = await asyncio.to_thread(self._write, data["id"], expect_digest)
            if self._node.store.get("package", data["id"])["state"] == "preparing":
                data.update(facts, state="ready", sequence=data["sequence"] + 1)
                self._node.store.save(data)
            else:
                self._erase(data["id"])  # ended meanwhile
        except (ApiError, UnwrapError, OSError) as exc:
            if isinstance(exc, ApiError) and exc.code == "keys_changed" and delay is None:
                self._erase(data["id"])
                self._node.store.remove(data["id"])
                raise
            self._end(data, "failed", JobError.of(exc, "export_failed"))
        finally:
            self.working = None
            self._node.turns.end()

    def _write(self, package_id: str, expect_digest: str | None) -> Data:
        header, sha256, size = build_package(self._node, self._path(package_id))
        if expect_digest not in (None, header.keys_digest):
            raise keys_changed(header.keys_digest)
        self._node.checkpoint("package.written")
        return header.facts(sha256, size)

    def list(self, key: str = "") -> list[Data]:
        self.end_expired()
        return self._node.store.list("package", key=key)

    def get(self, package_id: str) -> Data:
        self.end_expired()
        return self._node.store.get("package", package_id)

    @contextmanager
    def content(self, package_id: str) -> t.Iterator[tuple[Data, Path]]:
        """Facts and file of a package for a download. A package for a single download ends afterwards."""
        data = self.get(package_id)
        if data["state"] != "ready":
            raise ApiError("package_not_ready", f"package {package_id} is in the state {data['state']}")
        if package_id in self._downloading:
            raise ApiError("package_not_ready", f"package {package_id} is being downloaded")
        if not data["single_download"]:
            yield data, self._path(package_id)
            return
        self._downloading.add(package_id)
        try:
            yield data, self._path(package_id)
        finally:
            self._downloading.discard(package_id)

    def downloaded(self, package_id: str) -> None:
        """End a package for a single download, after a download that sent content."""
        data = self.get(package_id)
        if data["state"] == "ready" and data["single_download"]:
            self._end(data, "deleted", JobError("canceled_by_request", "The package was downloaded"))

    def delete(self, package_id: str) -> Data:
        data = self.get(package_id)
        if data["state"] == "preparing":
            detail = f"package {package_id} is being prepared"
            raise ApiError("package_in_progress", detail, running_id=package_id)
        if data["state"] == "ready":
            self._end(data, "deleted", JobError("canceled_by_request", "The package was deleted by DELETE"))
        return self.get(package_id)

    def end(self, package_id: str, reason: JobError) -> None:
        """Delete a package without a request, also while it is being prepared."""
        data = self.get(package_id)
        if data["finished_at"] is None:
            self._end(data, "deleted", reason)

    def end_expired(self) -> None:
        for package_id in self._deadlines.passed():
            if package_id != self.working:
                detail = f"The package was created more than {self._deadlines.ttl:g} s ago"
                self._end(self._node.store.get("package", package_id), "expired", JobError("expired", detail))

    def _end(self, data: Data, state: str, reason: JobError) -> None:
        self._erase(data["id"])
        data.update(state=state, sequence=data["sequence"] + 1, problem=reason.problem, finished_at=utc_now())
        self._node.store.save(data)

    def _erase(self, package_id: str) -> None:
        destroy(self._path(package_id))
        self._deadlines.forget(package_id)
