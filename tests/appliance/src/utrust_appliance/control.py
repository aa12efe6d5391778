# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client of the control channel, for tests and for the command line. It uses the standard library only."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

from utrust_appliance import process
from utrust_appliance.errors import OperationError

JSON = dict[str, t.Any]
FRONT = "front-usb"


class Control:
    """A running simulated cluster. Every rejected operation raises `OperationError` with a message for people."""

    def __init__(self, folder: str | Path, *, timeout: float = 60.0) -> None:
        self.folder = Path(folder)
        self._timeout = timeout

    @classmethod
    def up(cls, folder: str | Path, **options: t.Any) -> Control:
        """Start or continue a cluster, and return when all nodes respond. The options of `utrust-appliance up` are keyword arguments.

        An intermediate process starts the cluster, so that a long-lived caller does not keep a zombie process.
        """
        command = [
            sys.executable,
            "-c",
            "import sys, json; from utrust_appliance.cli import start; sys.exit(start(sys.argv[1], json.loads(sys.argv[2])))",
        ]
        done = subprocess.run([*command, str(folder), json.dumps(options)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OperationError(done.stderr.strip())
        return cls(folder)

    def down(self, *, purge: bool = False) -> bool:
        """Stop the process and wait until it has ended. Returns False if no process was running."""
        stopped = process.stop(self.folder)
        if purge:
            process.purge(self.folder)
        return stopped

    @property
    def pid(self) -> int:
        run = process.running(self.folder)
        if run is None or run["pid"] is None:
            raise OperationError(f"No cluster runs in {self.folder}.")
        return int(run["pid"])

    def clusters(self) -> list[Control]:
        """The clusters that were started with `clusters=N`. In this case, the folder itself is not a cluster."""
        run = process.running(self.folder) or {}
        return [Control(self.folder / name, timeout=self._timeout) for name in run.get("clusters", [])]

    def call(self, op: str, **args: t.Any) -> t.Any:
        run = process.running(self.folder)
        if run and "clusters" in run:
            raise OperationError(
                f"{self.folder} contains {len(run['clusters'])} clusters. Select one of them, for example {self.folder}/{run['clusters'][0]}."
            )
        if run is None or "control" not in run:
            raise OperationError(
                f"No cluster runs in {self.folder}. Start it with `utrust-appliance up --dir {self.folder}`."
            )
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(self._timeout)
            try:
                channel.connect(run["control"])
                channel.sendall(json.dumps({"op": op, "args": args}).encode() + b"\n")
                with channel.makefile("rb") as lines:
                    line = lines.readline()
            except OSError as exc:
                raise OperationError(f"The cluster in {self.folder} does not respond: {exc}.") from exc
        if not line:
            raise OperationError(f"The cluster in {self.folder} ended without a response.")
        response = json.loads(line)
        if "error" in response:
            raise OperationError(response["error"])
        return response["result"]

    def set_profile(self, *names: str) -> JSON:
        """Set profiles and `aspect=value` now and for the next start. Without names, the behavior follows the contract."""
        return t.cast("JSON", self.call("profile_set", names=list(names)))

    def set_api(self, enabled: bool, *, node: str | None = None) -> list[str]:
        """Turn the appliance API of a node, or of all nodes, on or off now and for the next start. The inventory is written again.

        Returns the nodes without the API.
        """
        return t.cast("list[str]", self.call("api_set", enabled=enabled, node=node))

    # Files and facts for clients

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def inventory_file(self) -> Path:
        return self.folder / "inventory.yml"

    def client(self, name: str = "operator") -> tuple[Path, Path]:
        """Certificate and key of a client: `operator`, or `guest`, which is not registered on any node."""
        return self.folder / "clients" / f"{name}.pem", self.folder / "clients" / f"{name}.key"

    @property
    def token(self) -> str:
        return (self.folder / "clients" / "operator.token").read_text(encoding="utf-8").strip()

    def status(self) -> JSON:
        return t.cast("JSON", self.call("status"))

    def node(self, name: str) -> JSON:
        """A node: url, address, port, tls_fingerprint, state, serial, key_count, keys_digest, mbk, running, import_state."""
        for node in self.status()["nodes"]:
            if node["node"] == name:
                return t.cast("JSON", node)
        raise OperationError(f"The node {name} does not exist.")

    # Cards and PIN pads

    def cards(self, mbk: str | None = None) -> list[JSON]:
        return [card for card in self.call("card_list") if mbk in (None, card["mbk"]["name"])]

    def pin_of(self, card: str) -> str:
        """The PIN from the PIN letter, which exists for rehearsals only."""
        return str(json.loads((self.folder / "cards" / f"{card}.json").read_text(encoding="utf-8"))["pin"])

    def insert_card(self, node: str, card: str, pin_pad: str | None = None) -> JSON:
        return t.cast("JSON", self.call("card_insert", node=node, card=card, pin_pad=pin_pad))

    def remove_card(self, node: str) -> JSON:
        return t.cast("JSON", self.call("card_remove", node=node))

    def enter_pin(self, node: str, pin: str) -> JSON:
        return t.cast("JSON", self.call("pin", node=node, pin=pin))

    def present_card(self, node: str, card: str) -> JSON:
        """Insert the card and enter its correct PIN. Returns the guided restore."""
        self.insert_card(node, card)
        return self.enter_pin(node, self.pin_of(card))

    def cancel_at_pin_pad(self, node: str) -> JSON:
        return t.cast("JSON", self.call("pinpad_cancel", node=node))

    def pin_pad(self, node: str) -> JSON:
        return t.cast("JSON", self.call("pinpad_status", node=node))

    def create_mbk(self, name: str, m: int = 2, n: int = 3) -> list[JSON]:
        """Create an MBK that exists on cards only. Returns its cards."""
        return t.cast("list[JSON]", self.call("mbk_create", name=name, m=m, n=n))

    def load_mbk(self, node: str, name: str) -> JSON:
        """Make a node in Factory Reset Mode operational under that MBK, without keys."""
        return t.cast("JSON", self.call("mbk_load", node=node, name=name))

    def mbks(self) -> list[JSON]:
        return t.cast("list[JSON]", self.call("mbk_list"))

    def restore(self, node: str, source: str = "node1") -> JSON:
        """Run a guided restore without people, through the same code."""
        return t.cast("JSON", self.call("restore", node=node, source=source))

    def backup(self, node: str) -> None:
        """Set the time of the last backup to now."""
        self.call("backup", node=node)

    def renew_certificate(self, node: str) -> str:
        """Renew the TLS certificate of a node, and return its certificate fingerprint. `inventory_file` still has the old one."""
        return t.cast("str", self.call("certificate_renew", node=node))

    def factory_reset(self, node: str) -> None:
        self.call("factory_reset", node=node)

    # Keys

    def keys(self, node: str) -> list[JSON]:
        return t.cast("list[JSON]", self.call("key_list", node=node))

    def generate_key(
        self,
        node: str,
        label: str,
        kind: str = "ec-p256",
        *,
        slot: int = 0,
        count: int = 1,
        key_id: str | None = None,
    ) -> list[JSON]:
        """Generate keys. `key_id` sets the id of a single key, for example to the id of a key on another node."""
        return t.cast(
            "list[JSON]",
            self.call("key_generate", node=node, label=label, kind=kind, slot=slot, count=count, key_id=key_id),
        )

    # `fingerprint` selects one of several keys with the same slot and label.

    def delete_key(self, node: str, label: str, slot: int | None = None, fingerprint: str | None = None) -> None:
        self.call("key_delete", node=node, label=label, slot=slot, fingerprint=fingerprint)

    def damage_key(self, node: str, label: str, slot: int | None = None, fingerprint: str | None = None) -> None:
        self.call("key_damage", node=node, label=label, slot=slot, fingerprint=fingerprint)

    def sign(
        self, node: str, label: str, message: bytes, slot: int | None = None, fingerprint: str | None = None
    ) -> bytes:
        text = base64.b64encode(message).decode()
        return base64.b64decode(
            self.call("sign", node=node, label=label, slot=slot, fingerprint=fingerprint, message=text)
        )

    def public_key(self, node: str, label: str, slot: int | None = None, fingerprint: str | None = None) -> str:
        """The public key in PEM."""
        return str(self.call("key_public", node=node, label=label, slot=slot, fingerprint=fingerprint))

    def slots(self, node: str) -> list[JSON]:
        return t.cast("list[JSON]", self.call("slot_list", node=node))

    def set_slot(self, node: str, slot: int, **settings: t.Any) -> JSON:
        """Settings: label, capacity, activation (auto, manual, smart_card), activated."""
        return t.cast("JSON", self.call("slot_set", node=node, slot=slot, **settings))

    # EJBCA of a node

    def ejbca(self, node: str, operation: str, **args: t.Any) -> t.Any:
        """Run an operation on the EJBCA of a node.

        Operations: status, issue(ca, common_name), renew(ca, alias), next_key(alias, ca), create_ca(name, alias, in_health_check), activate,
        deactivate, set(auto_activation, regenerate_next_key, type, placeholders). `issue` returns certificate and ca_certificate in PEM.
        For tests of clients: flags(...), counters(clear), advance(seconds), end_sessions, slot_pin(slot, code, tries), pin_state(slot),
        certificate_object(label, certificate, slot), create_token(name, slot, kind, id, auto_activation, placeholders), delete_token(name).
        """
        return self.call("ejbca", node=node, operation=operation, args=args)

    # Faults and logs

    def fault(
        self,
        name: str,
        *,
        node: str | None = None,
        method: str | None = None,
        path: str | None = None,
        count: int | None = None,
        **params: t.Any,
    ) -> int:
        """Set a fault. Returns its id. `path` is a regular expression that is searched in the request path."""
        return int(
            self.call("fault_set", name=name, node=node, method=method, path=path, count=count, params=params)["id"]
        )

    def clear_faults(self, which: int | str | None = None) -> int:
        return int(self.call("fault_clear", which=which))

    def faults(self) -> list[JSON]:
        return t.cast("list[JSON]", self.call("fault_list"))

    def log(self, node: str) -> list[JSON]:
        return t.cast("list[JSON]", self.call("log", node=node))

    def requests(self, node: str) -> list[JSON]:
        return [entry for entry in self.log(node) if entry["event"] == "request"]

    def connections(self, node: str) -> int:
        """Number of TCP connections that the node has accepted, including connections without a request."""
        return sum(1 for entry in self.log(node) if entry["event"] == "connection")

    def clear_log(self, node: str | None = None) -> None:
        self.call("log_clear", node=node)
