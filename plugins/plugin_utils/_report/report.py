# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data of a key report: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import key_matrix, parse_node_keys
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.ca_impact import cas_on_nodes

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
#: Facts that should be equal on all nodes. For the MBK only the check value is compared.
COMMON_FACTS: t.Final = ("appliance_version", "hsm_model", "hsm_firmware", "fips", "mbk")


def report(
    results: t.Mapping[str, t.Any],
    source: str,
    *,
    cas: t.Sequence[t.Mapping[str, t.Any]] = (),
    unreachable_nodes: t.Sequence[str] = (),
) -> Data:
    """Return the report without its time and its history.

    `results` has the result of utrust_hsm_info for each node, also if it failed. `unreachable_nodes` are members that were not read. Raises UtrustError.
    """
    node_keys = {name: parse_node_keys(result) for name, result in results.items()}
    matrix = key_matrix(node_keys, source)
    source_node = results[source]["node"]
    nodes = [_node(name, result, matrix, source_node) for name, result in results.items()]
    connections = {member["node"]: member["connection"] for member in source_node["members"]}
    for node in nodes:
        node["connection"] = connections.get(node["name"])
    nodes += [
        _unreachable_node(name, "the joined member was not part of this run", connections.get(name))
        for name in unreachable_nodes
    ]
    return {
        "format": FORMAT,
        "cluster": {"id": source_node["cluster_id"], "name": source_node["cluster_name"]},
        "source": source,
        "verdict": _verdict(matrix, nodes),
        "nodes": nodes,
        "matrix": matrix,
        "cas": cas_on_nodes(cas, results, node_keys, source),
    }


def _verdict(matrix: Data, nodes: t.Sequence[Data]) -> str:
    if matrix["drift"]:
        return "drift"
    return "in_sync" if matrix["in_sync"] and all(node["read"] for node in nodes) else "incomplete"


def _node(host: str, result: t.Any, matrix: Data, source_node: Data) -> Data:
    node = result.get("node") if isinstance(result, t.Mapping) else None
    if node is None:
        problem = result.get("msg") if isinstance(result, t.Mapping) else None
        return _unreachable_node(host, str(problem or "the node was not read"))
    differs = [fact for fact in COMMON_FACTS if _common(node, fact) != _common(source_node, fact)]
    in_sync = host in matrix["in_sync_nodes"]
    reasons = [unknown["reason"] for unknown in matrix["unknown"] if unknown["node"] == host]
    return {
        "host": host,
        "name": node["name"],
        "read": True,
        "problem": reasons[0] if reasons else None,
        "in_sync": None if reasons else in_sync,
        "differs": differs,
        **{fact: node[fact] for fact in NODE_FACTS},
    }


def _common(node: Data, fact: str) -> t.Any:
    if fact == "mbk":
        return (node["mbk"] or {}).get("check_value")
    return node[fact]


def _unreachable_node(name: str, problem: str, connection: str | None = None) -> Data:
    facts: Data = dict.fromkeys(NODE_FACTS)
    state = {"read": False, "problem": problem, "in_sync": None, "differs": [], "connection": connection}
    return {"host": name, "name": name, **facts, **state}
