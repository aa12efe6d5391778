# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan and the verdict of a key gate: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import KEYS_NOT_READ
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity, identity_problems
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import LEVELS
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import RequestedKey, resolve_keys
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import problems_result

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

Facts = t.Mapping[str, t.Any]


class GateNodes(t.NamedTuple):
    """The nodes that must pass. `names` has the node name of each inventory host of the gate.

    `explicit` means that the operator names them, so that other members may stay outside of the gate.
    """

    names: t.Mapping[str, str]
    explicit: bool
    min_nodes: int | None = None
    ignored_members: frozenset[str] = frozenset()


def check_gate_nodes(nodes: GateNodes, hosts_of_play: t.Collection[str]) -> None:
    """Check the nodes of a gate before anything is read. Raises UtrustError (`option_invalid`, `node_duplicate`)."""
    outside = [host for host in nodes.names if host not in hosts_of_play]
    if outside or not nodes.names:
        raise UtrustError(
            f"key_gate: {', '.join(outside) or 'no node'}: every node of the gate must be a host of this play. Nothing was checked. "
            "Correct the nodes of the gate, check --limit, and use no serial in the play",
            code="option_invalid",
        )
    hosts: dict[str, str] = {}
    for host, name in nodes.names.items():
        if hosts.setdefault(name, host) != host:
            raise UtrustError(
                f"key_gate: the hosts {hosts[name]} and {host} are the same node {name}. Nothing was checked. Name one of these hosts",
                code="node_duplicate",
            )
    if nodes.min_nodes is not None and not 1 <= nodes.min_nodes <= len(nodes.names):
        raise UtrustError(
            f"key_gate: min_nodes: {nodes.min_nodes} is invalid. Nothing was checked. Set a number from 1 to {len(nodes.names)}, the number of nodes",
            code="option_invalid",
        )


def reactivation_hosts(
    nodes: GateNodes, out_of_traffic: t.Sequence[str], *, reactivate: bool, level: str, source: str = ""
) -> list[str]:
    """Return the hosts whose crypto tokens the gate may reactivate, one after the other. It never reactivates the source.

    `source` is the inventory host of the source, which can be out of traffic, too, because its keys are tested first.
    Raises UtrustError (`option_invalid`, `node_in_traffic`).
    """
    if outside := [host for host in out_of_traffic if host not in {*nodes.names, source}]:
        raise UtrustError(
            f"key_gate: out_of_traffic: {', '.join(outside)}: not a node of the gate. Nothing was done. Correct the names of the inventory hosts",
            code="option_invalid",
        )
    if not reactivate or level == "hsm":
        return []
    if not out_of_traffic:
        raise UtrustError(
            "key_gate: reactivate is true, but no node is out of traffic. Nothing was done. "
            "Remove the traffic of a node, then name its inventory host in out_of_traffic. Or set reactivate: false",
            code="node_in_traffic",
        )
    return [host for host in nodes.names if host in out_of_traffic and host != source]


def plan_gate(reading: ClusterReading, nodes: GateNodes, keys: t.Sequence[Facts], level: str) -> dict[str, t.Any]:
    """Return the keys and nodes of a gate, or every problem that closes it before anything is proven."""
    source = reading.source_node
    joined = [member.node for member in source.members if member.joined]
    known = {*nodes.names.values(), *nodes.ignored_members}
    excluded = [name for name in joined if name not in known]
    problems = []
    if not nodes.explicit:
        problems = [
            Problem(
                "member_not_in_play",
                name,
                f"{name} is a joined member, as {source.name} reports, but no host of this play is this node",
                "check --limit and the inventory. If the member gets no traffic, list the nodes with traffic in key_gate_nodes",
            )
            for name in excluded
        ]
    requested: tuple[RequestedKey, ...] = ()
    try:
        if reading.hsm_keys is None:
            reason = reading.source.why_unknown or KEYS_NOT_READ
            raise UtrustError(f"the keys of the source are unknown: {reason}", code="keys_unknown")
        requested = resolve_keys(keys, [key.to_dict() for key in reading.hsm_keys])
    except UtrustError as exc:
        problems.append(Problem(exc.code, source.name, str(exc), ""))
    return {
        **problems_result("key_gate", problems),
        "passed": False,
        "level": level,
        "members": joined,
        "gate_nodes": list(nodes.names),
        "min_nodes": nodes.min_nodes,
        "excluded_members": excluded,
        "hsm_keys": [key._asdict() for key in requested],
    }


