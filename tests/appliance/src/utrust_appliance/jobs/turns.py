# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Order of the requests of a node: one request for each Idempotency-Key, and one job at a time."""

from __future__ import annotations

import asyncio
import typing as t
from contextlib import contextmanager

from utrust_appliance.errors import ApiError

if t.TYPE_CHECKING:
    from utrust_appliance.node import Node

PATIENCE = 10.0  # less than listing_seconds of the contract


class Turns:
    """The turn of the package or import that uses the HSM. Requests wait for a short job, and are rejected during a long job."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._keys: set[str] = set()
        self._ended: asyncio.Event | None = None  # of the present job
        self._long = False
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def receiving(self, key: str) -> t.Iterator[None]:
        """Reject a second request with this Idempotency-Key until the first request has stored its object."""
        if self._node.store.knows(key):
            yield
            return
        if key in self._keys:
            detail = "the request with this Idempotency-Key is still being received or checked"
            raise ApiError("request_in_progress", detail, headers={"Retry-After": "1"})
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)

    async def begin(self, *, long: bool = False) -> None:
        """Wait for the end of a short job, then start a job. A job starts only if the node is idle."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while self._ended is not None:
            left = end - asyncio.get_running_loop().time()
            if self._long or left <= 0:
                self._node.require_idle()
                raise ApiError("unavailable", f"{self._node.name} is busy")
            try:
                async with asyncio.timeout(min(left, 0.1)):
                    await self._ended.wait()
            except TimeoutError:
                continue
        self._node.require_idle()
        self._ended, self._long = asyncio.Event(), long

    def end(self) -> None:
        if self._ended is not None:
            self._ended.set()
        self._ended, self._long = None, False

    async def hold(self, fault: str) -> None:
        """Wait while a fault is active. The present job becomes a long job."""
        if any(active["name"] == fault for active in self._node.cluster.faults.list()):
            self._long = True
        await self._node.cluster.faults.hold(fault, self._node.name)

    def later(self, fault: str) -> float | None:
        """Seconds between the response and the work of this job, or None if the response follows the work."""
        found = self._node.cluster.faults.find(fault, self._node.name)
        self._long = found is not None
        return float(found.params["seconds"]) if found else None

    def spawn(self, work: t.Coroutine[t.Any, t.Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
