# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first start: identities, clients, MBK, cards, keys and the Ansible inventory.

cluster.json is written last. A marked folder without cluster.json comes from an interrupted first start, and is created again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import typing as t
import uuid

from utrust_appliance import pki, process
from utrust_appliance.cluster import Cluster, ClusterConfig, NodeConfig, Options
from utrust_appliance.errors import JobError, OperationError
from utrust_appliance.files import write_json, write_private
from utrust_appliance.hsm.backends import HsmBackend
from utrust_appliance.jobs.transfer import restore_from
from utrust_appliance.keys import SlotSettings
from utrust_appliance.mbk import Mbk, combine

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.cards import CardStore
    from utrust_appliance.node import Node

MBK_NAME, M, N = "KEYOPS", 2, 3
SLOTS = [SlotSettings(0, "signing"), SlotSettings(1, "encryption")]
# The first ten keys: (slot, label, kind). Further keys are `key-0011`, …, with the kinds of EXTRA.
FIRST_KEYS = [
    (0, "signKey-2025", "rsa-3072"),
    (0, "crlKey-2025", "ec-p384"),
    (0, "ocspKey-2025", "ec-p256"),
    (0, "tlsKey-2025", "ec-p256"),
    (0, "timestampKey-2025", "rsa-3072"),
    (0, "auditKey-2025", "ec-p256"),
    (1, "backupKey-2025", "aes-256"),
    (1, "recoveryKey-2025", "ec-p384"),
    (1, "archiveKey-2025", "rsa-3072"),
    (1, "databaseKey-2025", "aes-256"),
]
EXTRA = ("ec-p256", "ec-p384", "ec-p256", "aes-256")


class Plan(t.NamedTuple):
    """Parameters of the first start."""

    addresses: list[tuple[str, int]]
    joined: int
    restored: int
    keys: int
    key_mix: dict[str, int] | None
    name: str = "keyops"
    profile: t.Sequence[str] = ()
    hsm: HsmBackend = HsmBackend()
    first_serial: int = 1
    no_api: bool = False