def gate_verdict(planned: Facts, proofs: t.Sequence[Facts], source_proof: Facts | None = None) -> dict[str, t.Any]:
    """Return the result of a gate: it is open if every key reaches the level on all nodes, or on the required number of nodes.

    `planned` is the result of `plan_gate`. `proofs` has the result of utrust_key_proof for each node of the gate, in the same order.
    A node without rows was not read. `unknown` is true if check mode cannot decide.
    With the EJBCA view, `source_proof` is the result for the source, whether or not the source is a node of the gate.
    """
    by_host: dict[str, Facts] = dict(zip(planned["gate_nodes"], proofs, strict=True))
    if planned.get("ejbca_view"):
        by_host = _with_known_nodes(by_host, planned["source_host"], source_proof or {})
    states = {host: _state(planned, proof) for host, proof in by_host.items()}
    passed = [host for host, state in states.items() if state is True]
    possible = [host for host, state in states.items() if state is not False]
    level, needed = planned["level"], planned["min_nodes"] or len(by_host)
    is_open = bool(by_host and planned["hsm_keys"]) and len(passed) >= needed
    unknown = not is_open and len(possible) >= needed and len(possible) > len(passed)
    lines = [*_lines(by_host), f"{len(passed)} of {len(by_host)} node(s) reach level {level}, {needed} must"]
    if planned["excluded_members"]:
        lines.append(f"must be gated before they return: {', '.join(planned['excluded_members'])}")
    if unknown:
        lines.append(f"check mode cannot determine whether level {level} is reached")
    result = {
        "passed": is_open,
        "unknown": unknown,
        "level": level,
        "nodes": passed,
        "hsm_keys": planned["hsm_keys"],
        "excluded_members": planned["excluded_members"],
        "lines": lines,
        "_ansible_verbose_always": True,
    }
    if is_open or unknown:
        return {**result, "msg": f"key_gate: {'open' if is_open else 'unknown'} at level {level}"}
    return {
        **result,
        "failed": True,
        "code": "gate_closed",
        "msg": f"key_gate: closed at level {level}, because {len(passed)} of {len(by_host)} node(s) reach the level and {needed} must. "
        "Do not activate the keys. Follow the reason of each node",
    }


def _with_known_nodes(proofs: t.Mapping[str, Facts], source: str, source_proof: Facts) -> dict[str, Facts]:
    """Return the proofs with that of the source, and without what the EJBCA view proves on a node whose identity is unknown."""
    every = {**proofs, source: source_proof}
    views = {host: proof.get("ejbca") for host, proof in every.items()}
    identities = {
        host: NodeIdentity(*(view["identity"][name] for name in NodeIdentity._fields))
        for host, view in views.items()
        if view and view.get("identity")
    }
    problems = identity_problems(identities)
    return {host: _unproven(every[host], problems[host]) if host in problems else every[host] for host in proofs}


def _unproven(proof: Facts, reason: str) -> Facts:
    changed = {
        "reached": "hsm",
        "passed": False,
        "view": "unknown",
        "detail": f"EJBCA view: unknown: {reason}, so nobody knows which node responded. "
        "Set utrust_ejbca_host to the address of the node itself",
    }
    by_view = ("view", "signature_test")
    rows = [{**row, **changed} if row.get("method") in by_view else row for row in proof.get("proof") or ()]
    return {**proof, "proof": rows}


def _state(planned: Facts, proof: Facts) -> bool | None:
    """Return whether one node passed, or None if check mode cannot decide.

    The rows of the proof must be about the planned keys and level, because a fact of an earlier gate has other rows.
    """
    if proof.get("failed"):
        return False
    rows = {(row["fingerprint"], row["label"], row["slot"]): row for row in proof.get("proof") or ()}
    found: list[bool | None] = []
    for key in planned["hsm_keys"]:
        row = rows.get((key["fingerprint"], key["label"], key["slot"]))
        if row is None or row["passed"] is False:
            return False
        if row["passed"] and _rank(row["reached"]) < _rank(planned["level"]):
            return False
        found.append(row["passed"])
    return None if None in found else all(found)


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else -1


def _lines(proofs: t.Mapping[str, Facts]) -> t.Iterator[str]:
    """One line for each key with its nodes and reasons, and one line for each node that was not read."""
    labels = {
        (row["fingerprint"], row["slot"]): row["label"] for proof in proofs.values() for row in proof.get("proof") or ()
    }
    for place, label in labels.items():
        good: list[str] = []
        bad: list[str] = []
        for host, proof in proofs.items():
            for row in proof.get("proof") or ():
                if (row["fingerprint"], row["slot"]) == place:
                    (bad if row["passed"] is False else good).append(f"{host} ({row['reached']}: {row['detail']})")
        failed = f". Not on {', '.join(bad)}" if bad else ""
        yield f"{label} {place[0]}: on {', '.join(good) or 'no node'}{failed}"
    for host, proof in proofs.items():
        if not proof.get("proof"):
            missing = (
                "the failure has no message"
                if proof
                else "the task did not run on this host. Remove the condition or run_once around the role"
            )
            yield f"{host} was not read: {proof.get('msg') or missing}"
