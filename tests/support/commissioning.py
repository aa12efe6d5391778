# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commissioning records, and keys that sign them."""

from __future__ import annotations

import contextlib
import copy
import typing as t

from ansible.errors import AnsibleError
from ansible_collections.keyops.utrust.plugins.filter.ejbca_options import ejbca_options
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.declared import parse_declared
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning import record_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.facts import EjbcaFacts, node_facts
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.record import Content, Maker, make_record
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import connection_options
from ansible_collections.keyops.utrust.plugins.plugin_utils._signature import public_key_sha256
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.support.factories import node

if t.TYPE_CHECKING:
    from pathlib import Path

Document = dict[str, t.Any]

KEY: t.Final = Ed25519PrivateKey.generate()
CANARY: t.Final = {"crypto_token": "SigningToken", "alias": "canaryKey"}
MADE_AT: t.Final = "2026-11-26T11:00:00+00:00"
#: Version that the simulated EJBCA shows.
EJBCA_VERSION: t.Final = "8.2.0.1"


def public_pem(key: Ed25519PrivateKey = KEY) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def write_keys(folder: Path, key: Ed25519PrivateKey = KEY, *, mode: int = 0o600) -> tuple[str, str]:
    """Write a private and a public key. Returns both paths."""
    private, public = folder / "commissioning.key", folder / "commissioning.pub"
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(mode)
    public.write_text(public_pem(key), encoding="ascii")
    return str(private), str(public)


def facts_of(name: str, **changes: t.Any) -> Document:
    """Return the facts of a node with EJBCA."""
    options = {
        "transport": "rest",
        "host": f"{name}.example",
        "port": 443,
        "tls_fingerprint": ["ab" * 32],
        "ejbca": {"host": f"{name}.example", "port": 8443, "tls_fingerprint": ["cd" * 32], "ca_file": None},
    }
    facts = node_facts(options, {"utrust_page_map": "b"}, node(name=name), EjbcaFacts(name, "8.2.0.1"))
    accounts = dict.fromkeys(facts["accounts"], "sha256:" + "ef" * 32)
    return {**facts, "accounts": accounts, **changes}


def content(**changes: t.Any) -> Content:
    nodes = {name: facts_of(name) for name in ("node1", "node2")}
    steps = {name: {"route": "observed", "backup": "not checked"} for name in nodes}
    cluster = {"id": "cluster", "name": "keyops"}
    return Content(cluster, nodes, steps, None, CANARY)._replace(**changes)


def maker(key: Ed25519PrivateKey = KEY, **changes: t.Any) -> Maker:
    return Maker("Ada", "ada", MADE_AT, public_key_sha256(public_pem(key)), key.sign)._replace(**changes)


def record(**changes: t.Any) -> Document:
    """Return a signed record. `changes` are changes of its content."""
    return make_record(content(**changes), maker())


def edit(path: Path, change: t.Callable[[Document], t.Any]) -> None:
    """Edit the file of a record, and keep its form."""
    document = copy.deepcopy(record_file.read(str(path)))
    change(document)
    path.write_bytes(record_file.serialize(document))


def commission(inventory: Document, folder: Path, canary: str = "key-0001") -> None:
    """Sign a record of the nodes of an inventory with transport assisted, and set its variables.

    The key `canary` is on each restored node, as after the first synchronization.
    """
    group = inventory["utrust"]
    hosts = {host: {"inventory_hostname": host, **group.get("vars", {}), **own} for host, own in group["hosts"].items()}
    nodes = {}
    for host, of_host in hosts.items():
        # A test of invalid variables needs no facts of them.
        with contextlib.suppress(UtrustError, AnsibleError):
            nodes[host] = _assisted_facts(host, of_host)
    dummy, public = write_keys(folder)
    path = folder / "record.json"
    record_file.write(str(path), record(nodes=nodes, canary_key={"crypto_token": "SigningToken", "alias": canary}))
    group["vars"] = group.get("vars", {}) | {
        "utrust_commissioning_record": str(path),
        "utrust_commissioning_public_key": public,
    }


def _assisted_facts(host: str, of_host: Document) -> Document:
    declared = parse_declared(host, of_host.get("utrust_declared"))
    ejbca = ejbca_options(of_host, "reader")
    options = {"transport": "assisted", "port": 443, **connection_options(of_host), "ejbca": {"port": 443, **ejbca}}
    names = ("cluster_id", "cluster_name", "hsm_serial", "hsm_model", "hsm_firmware", "appliance_version", "mbk")
    facts = {name: getattr(declared, name) for name in (*names, "import_behavior")}
    return node_facts(options, of_host, node(name=host, **facts), EjbcaFacts(host, EJBCA_VERSION))
