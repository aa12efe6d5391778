# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One node of the cluster: its HSM, PIN pads, jobs and reported facts."""

from __future__ import annotations

import json
import time
import typing as t
from collections import Counter
from dataclasses import dataclass, replace

from utrust_appliance import clock
from utrust_appliance.errors import ApiError
from utrust_appliance.files import write_json
from utrust_appliance.jobs.imports import Imports
from utrust_appliance.jobs.packages import Packages
from utrust_appliance.jobs.restore_packages import RestorePackages
from utrust_appliance.jobs.restores import Restores
from utrust_appliance.jobs.turns import Turns
from utrust_appliance.keys import KeyEntry, KeyIdentity, keys_digest
from utrust_appliance.pki import expiry_of, fingerprint_of, make_node, read_identity
from utrust_appliance.request_log import RequestLog
from utrust_appliance.store import Store

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.behavior import Behavior
    from utrust_appliance.cluster import Cluster, NodeConfig
    from utrust_appliance.hsm.base import Hsm
    from utrust_appliance.mbk import MbkFacts

API_VERSION = "1.0"
PRODUCT = "Next Generation Hardware Appliance (simulator)"
VERSION = "5.1.0"
MODEL = "u.trust Anchor Se2k (simulator)"
FIRMWARE = "6.0.0"


@dataclass(frozen=True)
class PinPad:
    """A configured PIN pad. The remote PIN pad `rack-2` never responds (192.0.2.0/24 is for documentation, RFC 5737)."""

    name: str
    kind: str
    address: str | None
    responds: bool


PIN_PADS = (
    PinPad("front-usb", "local", None, responds=True),
    PinPad("rack-2", "remote", "192.0.2.40:5000", responds=False),
)


def alarm_code(alarm: str | None) -> str | None:
    """The kind of an alarm, from the reason of the fault."""
    return alarm if alarm in (None, "external_erase") else "other"


