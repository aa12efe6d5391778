# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fault injection. Every kind of fault is defined here. The affected code calls `find`.

Faults are kept in memory and end with the process. They require `up --faults` (command `fault`) or `up --fault-port` (fault_api.py).
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
    """A kind of fault. `params` has the default of each parameter. `requests`: whether method and path filter the fault."""

    description: str
    params: dict[str, t.Any] = field(default_factory=dict)
    requests: bool = False
    count: int | None = None


KINDS: dict[str, FaultKind] = {
    "lost_response_before": FaultKind(
        "the node closes the connection before it handles the request", requests=True, count=1
    ),
    "lost_response_after": FaultKind(
        "the node handles the request, then closes the connection without a response", requests=True, count=1
    ),
    "latency": FaultKind("the node delays a request", {"seconds": 1.0}, requests=True),
    "status": FaultKind(
        "the node rejects a request with 429 or 503 and Retry-After",
        {"status": 503, "retry_after": 1},
        requests=True,
        count=1,
    ),
    "free_text": FaultKind(
        "every free text of a JSON response ends with this text. The name of the MBK has at most 8 characters",
        {"text": "\x1b[2K"},
        requests=True,
    ),
    "not_json": FaultKind("the response is an HTML page with status 200", requests=True, count=1),
    "reset_mid_transfer": FaultKind(
        "the node closes the connection during the transfer of a package", requests=True, count=1
    ),
    "truncate_download": FaultKind(
        "the last bytes of a downloaded package are missing, in a complete HTTP response", {"bytes": 64}, count=1
    ),
    "corrupt_download": FaultKind(
        "one byte of a downloaded package is changed. With `consistent`, Content-Digest matches the changed package",
        {"consistent": False},
        count=1,
    ),
    "wrong_digest": FaultKind("Content-Digest of a downloaded package belongs to other content", count=1),
    "package_cluster": FaultKind("authentic packages name another cluster", {"cluster_id": "another-cluster"}),
    "package_key_type": FaultKind("the first key of authentic packages has an unknown type", {"type": "exotic"}),
    "other_mbk": FaultKind(
        "the HSM of the node and its packages use the MBK of another cluster",
        {"mbk": "OTHER", "check_value": "0a0a0a0a0a0a0a0a"},
    ),
    "slot_full": FaultKind("a slot is full", {"slot": 0}),
    "hold_package": FaultKind("a package stays in the state preparing until this fault is cleared"),
    "late_object": FaultKind(
        "the node closes the connection after it received a POST, and stores the object and acts some seconds later",
        {"seconds": 6.0},
        requests=True,
        count=1,
    ),
    "async_package": FaultKind("the node prepares a package some seconds after the response", {"seconds": 1.0}),
    "async_import": FaultKind("the node checks an uploaded package some seconds after the response", {"seconds": 1.0}),
    "single_download": FaultKind("the content of a package can be downloaded only once"),
    "hold_apply": FaultKind("an import stays in the state applying, without changes, until this fault is cleared"),
    "hold_restore": FaultKind(
        "a guided restore stays in the state restoring, without changes, until this fault is cleared"
    ),
    "restart_during_import": FaultKind(
        "the node restarts while it applies an import, and returns after some seconds with the `old` or the `new` keys",
        {"keys": "old", "seconds": 3.0},
        count=1,
    ),
    "restart_node": FaultKind(
        "the node handles a request, then restarts without a response, and returns after some seconds",
        {"seconds": 3.0},
        requests=True,
        count=1,
    ),
    "end_claim": FaultKind(
        "the claim of the cluster ends `before` the node checks it for a request, `during` the request or `after` it",
        {"when": "before"},
        requests=True,
        count=1,
    ),
    "api_version": FaultKind("the node reports another version of the contract", {"version": "9.0"}),
    "unknown_key_type": FaultKind("the key list contains an additional key of an unknown type", {"type": "exotic"}),
    "clock_skew": FaultKind("the clock of the node is wrong by some seconds", {"seconds": 3600}),
    "version_skew": FaultKind("the node reports another appliance version", {"version": "5.2.0"}),
    "firmware_skew": FaultKind("the node reports another HSM firmware", {"firmware": "6.1.0"}),
    "fips": FaultKind("the HSM is in FIPS mode"),
    "alarm": FaultKind("the HSM is in the state alarm", {"reason": "tamper sensor"}),
    "hsm_state": FaultKind("the HSM is in another state", {"state": "maintenance"}),
    "driver_stopped": FaultKind("the HSM driver is stopped. Operations that need the HSM return hsm_unavailable"),
    "pin_pad_unavailable": FaultKind("a PIN pad (default: all) does not respond", {"pin_pad": None}),
    "member_disconnected": FaultKind("the member list shows a member (default: all) as disconnected", {"member": None}),
    "node_down": FaultKind("the node resets every connection, and other members show it as disconnected"),
    "route_cut": FaultKind("the node resets every connection of a client, and other members show it as connected"),
    "hsm_serial": FaultKind(
        "the HSM reports another serial number, as after a replacement of the HSM", {"serial": "UT000999"}
    ),
    "import_failure": FaultKind(
        "an import fails after some keys. The profile defines whether the written keys stay", {"after": 1}, count=1
    ),
    "crash_at": FaultKind(
        "the process of the simulator is killed (SIGKILL) at a named point", {"point": None}, count=1
    ),
}
CRASH_POINTS = (
    "package.written",
    "import.received",
    "import.staged",
    "import.applying",
    "hsm.before_transaction",
    "hsm.in_token",  # backend pkcs11 only: half of the keys are in the token
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
    """Every kind of fault, as data."""
    return {name: asdict(kind) for name, kind in KINDS.items()}


@dataclass
class Fault:
    """An active fault. `node` None means every node. `count` None means until the fault is cleared."""

    id: int
    name: str
    node: str | None
    method: str | None
    path: str | None
    count: int | None
    params: dict[str, t.Any]

    def matches(self, node: str, method: str | None, path: str | None) -> bool:
        if self.node not in (None, node):
            return False
        if self.method is not None and method is not None and self.method.upper() != method:
            return False
        return self.path is None or path is None or re.search(self.path, path) is not None


class Faults:
    """The active faults."""

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
                f"{name} does not have the parameter {', '.join(sorted(unknown))}. Parameters: {', '.join(kind.params) or 'none'}."
            )
        if (method or path) and not kind.requests:
            raise OperationError(f"{name} does not support the filters method and path.")
        if name == "crash_at" and params.get("point") not in CRASH_POINTS:
            raise OperationError(f"The point of crash_at must be one of {', '.join(CRASH_POINTS)}.")
        if name == "restart_during_import" and params.get("keys", "old") not in ("old", "new"):
            raise OperationError("The parameter keys of restart_during_import must be old or new.")
        if name == "end_claim" and params.get("when", "before") not in ("before", "during", "after"):
            raise OperationError("The parameter when of end_claim must be before, during or after.")
        if path is not None:
            try:
                re.compile(path)
            except re.error as exc:
                raise OperationError(f"The path filter is not a valid regular expression: {exc}.") from exc
        with self._lock:
            fault = Fault(
                self._next, name, node, method, path, kind.count if count is None else count, {**kind.params, **params}
            )
            self._next += 1
            self._set.append(fault)
        return fault

    def clear(self, which: int | str | None = None) -> int:
        """Clear faults by id, by name, or all. Returns the number of cleared faults."""
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
        """The first matching fault of this kind. Decrements its count."""
        with self._lock:
            for fault in self._set:
                if fault.name == name and fault.matches(node, method, path):
                    if fault.count is not None:
                        fault.count -= 1
                        if fault.count <= 0:
                            self._set.remove(fault)
                    return fault
        return None

    async def hold(self, name: str, node: str) -> None:
        """Wait while a matching fault is active."""
        while self.find(name, node):
            await self._changed.wait()

    def checkpoint(self, node: str) -> Checkpoint:
        def reach(point: str) -> None:
            with self._lock:
                hit = any(
                    fault.name == "crash_at" and fault.matches(node, None, None) and fault.params["point"] == point
                    for fault in self._set
                )
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)

        return reach

    def _kind(self, name: str) -> FaultKind:
        if not self.enabled:
            raise OperationError("Faults are disabled. Start the cluster with --faults.")
        if name not in KINDS:
            raise OperationError(f"The fault {name} does not exist. Faults: {', '.join(KINDS)}.")
        return KINDS[name]
