# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CAs that would fail on a node because of a key: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import collections
import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import KEYS_NOT_READ
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading

Data = dict[str, t.Any]

HOLDS, FAILS, UNKNOWN = "holds_key", "would_fail", "unknown"
STATES: t.Final = {
    "factory_reset": "Factory Reset Mode",
    "operational": "operational",
    "alarm": "alarm",
    "maintenance": "maintenance",
}


@dc.dataclass(frozen=True)
class _CaKey:
    """The key of a CA. None stands for an unknown value."""

    slot: int | None
    label: str | None
    public_key_sha256: str | None

    def matches(self, key: HsmKey) -> bool:
        return key.fingerprint_known and key.fingerprint == self.public_key_sha256 and self.slot in (None, key.slot)

    def same_slot_and_label(self, key: HsmKey) -> bool:
        return (
            self.label is not None
            and key.label in (self.label, escape_unprintable(self.label))
            and self.slot in (None, key.slot)
        )


def cas_on_nodes(cas: t.Sequence[t.Mapping[str, t.Any]], reading: ClusterReading) -> list[Data]:
    """Return the outcome of each CA on each node."""
    if not cas:
        return []
    keys = {each.host: _keys_of_node(reading.hsm_keys or (), each) for each in reading.readings}
    nodes = {each.host: each.node for each in reading.readings}
    rows = []
    for ca in cas:
        key, ambiguity = _identify_key(
            _CaKey(ca.get("slot"), ca.get("label"), ca.get("public_key_sha256")), keys, reading.source.host
        )
        outcomes: dict[str, dict[str, str | None]] = {}
        for host, known in keys.items():
            if isinstance(known, str):
                outcomes[host] = {"outcome": UNKNOWN, "reason": known}
            elif ambiguity:
                outcomes[host] = {"outcome": UNKNOWN, "reason": ambiguity}
            elif unclear := _why_unclear(nodes[host]):
                outcomes[host] = {"outcome": UNKNOWN, "reason": unclear}
            else:
                reason = _failure_reason(key, known, nodes[host])
                outcomes[host] = {"outcome": FAILS if reason else HOLDS, "reason": reason}
        rows.append(
            {
                "name": ca["name"],
                "subject_dn": ca.get("subject_dn"),
                "not_after": ca.get("not_after"),
                **dc.asdict(key),
                "would_fail_on": [host for host, outcome in outcomes.items() if outcome["outcome"] == FAILS],
                "nodes": outcomes,
            }
        )
    return rows


def _keys_of_node(source_keys: t.Sequence[HsmKey], reading: NodeReading) -> list[HsmKey] | str:
    """Return the keys of a node, which follow from the keys of the source and the difference, or why they are unknown."""
    difference = reading.difference
    if difference is None:
        return reading.problem.text if reading.problem is not None else KEYS_NOT_READ
    gone = collections.Counter([*difference.missing, *(pair.source_key for pair in difference.pairs)])
    unusable = collections.Counter(difference.unusable)
    found: list[HsmKey] = []
    for key in source_keys:
        if gone[key] > 0:
            gone[key] -= 1
            continue
        usable = unusable[key] <= 0
        unusable[key] -= not usable
        found.append(key if key.usable == usable else dc.replace(key, usable=usable))
    return [*found, *difference.target_keys]


def _identify_key(
    named: _CaKey, keys: t.Mapping[str, t.Sequence[HsmKey] | str], source: str
) -> tuple[_CaKey, str | None]:
    """Complete the named key from the keys of the nodes, or return why the name is ambiguous."""
    if named.public_key_sha256 is None and named.label is None:
        return named, "the key of the CA is unknown. Set public_key_sha256 or label of the CA"
    all_nodes = [known for known in (keys[source], *keys.values()) if not isinstance(known, str)]
    if named.public_key_sha256 is not None:
        found = next((key for known in all_nodes for key in known if named.matches(key)), None)
        if found is None:
            return named, None
        return _CaKey(found.slot, named.label or found.label, named.public_key_sha256), None
    for candidates in (all_nodes[0], [key for known in all_nodes for key in known]):
        matching = {(key.slot, key.fingerprint) for key in candidates if named.same_slot_and_label(key)}
        if len(matching) == 1:
            ((slot, fingerprint),) = matching
            if fingerprint == UNKNOWN:
                return named, "the key fingerprint of this key is unknown. Set public_key_sha256 of the CA"
            return _CaKey(slot, named.label, fingerprint), None
        if matching:
            return named, f"{len(matching)} different keys have this label. Set slot or public_key_sha256 of the CA"
    return named, None


def _why_unclear(node: Node | None) -> str | None:
    """Return why the keys of a node do not show whether a CA works there, or None."""
    if node is not None and node.hsm_state == UNKNOWN:
        return "the state of the HSM is unknown"
    if node is not None and node.hsm_state == "operational" and node.driver == UNKNOWN:
        return "the state of the HSM driver is unknown"
    return None


def _failure_reason(key: _CaKey, known: t.Sequence[HsmKey], node: Node | None) -> str | None:
    if node is not None and node.hsm_state != "operational":
        return f"the HSM is in the state {STATES.get(node.hsm_state, node.hsm_state)}"
    if node is not None and node.driver != "running":
        return "the HSM driver is stopped"
    matching = [hsm_key for hsm_key in known if key.matches(hsm_key)]
    if any(hsm_key.usable for hsm_key in matching):
        return None
    if matching:
        return "the key is unusable"
    slots = sorted({hsm_key.slot for hsm_key in known if hsm_key.fingerprint == key.public_key_sha256})
    if slots:
        return f"the key is in slot {', '.join(map(str, slots))}"
    if any(key.same_slot_and_label(hsm_key) for hsm_key in known):
        return "another key has the label of the key"
    return "the key is missing"