class Node:
    """A node, used by its API, its Webconf, its PIN pads and the admin operations."""

    def __init__(self, cluster: Cluster, config: NodeConfig, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.cluster = cluster
        self.config = config
        self.name = config.name
        self.folder = folder
        self.checkpoint = cluster.faults.checkpoint(config.name)
        self.hsm: Hsm = cluster.config.hsm.open(folder / "hsm", self.checkpoint, f"{config.name} {cluster.id[:8]}")
        self.store = Store(folder / "node.sqlite3")
        self.read_certificate()
        self.log = RequestLog(folder / "requests.jsonl")
        self.turns = Turns(self)
        self.packages = Packages(self, folder / "packages", cluster.options.object_ttl)
        self.imports = Imports(self, folder / "imports", cluster.options.object_ttl)
        self.restore_packages = RestorePackages(self, folder / "restore", cluster.options.object_ttl)
        self.restores = Restores(self, cluster.options.card_timeout)
        self._restart = ("nothing", 0.0)  # scope of the restart, and its end (monotonic)
        self._down_until = 0.0

    def read_certificate(self) -> None:
        """Read the TLS certificate, which all sites of the node then present."""
        self.tls_fingerprint = fingerprint_of(self.folder / "tls.pem")
        self.tls_expires_at = expiry_of(self.folder / "tls.pem")

    def renew_certificate(self) -> None:
        """Replace the TLS certificate by another one of the same CA, with another key."""
        ca = read_identity(self.cluster.folder / "ca.pem", self.cluster.folder / "private" / "ca.key")
        make_node(ca, self.name, self.config.address).write(self.folder / "tls.pem", self.folder / "tls.key")
        self.read_certificate()

    # State

    @property
    def behavior(self) -> Behavior:
        return self.cluster.behavior

    @property
    def has_api(self) -> bool:
        """Whether the appliance API responds. Real appliances have no documented API."""
        return self.name not in self.cluster.config.without_api

    def restart(self) -> None:
        """Start the restart that the profile defines for an import."""
        self._restart = (self.behavior.restart, time.monotonic() + self.cluster.options.restart_time)

    def restarting(self) -> str:
        scope, until = self._restart
        return scope if time.monotonic() < until else "nothing"

    def state(self) -> tuple[str, str | None]:
        """The HSM state, and the reason of an alarm."""
        faults = self.cluster.faults
        alarm = faults.find("alarm", self.name)
        # The alarm of an external erase ends when a restore brings an MBK.
        if alarm and not (alarm.params["reason"] == "external_erase" and self.hsm.mbk()):
            return "alarm", alarm.params["reason"]
        if other := faults.find("hsm_state", self.name):
            return other.params["state"], None
        return ("operational" if self.hsm.mbk() else "factory_reset"), None

    @property
    def last_backup_at(self) -> str | None:
        file = self.folder / "last-backup"
        return file.read_text(encoding="ascii") if file.exists() else None

    def note_backup(self) -> str:
        """Set the time of the last backup to now. The simulator does not create a backup."""
        (self.folder / "last-backup").write_text(clock.utc_now(), encoding="ascii")
        return str(self.last_backup_at)

    def running(self) -> dict[str, str] | None:
        if self.restores.running:
            return {"kind": self.restores.kind, "id": self.restores.running["id"]}
        if self.imports.working:
            return {"kind": "import", "id": self.imports.working}
        if self.packages.working:
            return {"kind": "package", "id": self.packages.working}
        return None

    def capabilities(self) -> list[str]:
        """Capabilities of the contract. The claim is offered by joined nodes only."""
        return [name for name in self.behavior.capabilities() if name != "cluster_claim" or self.config.joined]

    def reachable(self) -> bool:
        """Whether other members can reach this node and its HSM."""
        return self.connection() == "connected" and not self._driver_stopped()

    def _driver_stopped(self) -> bool:
        return self.cluster.faults.find("driver_stopped", self.name) is not None or self.restarting() == "driver"

    def unreachable(self) -> bool:
        """Whether the node does not respond because it is down or restarting."""
        return self.down() or self.restarting() == "node"

    def down(self) -> bool:
        """Whether a fault stops all responses, including responses to earlier requests."""
        return self.cluster.faults.find("node_down", self.name) is not None or time.monotonic() < self._down_until

    def rejects_clients(self) -> bool:
        """Whether the node resets the connection of a client."""
        return self.unreachable() or self.cluster.faults.find("route_cut", self.name) is not None

    def go_down(self, seconds: float) -> None:
        self._down_until = time.monotonic() + seconds

    def connection(self) -> str:
        faults = self.cluster.faults
        cut = any(
            f["name"] == "member_disconnected" and f["params"]["member"] in (None, self.name) for f in faults.list()
        )
        return "disconnected" if cut or not self.config.joined or self.unreachable() else "connected"

    def require_driver(self) -> None:
        if self._driver_stopped():
            raise ApiError("hsm_unavailable", f"the HSM driver of {self.name} is stopped")

    def require_operational(self) -> None:
        self.require_driver()
        state, dummy = self.state()
        if state != "operational":
            names = {"factory_reset": "Factory Reset Mode", "alarm": "the state Alarm", "maintenance": "Maintenance"}
            raise ApiError("hsm_not_operational", f"the HSM of {self.name} is in {names.get(state, state)}")

    def require_idle(self) -> None:
        """One restore, import or package at a time."""
        if running := self.running():
            kind, job = running["kind"], running["id"]
            raise ApiError(f"{kind}_in_progress", f"{kind} {job} is running on {self.name}", running_id=job)

    def destroyed(self) -> list[KeyIdentity]:
        """Keys that were destroyed here on purpose and are still missing. The profile defines whether packages list them."""
        path = self.folder / "destroyed.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        current = {key.identity for key in self.hsm.list_keys()}
        return [identity for identity in map(KeyIdentity.from_dict, known) if identity not in current]

    def note_destroyed(self, keys: t.Iterable[KeyIdentity]) -> None:
        noted = dict.fromkeys([*self.destroyed(), *keys])
        write_json(self.folder / "destroyed.json", [identity.as_dict() for identity in noted])

    # Reported facts

    @property
    def serial(self) -> str:
        """The serial number of the HSM."""
        other = self.cluster.faults.find("hsm_serial", self.name)
        return str(other.params["serial"]) if other else self.config.serial

    def mbk(self) -> MbkFacts | None:
        """The public facts of the MBK."""
        current = self.hsm.mbk()
        other = self.cluster.faults.find("other_mbk", self.name) if current else None
        return (
            replace(current, name=other.params["mbk"], check_value=other.params["check_value"])
            if current and other
            else current
        )

    def list_keys(self) -> tuple[list[KeyEntry], str]:
        keys = self.hsm.list_keys()
        digest = self.hsm.digest()
        if exotic := self.cluster.faults.find("unknown_key_type", self.name):
            fingerprint = f"sha256:{'e0' * 32}"
            keys.append(
                KeyEntry(KeyIdentity(0, "exotic", "e0", exotic.params["type"], 448, None, fingerprint), usable=True)
            )
            keys.sort(key=lambda key: key.identity.order)
            digest = keys_digest(key.identity for key in keys)
        return keys, digest

    def pin_pads(self) -> list[dict[str, t.Any]]:
        return [
            {"name": pad.name, "kind": pad.kind, "address": pad.address, "status": self._pad_status(pad)}
            for pad in PIN_PADS
        ]

    def _pad_status(self, pad: PinPad) -> str:
        gone = self.cluster.faults.find("pin_pad_unavailable", self.name)
        if not pad.responds or (gone and gone.params["pin_pad"] in (None, pad.name)):
            return "unavailable"
        busy = self.restores.running is not None and self.restores.running["pin_pad"] == pad.name
        return "busy" if busy else "ready"

    def describe(self) -> dict[str, t.Any]:
        """Node of the contract."""
        faults, name = self.cluster.faults, self.name
        keys, digest = self.list_keys()
        mbk = self.mbk()
        api, version = faults.find("api_version", name), faults.find("version_skew", name)
        skew = faults.find("clock_skew", name)
        return {
            "api_version": api.params["version"] if api else API_VERSION,
            "name": name,
            "appliance": {"product": PRODUCT, "version": version.params["version"] if version else VERSION},
            "hsm": self._describe_hsm(),
            "clock": clock.utc_now(float(skew.params["seconds"]) if skew else 0.0),
            "mbk": mbk.as_dict() if mbk else None,
            "slots": self._describe_slots(keys),
            "key_count": len(keys),
            "unusable_key_count": sum(1 for key in keys if not key.usable),
            "keys_digest": digest,
            "cluster": {
                "id": self.cluster.id,
                "name": self.cluster.name,
                "members": [node.member() for node in self.cluster.nodes.values()],
            },
            "running": self.running(),
            "capabilities": self.capabilities(),
            "import_behavior": self.behavior.announced(),
            "last_backup_at": self.last_backup_at,
            "tls_expires_at": self.tls_expires_at,
        }

    def _describe_hsm(self) -> dict[str, t.Any]:
        state, alarm = self.state()
        firmware = self.cluster.faults.find("firmware_skew", self.name)
        return {
            "family": "u_trust_anchor",
            "model": MODEL,
            "serial": self.serial,
            "firmware": firmware.params["firmware"] if firmware else FIRMWARE,
            "state": state,
            "alarm_code": alarm_code(alarm),
            "alarm": alarm,
            "fips": self.cluster.faults.find("fips", self.name) is not None,
            "driver": "stopped" if self._driver_stopped() else "running",
        }

    def _describe_slots(self, keys: list[KeyEntry]) -> list[dict[str, t.Any]]:
        counts = Counter(key.identity.slot for key in keys)
        names = ("slot", "label", "activation", "activated")
        return [
            {**{name: getattr(slot, name) for name in names}, "key_count": counts[slot.slot]}
            for slot in self.hsm.slots()
        ]

    def member(self) -> dict[str, t.Any]:
        return {
            "node": self.name,
            "address": self.config.address,
            "port": self.config.port,
            "joined": self.config.joined,
            "connection": self.connection(),
        }

    def close(self) -> None:
        self.hsm.close()
        self.store.close()