def is_first_start(folder: Path, last: str = "cluster.json") -> bool:
    """Whether this is the first start. `last` is the file that is written last. Removes the files of an interrupted start."""
    if (folder / last).exists():
        return False
    for path in folder.iterdir():
        if path.name not in (process.MARK, "lock", "log"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return True


def provision(folder: Path, plan: Plan, options: Options) -> Cluster:
    server_ca, client_ca = pki.make_ca("simulator nodes CA"), pki.make_ca("simulator clients CA")
    server_ca.write(folder / "ca.pem", _private(folder) / "ca.key")
    client_ca.write(folder / "client-ca.pem", _private(folder) / "client-ca.key")
    operator, guest = pki.make_client(client_ca, "operator"), pki.make_client(client_ca, "guest")
    clients = folder / "clients"
    clients.mkdir(mode=0o700)
    operator.write(clients / "operator.pem", clients / "operator.key")
    guest.write(clients / "guest.pem", clients / "guest.key")
    token = secrets.token_urlsafe(32)
    write_private(clients / "operator.token", token.encode() + b"\n")

    nodes = [
        NodeConfig(
            f"node{number}", address, port, f"UT{plan.first_serial + number - 1:06d}", joined=number <= plan.joined
        )
        for number, (address, port) in enumerate(plan.addresses, start=1)
    ]
    for node in nodes:
        place = folder / "nodes" / node.name
        place.mkdir(mode=0o700, parents=True)
        pki.make_node(server_ca, node.name, node.address).write(place / "tls.pem", place / "tls.key")
    config = ClusterConfig(
        str(uuid.uuid4()),
        plan.name,
        nodes,
        [operator.sha256],
        [hashlib.sha256(token.encode()).hexdigest()],
        list(plan.profile),
        plan.hsm,
        [node.name for node in nodes] if plan.no_api else [],
    )
    cluster = Cluster(folder, config, options)
    _fill(cluster, plan)
    write_json(folder / "fingerprints.json", {node.name: node.tls_fingerprint for node in cluster.nodes.values()})
    write_inventory(cluster)
    config.save(folder / "cluster.json")
    return cluster


def _private(folder: Path) -> Path:
    (folder / "private").mkdir(mode=0o700, exist_ok=True)
    return folder / "private"


def _fill(cluster: Cluster, plan: Plan) -> None:
    source, *others = cluster.nodes.values()
    mbk = Mbk.generate(MBK_NAME, M, N)
    cluster.cards.create_set(mbk)
    source.hsm.initialize(mbk, SLOTS)
    planned = key_list(plan.keys, plan.key_mix)
    for slot in SLOTS:
        kinds = [(label, kind) for place, label, kind in planned if place == slot.slot]
        if kinds:
            source.hsm.generate(slot.slot, kinds[0][0], kinds)
    for node in others[: max(0, plan.restored - 1)]:
        restore_now(node, source)


def key_list(count: int, mix: dict[str, int] | None) -> list[tuple[int, str, str]]:
    """Slot, label and kind of the first keys. `mix` has kinds and their weights, and replaces the default mix."""
    if mix:
        cycle = [kind for kind, weight in mix.items() for dummy in range(weight)]
        return [
            (int(number % 3 == 0), f"key-{number:04d}", cycle[(number - 1) % len(cycle)])
            for number in range(1, count + 1)
        ]
    extra = [
        (number % 2, f"key-{number:04d}", EXTRA[number % len(EXTRA)])
        for number in range(len(FIRST_KEYS) + 1, count + 1)
    ]
    return (FIRST_KEYS + extra)[:count]


def mbk_of_cards(cards: CardStore, folder: Path, name: str) -> Mbk:
    """Combine the MBK of a card set from m cards and their PIN letters."""
    card_set = [card for card in cards.cards() if card.mbk.name == name]
    if not card_set:
        raise OperationError(f"The MBK {name} does not have cards.")
    facts = card_set[0].mbk
    ready = [card for card in card_set if not card.locked][: facts.m]
    if len(ready) < facts.m:
        raise OperationError(f"Only {len(ready)} cards of {name} are not locked, but {facts.m} cards are required.")
    shares = [
        cards.read_share(card.card, json.loads((folder / f"{card.card}.json").read_text(encoding="utf-8"))["pin"])
        for card in ready
    ]
    return Mbk(facts.name, combine(shares), facts.m, facts.n)


def restore_now(target: Node, source: Node) -> None:
    """Run a guided restore without people. The PINs come from the PIN letters."""
    facts = source.hsm.mbk()
    if facts is None or target.hsm.mbk() is not None:
        raise OperationError(f"{source.name} must hold an MBK, and {target.name} must be in Factory Reset Mode.")
    mbk = mbk_of_cards(target.cluster.cards, target.cluster.folder / "cards", facts.name)
    try:
        restore_from(target, source, mbk, secrets.token_hex(16))
    except JobError as exc:
        raise OperationError(f"The guided restore of {target.name} failed: {exc}.") from exc


def write_inventory(cluster: Cluster) -> None:
    """Write the Ansible inventory of the cluster, with the ports of its EJBCA."""
    settings = cluster.folder / "ejbca" / "settings.json"
    ports = json.loads(settings.read_text(encoding="utf-8"))["ports"] if settings.exists() else None
    lines = ["---", "# Simulated appliances. Written by `utrust-appliance up`.", "utrust:", "  hosts:"]
    text = "\n".join([*lines, *host_lines(cluster, ports)]) + "\n"
    write_private(cluster.folder / "inventory.yml", text.encode())


def _without_api(node: Node) -> dict[str, t.Any]:
    """The variables of a node whose API is off. People declare the facts that only the API reports."""
    if node.has_api:
        return {}
    facts = node.describe()
    mbk = next(iter(node.cluster.nodes.values())).describe()["mbk"] or {}
    hsm, behavior = facts["hsm"], node.behavior
    return {
        "utrust_transport": "assisted",
        "utrust_page_map": "b",
        "utrust_declared": {
            "cluster_id": node.cluster.id,
            "cluster_name": node.cluster.name,
            "hsm_serial": node.serial,
            "hsm_model": hsm["model"],
            "hsm_firmware": hsm["firmware"],
            "appliance_version": facts["appliance"]["version"],
            "mbk_name": mbk.get("name"),
            "mbk_check_value": mbk.get("check_value"),
            "mbk_required": mbk.get("m"),
            "mbk_total": mbk.get("n"),
            "fips": hsm["fips"],
            "import_effect": behavior.effect,
            "restart": behavior.restart,
        },
    }


def host_lines(
    cluster: Cluster, ejbca_ports: t.Mapping[str, int] | None = None, prefix: str | None = None
) -> list[str]:
    """`prefix` is a prefix of host names in an inventory of several clusters."""
    folder = os.path.abspath(cluster.folder)  # noqa: PTH100 - keeps symbolic links
    hosts: dict[str, t.Any] = {
        node.name: {
            "utrust_host": node.config.address,
            "utrust_port": node.config.port,
            "utrust_client_cert": f"{folder}/clients/operator.pem",
            "utrust_client_key": f"{folder}/clients/operator.key",
            "utrust_ca_file": f"{folder}/ca.pem",
            "utrust_tls_fingerprint": [node.tls_fingerprint],
            "utrust_pin_pad": "front-usb",
            **_without_api(node),
        }
        for node in cluster.nodes.values()
    }
    for name, port in (ejbca_ports or {}).items():
        hosts[name] |= {"utrust_ejbca_host": hosts[name]["utrust_host"], "utrust_ejbca_port": port}
        hosts[name] |= {
            f"utrust_ejbca_{option}": hosts[name][f"utrust_{option}"] for option in ("ca_file", "tls_fingerprint")
        }
        for account in ("reader", "operator"):
            place = f"{folder}/clients/ejbca-{account}"
            hosts[name] |= {
                f"utrust_ejbca_{account}_client_cert": f"{place}.pem",
                f"utrust_ejbca_{account}_client_key": f"{place}.key",
            }
    lines = []
    for name, variables in hosts.items():
        if prefix:
            variables["utrust_node"] = name
        lines.append(f"    {prefix or ''}{name}:")
        lines += [f"      {key}: {json.dumps(value)}" for key, value in variables.items()]
    return lines
