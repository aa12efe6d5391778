# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare a cluster with its commissioning record before a change. Private to keyops.utrust."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import INCOMPLETE_TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.sync import targets_of
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning import record_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.canary import CanaryTarget, check_canary
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.check import check_commissioning
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.facts import EjbcaFacts, node_facts
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.identity import read_identities
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Limits
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

Document = dict[str, t.Any]
Variables = t.Mapping[str, t.Any]

RECORD: t.Final = "utrust_commissioning_record"
PUBLIC_KEY: t.Final = "utrust_commissioning_public_key"


class Host(t.NamedTuple):
    """Validated connection options and variables of an inventory host."""

    options: Variables
    variables: Variables


class Commissioning(t.NamedTuple):
    """The commissioning record of a run, and why it does not allow a change."""

    record: Document | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def digest(self) -> str | None:
        return self.record["digest"] if self.record is not None else None


def is_required(hosts: t.Mapping[str, Host]) -> bool:
    """Whether a change needs a record: some node has a transport that does not list all keys."""
    return any(host.options["transport"] in INCOMPLETE_TRANSPORTS for host in hosts.values())


def check_record(
    reading: ClusterReading, hosts: t.Mapping[str, Host], limits: Limits, *, on_bastion: bool
) -> Commissioning:
    """Compare all nodes that were read with the record that the variables of the source name."""
    of_source = hosts[reading.source.host].variables
    path, key = of_source.get(RECORD), of_source.get(PUBLIC_KEY)
    if is_blank(path):
        if not is_required(hosts):
            return Commissioning()
        text = f"a node has a transport that does not list all keys, and {RECORD} is not set"
        return _refused("commissioning_missing", text, "run the playbook readiness to make a record, and set its path")
    if on_bastion:
        text = "the record names certificates of the machine that executes the modules, and utrust_bastion moves them to another machine"
        return _refused(
            "readiness_needs_controller", text, "run the playbook on the bastion itself, without utrust_bastion"
        )
    if is_blank(key):
        return _refused(
            "commissioning_public_key_invalid", f"{PUBLIC_KEY} is not set", "set the public key that fits the record"
        )
    try:
        record = record_file.read(str(path).strip())
        public_key = record_file.read_public_key(str(key).strip())
    except UtrustError as exc:
        return _refused(exc.code, str(exc), "")
    now = datetime.datetime.now(datetime.UTC)
    problems = check_commissioning(record, public_key, {}, now)
    if not problems:
        problems = check_commissioning(record, public_key, _facts(reading, hosts, record, limits), now)
    return Commissioning(record, tuple(problems))


def _facts(
    reading: ClusterReading, hosts: t.Mapping[str, Host], record: Document, limits: Limits
) -> dict[str, Document]:
    """Return the facts of each node that was read. A node whose HSM lost its MBK is restored next, so its MBK is not compared."""
    nodes = {each.host: each.node for each in reading.readings if each.node is not None}
    shown = {
        host: hosts[host].options
        for host in nodes
        if hosts[host].options.get("ejbca") is not None and (record["nodes"].get(host) or {}).get("ejbca") is not None
    }
    ejbca = read_identities(shown, limits)
    facts = {}
    for host, node in nodes.items():
        facts[host] = node_facts(hosts[host].options, hosts[host].variables, node, ejbca.get(host, EjbcaFacts()))
        if node.hsm_state == "factory_reset":
            del facts[host]["mbk_check_value"]
    return facts


def canary_problems(
    reading: ClusterReading, hosts: t.Mapping[str, Host], record: Document | None, reason: t.Any
) -> list[Problem]:
    """Return why the keys must not be synchronized yet. A reason of the operator allows them."""
    if record is None or not is_required(hosts) or not is_blank(reason):
        return []
    targets = [
        CanaryTarget(
            target.node.name,
            (*target.difference.missing, *(pair.source_key for pair in target.difference.mismatched)),
        )
        for target in targets_of(reading)
    ]
    return check_canary(record["canary_key"], reading.source_node.name, reading.hsm_keys or (), targets)


def _refused(code: str, text: str, remedy: str) -> Commissioning:
    return Commissioning(problems=(Problem(code, "commissioning record", text, remedy),))
