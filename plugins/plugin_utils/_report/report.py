# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a report about a cluster says: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster import matrix as _matrix
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.ca_impact import (
    cas_on_nodes,
)

Facts = dict[str, t.Any]

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
#: Facts in which the nodes of a cluster should agree; of the MBK it is the check value.
COMMON_FACTS: t.Final = ("appliance_version", "hsm_model", "hsm_firmware", "fips", "mbk")


def report(
    results: t.Mapping[str, t.Any],
    source: str,
    *,
    cas: t.Sequence[t.Mapping[str, t.Any]] = (),
    unreachable_nodes: t.Sequence[str] = (),
) -> Facts:
    """The report, without its time and what happened before.

    `results` has for each node what utrust_hsm_info returned, also where it failed; `unreachable_nodes` names members that were not asked. Raises UtrustError.
    """
    held = {name: _matrix.parse_node_keys(given) for name, given in results.items()}
    matrix = _matrix.key_matrix(held, source)
    of_source = results[source]["node"]
    nodes = [_node(name, given, matrix, of_source) for name, given in results.items()]
    connections = {member["node"]: member["connection"] for member in of_source["members"]}
    for node in nodes:
        node["connection"] = connections.get(node["name"])
    nodes += [
        _unreachable_node(name, "a joined member that was not part of this run", connections.get(name))
        for name in unreachable_nodes
    ]
    return {
        "format": FORMAT,
        "cluster": {"id": of_source["cluster_id"], "name": of_source["cluster_name"]},
        "source": source,
        "verdict": _verdict(matrix, nodes),
        "nodes": nodes,
        "matrix": matrix,
        "cas": cas_on_nodes(cas, results, held, source),
    }


def _verdict(matrix: Facts, nodes: t.Sequence[Facts]) -> str:
    if matrix["drift"]:
        return "drift"
    return "in_sync" if matrix["in_sync"] and all(node["read"] for node in nodes) else "incomplete"


def _node(host: str, given: t.Any, matrix: Facts, of_source: Facts) -> Facts:
    node = given.get("node") if isinstance(given, t.Mapping) else None
    if node is None:
        problem = given.get("msg") if isinstance(given, t.Mapping) else None
        return _unreachable_node(host, str(problem or "it was not read"))
    differs = [fact for fact in COMMON_FACTS if _common(node, fact) != _common(of_source, fact)]
    in_sync = host in matrix["in_sync_nodes"]
    reasons = [one["reason"] for one in matrix["unknown"] if one["node"] == host]
    return {
        "host": host,
        "name": node["name"],
        "read": True,
        "problem": reasons[0] if reasons else None,
        "in_sync": None if reasons else in_sync,
        "differs": differs,
        **{fact: node[fact] for fact in NODE_FACTS},
    }


def _common(node: Facts, fact: str) -> t.Any:
    if fact == "mbk":
        return (node["mbk"] or {}).get("check_value")
    return node[fact]


def _unreachable_node(name: str, problem: str, connection: str | None = None) -> Facts:
    nothing: Facts = dict.fromkeys(NODE_FACTS)
    results = {"read": False, "problem": problem, "in_sync": None, "differs": [], "connection": connection}
    return {"host": name, "name": name, **nothing, **results}
