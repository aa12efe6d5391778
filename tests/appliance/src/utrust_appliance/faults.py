# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults on demand. Each kind has a name, a description and its parameters here; the place where it bites asks `find`.

Faults live in memory: a restarted appliance has none. They can be set only when it was started with `up --faults`, by the command `fault`, or
with `up --fault-port`, over a port on loopback, too (faultport.py).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import typing as t
from dataclasses import asdict, dataclass, field

from utrust_appliance.errors import OperationError

if t.TYPE_CHECKING:
    from utrust_appliance.hsm.base import Checkpoint


@dataclass(frozen=True)
class FaultKind:
    """What can be set. `params` are the parameters and their defaults; `requests` says whether method and path filter it."""

    description: str
    params: dict[str, t.Any] = field(default_factory=dict)
    requests: bool = False
    count: int | None = None


KINDS: dict[str, FaultKind] = {
    "lost_answer_before": FaultKind("the connection is cut before the request does anything", requests=True, count=1),
    "lost_answer_after": FaultKind(
        "the request is carried out, then the connection is cut instead of an answer", requests=True, count=1
    ),
    "latency": FaultKind(
        "a request is held back for some seconds before anything happens", {"seconds": 1.0}, requests=True
    ),
    "status": FaultKind(
        "a request is refused with 429 or 503 and Retry-After",
        {"status": 503, "retry_after": 1},
        requests=True,
        count=1,
    ),
    "not_json": FaultKind("a request is answered with status 200 and a page of HTML", requests=True, count=1),
    "reset_mid_transfer": FaultKind(
        "the connection is cut in the middle of a package, up or down", requests=True, count=1
    ),
    "truncate_download": FaultKind(
        "a package is downloaded without its last bytes, in a complete HTTP answer", {"bytes": 64}, count=1
    ),
    "alter_download": FaultKind(
        "one byte of a downloaded package is another; `consistent` fits Content-Digest to it",
        {"consistent": False},
        count=1,
    ),
    "wrong_digest": FaultKind("Content-Digest of a downloaded package is of other content", count=1),
    "package_cluster": FaultKind(
        "packages say that they are of another cluster, and are authentic", {"cluster_id": "another-cluster"}
    ),
    "package_key_type": FaultKind(
        "the first key of packages is of another type, and they are authentic", {"type": "exotic"}
    ),
    "other_mbk": FaultKind(
        "the node's HSM, and packages of it, are under the MBK of another cluster",
        {"mbk": "OTHER", "check_value": "0a0a0a0a0a0a0a0a"},
    ),
    "slot_full": FaultKind("a slot has no room for one more key", {"slot": 0}),
    "hold_package": FaultKind("a job that never ends: a package is being made until this fault is cleared"),
    "hold_apply": FaultKind(
        "a job that never ends: an import is being applied, and no key changes, until this fault is cleared"
    ),
    "hold_restore": FaultKind(
        "a job that never ends: a guided restore has its cards and is restoring, and no key changes, until this fault is cleared"
    ),
    "restart_applying": FaultKind(
        "the node restarts while it applies an import: it answers nobody for some seconds, and comes back with the `old` or the `new` keys",
        {"keys": "old", "seconds": 3.0},
        count=1,
    ),
    "api_version": FaultKind("the node names another version of the contract", {"version": "9.0"}),
    "unknown_key_type": FaultKind("the inventory shows one key more, of a type that nobody knows", {"type": "exotic"}),
    "clock_skew": FaultKind("the node's clock is wrong by some seconds", {"seconds": 3600}),
    "version_skew": FaultKind("the node runs another appliance version", {"version": "5.2.0"}),
    "firmware_skew": FaultKind("the HSM runs another firmware", {"firmware": "6.1.0"}),
    "fips": FaultKind("the HSM is in FIPS mode"),
    "alarm": FaultKind("the HSM is in the state alarm", {"reason": "tamper sensor"}),
    "hsm_state": FaultKind("the HSM is in another state", {"state": "maintenance"}),
    "driver_stopped": FaultKind("the HSM's driver is stopped: what needs the HSM is hsm_unavailable"),
    "pin_pad_gone": FaultKind("a PIN pad (default: all) does not answer", {"pin_pad": None}),
    "member_disconnected": FaultKind("the member list shows a member as disconnected", {"member": None}),
    "node_down": FaultKind("the node resets every connection, and the others show it as disconnected"),
    "import_fails": FaultKind(
        "an import fails when so many keys are written; whether they stay is up to the profile", {"after": 1}, count=1
    ),
    "crash_at": FaultKind("the whole appliance is killed (SIGKILL) at a named point", {"point": None}, count=1),
}
CRASH_POINTS = (
    "package.written",
    "import.received",
    "import.staged",
    "import.applying",
    "hsm.before_transaction",
    "hsm.in_token",  # backend pkcs11: half of the keys are in the token
    "hsm.in_transaction",
    "hsm.before_commit",
    "hsm.after_commit",
    "import.applied",
    "restore.started",
    "restore.card_accepted",
    "restore.fetched",
    "restore.done",
)


