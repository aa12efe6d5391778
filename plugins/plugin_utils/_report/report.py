# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data of a key report: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import KEYS_NOT_READ, key_matrix
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_matrix import view_matrix
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.ca_impact import cas_on_nodes
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.view_table import heading

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading

Data = dict[str, t.Any]

FORMAT: t.Final = "keyops.utrust/key_report/1"
NODE_FACTS: t.Final = (
    "product",
    "appliance_version",
    "hsm_model",
    "hsm_serial",
    "hsm_firmware",
    "hsm_state",
    "alarm",
    "fips",
    "driver",
    "clock",
    "mbk",
    "key_count",
    "unusable_key_count",
    "keys_digest",
)
VIEW_FACTS: t.Final = ("read", "left_out", "in_sync", "version", "identity", "tokens", "present")
#: Facts that should be equal on all nodes. For the MBK only the check value is compared.
COMMON_FACTS: t.Final = ("appliance_version", "hsm_model", "hsm_firmware", "fips", "mbk")


def report(
    reading: ClusterReading,
    *,
    time: str,
    version: str,
    cas: t.Sequence[t.Mapping[str, t.Any]] = (),
    history: Data | None = None,
) -> Data:
    """Return the report. `version` is that of the collection. Raises UtrustError if the keys of the source were not read."""
    matrix = key_matrix(reading)
    source = reading.source_node
    nodes = [_node(each, source) for each in reading.readings]
    nodes += [
        _unread_node(name, name, "the joined member was not part of this run") for name in reading.members_not_read
    ]
    view = _view(reading)
    connections = {member.node: member.connection for member in source.members}
    for node in nodes:
        node["connection"] = connections.get(node["name"])
    return {
        "format": FORMAT,
        "time": time,
        "collection": {"name": "keyops.utrust", "version": version},
        "cluster": {"id": source.cluster_id, "name": source.cluster_name},
        "source": reading.source.host,
        "verdict": _verdict(matrix, nodes, view),
        "nodes": nodes,
        "matrix": matrix,
        "ejbca_view": view,
        "cas": cas_on_nodes(cas, reading),
        "history": history,
    }


def _verdict(matrix: Data, nodes: t.Sequence[Data], view: Data | None) -> str:
    if matrix["drift"] or (view is not None and view["drift"]):
        return "drift"
    complete = all(node["read"] for node in nodes) and (view is None or view["in_sync"])
    return "in_sync" if matrix["in_sync"] and complete else "incomplete"


def _view(reading: ClusterReading) -> Data | None:
    """Return the EJBCA views, or None if they were not read. The member `facts` has the versions and the crypto tokens of each node."""
    if reading.view is None:
        return None
    matrix = view_matrix(reading.view, hsm_keys_known=reading.hsm_keys is not None)
    facts = [
        {"node": node.host, **{name: value for name, value in node.to_dict().items() if name in VIEW_FACTS}}
        for node in reading.view.nodes
    ]
    # The time of the server is left out: reports of the same cluster differ only in the time of the report.
    return {**matrix, "heading": heading(matrix), "facts": facts}


def _node(reading: NodeReading, source: Node) -> Data:
    reason = reading.why_unknown
    if reading.node is None:
        return _unread_node(reading.host, reading.name, reason or "the node was not read")
    facts, expected = reading.node.to_dict(), source.to_dict()
    return {
        "host": reading.host,
        "name": facts["name"],
        "read": True,
        "problem": reason if reading.difference is not None else reason or KEYS_NOT_READ,
        "in_sync": reading.in_sync,
        "differs": [fact for fact in COMMON_FACTS if _differs(_common(facts, fact), _common(expected, fact))],
        **{fact: facts[fact] for fact in NODE_FACTS},
    }


def _differs(fact: t.Any, expected: t.Any) -> bool:
    """Whether two facts are known to differ. The page shows an unknown fact as unknown."""
    return fact is not None and expected is not None and fact != expected


def _common(node: Data, fact: str) -> t.Any:
    if fact == "mbk":
        return (node["mbk"] or {}).get("check_value")
    return node[fact]


def _unread_node(host: str, name: str, problem: str) -> Data:
    facts: Data = dict.fromkeys(NODE_FACTS)
    return {"host": host, "name": name, **facts, "read": False, "problem": problem, "in_sync": None, "differs": []}
