# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key Synchronization Packages that a node offers for download."""

from __future__ import annotations

import asyncio
import secrets
import typing as t
from dataclasses import replace

from utrust_appliance.clock import Deadlines, utc_in, utc_now
from utrust_appliance.errors import ApiError
from utrust_appliance.files import destroy
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
        destroyed=node.destroyed() if node.behavior.deletions == "travel" else [],
    )
    faults = node.cluster.faults
    if other := faults.find("package_cluster", node.name):
        header = replace(header, cluster_id=other.params["cluster_id"])
    if header.keys and (exotic := faults.find("package_key_type", node.name)):
        header = replace(header, keys=[replace(header.keys[0], type=exotic.params["type"]), *header.keys[1:]])
    sha256, size = write_package(path, header, image.keys, node.hsm.package_mac)
    return header, sha256, size


class Packages:
    """The packages of one node."""

    def __init__(self, node: Node, folder: Path, ttl: float) -> None:
        self._node = node
        self._folder = folder
        self._deadlines = Deadlines(ttl)
        self._making = asyncio.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = {data["id"]: data for data in node.store.list("package")}
        for file in folder.iterdir():
            if file.stem not in known:
                destroy(file)  # unfinished file of a killed process
        for package_id, data in known.items():
            if self._path(package_id).exists():
                self._deadlines.resume(package_id, data["expires_at"])
            else:
                node.store.remove(package_id)

    def _path(self, package_id: str) -> Path:
        return self._folder / f"{package_id}.ksp"

    async def create(self, request: Request, expect_digest: str | None) -> Data:
        async with self._making:
            self.destroy_expired()
            made = self._node.store.made_by(request)
            if made:
                return self._node.store.get("package", made)
            self._node.require_operational()
            self._node.require_idle()
            await self._node.cluster.faults.hold("hold_package", self._node.name)
            return await asyncio.to_thread(self._create, request, expect_digest)

    def _create(self, request: Request, expect_digest: str | None) -> Data:
        package_id = secrets.token_hex(16)
        path = self._path(package_id)
        header, sha256, size = build_package(self._node, path)
        if expect_digest not in (None, header.keys_digest):
            destroy(path)
            raise ApiError(
                "keys_changed",
                f"the keys digest of the HSM is {header.keys_digest}, not {expect_digest}",
                keys_digest=header.keys_digest,
            )
        self._node.checkpoint("package.written")
        data = {
            "id": package_id,
            "idempotency_key": request.key,
            **header.facts(sha256, size),
            "created_at": utc_now(),
            "expires_at": utc_in(self._deadlines.ttl),
        }
        self._node.store.add("package", data, request)
        self._deadlines.start(package_id)
        return data

    def list(self) -> list[Data]:
        self.destroy_expired()
        return self._node.store.list("package")

    def get(self, package_id: str) -> Data:
        self.destroy_expired()
        return self._node.store.get("package", package_id)

    def content(self, package_id: str) -> tuple[Data, Path]:
        return self.get(package_id), self._path(package_id)

    def delete(self, package_id: str) -> None:
        self.get(package_id)
        self._destroy(package_id)

    def destroy_expired(self) -> None:
        for package_id in self._deadlines.passed():
            self._destroy(package_id)

    def _destroy(self, package_id: str) -> None:
        destroy(self._path(package_id))
        self._node.store.remove(package_id)
        self._deadlines.forget(package_id)