def describe_kinds() -> dict[str, dict[str, t.Any]]:
    """All that can be set, as data."""
    return {name: asdict(kind) for name, kind in KINDS.items()}


@dataclass
class Fault:
    """A fault that is set. `node` None means every node; `count` None means until it is cleared."""

    id: int
    name: str
    node: str | None
    method: str | None
    path: str | None
    count: int | None
    params: dict[str, t.Any]

    def fits(self, node: str, method: str | None, path: str | None) -> bool:
        if self.node not in (None, node):
            return False
        if self.method is not None and method is not None and self.method.upper() != method:
            return False
        return self.path is None or path is None or re.search(self.path, path) is not None


class Faults:
    """The faults that are set now."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._set: list[Fault] = []
        self._next = 1
        self._lock = threading.Lock()
        self._changed = asyncio.Event()

    def set(
        self,
        name: str,
        *,
        node: str | None = None,
        method: str | None = None,
        path: str | None = None,
        count: int | None = None,
        params: dict[str, t.Any] | None = None,
    ) -> Fault:
        kind = self._kind(name)
        params = params or {}
        unknown = set(params) - set(kind.params)
        if unknown:
            raise OperationError(
                f"{name} has no parameter {', '.join(sorted(unknown))}; it has {', '.join(kind.params) or 'none'}"
            )
        if (method or path) and not kind.requests:
            raise OperationError(f"{name} is not filtered by method or path")
        if name == "crash_at" and params.get("point") not in CRASH_POINTS:
            raise OperationError(f"crash_at needs a point out of {', '.join(CRASH_POINTS)}")
        if name == "restart_applying" and params.get("keys", "old") not in ("old", "new"):
            raise OperationError("restart_applying comes back with keys=old or keys=new")
        if path is not None:
            try:
                re.compile(path)
            except re.error as exc:
                raise OperationError(f"the path filter is no regular expression: {exc}") from exc
        with self._lock:
            fault = Fault(
                self._next, name, node, method, path, kind.count if count is None else count, {**kind.params, **params}
            )
            self._next += 1
            self._set.append(fault)
        return fault

    def clear(self, which: int | str | None = None) -> int:
        """By id, by name, or all; returns how many were cleared."""
        with self._lock:
            kept = [fault for fault in self._set if which is not None and which not in (fault.id, fault.name)]
            cleared = len(self._set) - len(kept)
            self._set = kept
        self._changed.set()
        self._changed = asyncio.Event()
        return cleared

    def list(self) -> list[dict[str, t.Any]]:
        with self._lock:
            return [asdict(fault) for fault in self._set]

    def find(self, name: str, node: str, method: str | None = None, path: str | None = None) -> Fault | None:
        """The first fault of that kind that fits; using it up counts."""
        with self._lock:
            for fault in self._set:
                if fault.name == name and fault.fits(node, method, path):
                    if fault.count is not None:
                        fault.count -= 1
                        if fault.count <= 0:
                            self._set.remove(fault)
                    return fault
        return None

    async def hold(self, name: str, node: str) -> None:
        """Wait while such a fault is set."""
        while self.find(name, node):
            await self._changed.wait()

    def checkpoint(self, node: str) -> Checkpoint:
        def reach(point: str) -> None:
            with self._lock:
                hit = any(
                    fault.name == "crash_at" and fault.fits(node, None, None) and fault.params["point"] == point
                    for fault in self._set
                )
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)

        return reach

    def _kind(self, name: str) -> FaultKind:
        if not self.enabled:
            raise OperationError("this appliance was started without --faults")
        if name not in KINDS:
            raise OperationError(f"unknown fault {name}; known are {', '.join(KINDS)}")
        return KINDS[name]
