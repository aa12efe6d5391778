# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a report about a cluster says: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _matrix
from ansible_collections.keyops.utrust.plugins.module_utils._inventory import keys_digest

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import HsmKey

Facts = dict[str, t.Any]

FORMAT: t.Final = "keyops.utrust/key_report/1"
HOLDS, FAILS, UNKNOWN = "holds_key", "would_fail", "unknown"
STATES: t.Final = {
    "factory_reset": "Factory Reset Mode",
    "operational": "operational",
    "alarm": "alarm",
    "maintenance": "maintenance",
}
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
    told: t.Mapping[str, t.Any],
    source: str,
    *,
    cas: t.Sequence[t.Mapping[str, t.Any]] = (),
    unread: t.Sequence[str] = (),
) -> Facts:
    """The report, without its time and what happened before.

    `told` has for each node what utrust_hsm_info returned, also where it failed; `unread` names members that were not asked. Raises UtrustError.
    """
    held = {name: _matrix.held_of(given) for name, given in told.items()}
    matrix = _matrix.key_matrix(held, source)
    of_source = told[source]["node"]
    nodes = [_node(name, given, matrix, of_source) for name, given in told.items()]
    connections = {member["node"]: member["connection"] for member in of_source["members"]}
    for node in nodes:
        node["connection"] = connections.get(node["name"])
    nodes += [_unread(name, "a joined member that was not part of this run", connections.get(name)) for name in unread]
    return {
        "format": FORMAT,
        "cluster": {"id": of_source["cluster_id"], "name": of_source["cluster_name"]},
        "source": source,
        "verdict": _verdict(matrix, nodes),
        "nodes": nodes,
        "matrix": matrix,
        "cas": _cas(cas, told, held, source),
    }


def _verdict(matrix: Facts, nodes: t.Sequence[Facts]) -> str:
    if matrix["drift"]:
        return "drift"
    return "in_sync" if matrix["in_sync"] and all(node["read"] for node in nodes) else "incomplete"


def _node(host: str, given: t.Any, matrix: Facts, of_source: Facts) -> Facts:
    node = given.get("node") if isinstance(given, t.Mapping) else None
    if node is None:
        problem = given.get("msg") if isinstance(given, t.Mapping) else None
        return _unread(host, str(problem or "it was not read"))
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


def _unread(name: str, problem: str, connection: str | None = None) -> Facts:
    nothing: Facts = dict.fromkeys(NODE_FACTS)
    told = {"read": False, "problem": problem, "in_sync": None, "differs": [], "connection": connection}
    return {"host": name, "name": name, **nothing, **told}


# CAs


@dc.dataclass(frozen=True)
class _Key:
    """The key that a CA needs; what is None is not known."""

    slot: int | None
    label: str | None
    fingerprint: str | None

    def is_it(self, key: HsmKey) -> bool:
        return key.fingerprint == self.fingerprint and self.slot in (None, key.slot)

    def has_its_place(self, key: HsmKey) -> bool:
        return self.label is not None and key.label == self.label and self.slot in (None, key.slot)


def _cas(
    cas: t.Sequence[t.Mapping[str, t.Any]],
    told: t.Mapping[str, t.Any],
    held: t.Mapping[str, _matrix.Held],
    source: str,
) -> list[Facts]:
    """For each CA what becomes of it on each node."""
    wanted = _matrix.keys_of_source(held, source)
    digest = keys_digest(wanted)
    keys = {name: _matrix.known_keys(one, wanted, digest) for name, one in held.items()}
    rows = []
    for given in cas:
        named = _Key(given.get("slot"), given.get("label"), given.get("fingerprint"))
        key, doubt = _identified(named, keys, source)
        outcomes: dict[str, dict[str, str | None]] = {}
        for name, known in keys.items():
            if isinstance(known, str):
                outcomes[name] = {"outcome": UNKNOWN, "reason": known}
            elif doubt:
                outcomes[name] = {"outcome": UNKNOWN, "reason": doubt}
            else:
                reason = _why_it_fails(key, known, told[name])
                outcomes[name] = {"outcome": FAILS if reason else HOLDS, "reason": reason}
        rows.append(
            {
                "name": given["name"],
                "subject_dn": given.get("subject_dn"),
                "not_after": given.get("not_after"),
                **dc.asdict(key),
                "would_fail_on": [name for name, one in outcomes.items() if one["outcome"] == FAILS],
                "nodes": outcomes,
            }
        )
    return rows


def _identified(named: _Key, keys: t.Mapping[str, t.Sequence[HsmKey] | str], source: str) -> tuple[_Key, str | None]:
    """The key with what is known beyond what was named, and why it is in doubt which one is meant."""
    everywhere = [known for known in (keys[source], *keys.values()) if not isinstance(known, str)]
    if named.fingerprint is not None:
        found = next((key for known in everywhere for key in known if named.is_it(key)), None)
        if found is None:
            return named, None
        return _Key(found.slot, named.label or found.label, named.fingerprint), None
    for candidates in (everywhere[0], [key for known in everywhere for key in known]):
        fitting = {(key.slot, key.fingerprint) for key in candidates if named.has_its_place(key)}
        if len(fitting) == 1:
            ((slot, fingerprint),) = fitting
            return _Key(slot, named.label, fingerprint), None
        if fitting:
            return (
                named,
                f"{len(fitting)} different keys have this label; name the slot, or the fingerprint of the one that it uses",
            )
    return named, None


def _why_it_fails(key: _Key, known: t.Sequence[HsmKey], given: t.Any) -> str | None:
    node = given.get("node") if isinstance(given, t.Mapping) else None
    if node is not None and node["hsm_state"] != "operational":
        return f"the HSM is in the state {STATES.get(node['hsm_state'], node['hsm_state'])}"
    if node is not None and node["driver"] != "running":
        return "the HSM driver is stopped"
    matching = [one for one in known if key.is_it(one)]
    if any(one.usable for one in matching):
        return None
    if matching:
        return "its key is there and cannot be used"
    if any(key.has_its_place(one) for one in known):
        return "another key has the label of its key"
    return "its key is missing"
