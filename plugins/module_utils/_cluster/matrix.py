# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of several nodes side by side: pure functions. Private to keyops.utrust.

Works from digests: a node that names the source's inventory digest holds the source's keys, and only a node that names another one has to be compared
key by key. What cannot be known from what was given is `unknown`, and unknown is never in sync.
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference, compare, keys_digest

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

Identity = tuple[int, str, str, str, str, int, str]

NOT_READ = "the node was not read"
CHANGED = "its keys changed while they were read; read it again"
NO_INVENTORY = "its keys differ from the source's, and its inventory was not read"
SOME_UNUSABLE = "it says that it cannot use some of its keys, and its inventory was not read"


@dc.dataclass(frozen=True)
class NodeKeys:
    """What is known of the keys in one node's HSM: the digest that it named, its inventory, or both. With neither, nothing is known."""

    digest: str | None = None
    key_count: int = 0
    unusable_count: int = 0
    hsm_keys: tuple[HsmKey, ...] | None = None

    @property
    def consistent(self) -> bool:
        return self.hsm_keys is None or self.digest in (None, keys_digest(self.hsm_keys))


def _identity(key: HsmKey) -> Identity:
    return key.slot, key.label, key.id, key.fingerprint, key.type, key.size, key.curve or ""


def parse_node_keys(given: t.Any) -> NodeKeys:
    """From what utrust_hsm_info returned, from a list of keys, or from nothing. Raises ApiError for anything else."""
    if not isinstance(given, t.Mapping):
        return NodeKeys(hsm_keys=_decoded(given)) if given is not None else NodeKeys()
    node, listed = given.get("node"), given.get("hsm_keys")
    if node is None:
        return NodeKeys()
    return NodeKeys(
        schema.get_str(node, "keys_digest"),
        schema.get_int(node, "key_count"),
        schema.get_int(node, "unusable_key_count"),
        _decoded(listed) if listed is not None else None,
    )


def _decoded(listed: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[HsmKey, ...]:
    return tuple(schema.hsm_key(dict(key)) for key in listed)


def known_keys(held: NodeKeys, wanted: t.Sequence[HsmKey], wanted_digest: str) -> t.Sequence[HsmKey] | str:
    """The keys of a node, where its digest tells that they are those of the source too; or why they are not known."""
    if held.digest is None and held.hsm_keys is None:
        return NOT_READ
    if not held.consistent:
        return CHANGED
    if held.hsm_keys is not None:
        return held.hsm_keys
    if held.digest != wanted_digest:
        return NO_INVENTORY
    if held.unusable_count not in (0, held.key_count):
        return SOME_UNUSABLE
    return [dc.replace(key, usable=held.unusable_count == 0) for key in wanted]


def keys_of_source(nodes: t.Mapping[str, NodeKeys], source: str) -> tuple[HsmKey, ...]:
    """Raises UtrustError (`source_unknown`): without the source's inventory there is nothing to compare with."""
    held = nodes.get(source, NodeKeys())
    if held.hsm_keys is None or not held.consistent:
        reason = "its inventory was not read" if held.hsm_keys is None else CHANGED
        raise UtrustError(f"comparing nodes with the source {source}: {reason}", code="source_unknown")
    return held.hsm_keys


def _narrowed(difference: Difference, predicate: t.Callable[[HsmKey], bool]) -> Difference:
    return dc.replace(
        difference,
        missing=tuple(key for key in difference.missing if predicate(key)),
        extra=tuple(key for key in difference.extra if predicate(key)),
        mismatched=tuple(
            pair for pair in difference.mismatched if predicate(pair.source_key) or predicate(pair.target_key)
        ),
        unusable=tuple(key for key in difference.unusable if predicate(key)),
    )


def key_matrix(
    nodes: t.Mapping[str, NodeKeys], source: str, *, predicate: t.Callable[[HsmKey], bool] | None = None
) -> dict[str, t.Any]:
    """Every key of any node against every node, seen from the source; only those that are `predicate`, if that is given.

    A cell is `present`, `missing`, `extra` (this node has it, the source does not), `mismatched` (this node has another key under the same
    slot and label), `unusable` (there, but its slot is not activated or its objects are incomplete), `absent` (neither there nor at the source) or
    `unknown`. `in_sync` says that every node holds the keys of the source and can use them. Raises UtrustError if the source's inventory is not known.
    """
    wanted = keys_of_source(nodes, source)
    wanted_digest = keys_digest(wanted)
    known = {node: known_keys(held, wanted, wanted_digest) for node, held in nodes.items() if node != source}
    differences = {node: keys if isinstance(keys, str) else compare(wanted, keys) for node, keys in known.items()}
    # The source differs from itself in the keys that it cannot use.
    differences[source] = compare(wanted, wanted)
    if predicate is not None:
        differences = {
            node: found if isinstance(found, str) else _narrowed(found, predicate)
            for node, found in differences.items()
        }
    rows = _rows(wanted, differences, predicate)
    unknown = [{"node": node, "reason": found} for node in nodes if isinstance(found := differences[node], str)]
    drift = [
        {"node": node, **found.to_dict()}
        for node in nodes
        if isinstance(found := differences[node], Difference) and not found.in_sync
    ]
    out_of_sync = {one["node"] for one in (*unknown, *drift)}
    return {
        "source": source,
        "nodes": list(nodes),
        "in_sync": not out_of_sync,
        "in_sync_nodes": [node for node in nodes if node not in out_of_sync],
        "unknown": unknown,
        "drift": drift,
        "check_value_only": sum(key.check_value_only for key, dummy in rows),
        "rows": [
            # Whether a key is usable is said for each node, not for the key.
            {name: value for name, value in key.to_dict().items() if name != "usable"}
            | {"nodes": {node: cells.get(node, cells[""]) for node in nodes}}
            for key, cells in rows
        ],
    }


def _rows(
    wanted: t.Sequence[HsmKey],
    differences: t.Mapping[str, Difference | str],
    predicate: t.Callable[[HsmKey], bool] | None,
) -> list[tuple[HsmKey, dict[str, str]]]:
    """A key each with the cells that are not as in most nodes; the cell of all others stands under an empty name."""
    keys = {_identity(key): key for key in wanted}
    cells: dict[Identity, dict[str, str]] = {identity: {"": "present"} for identity in keys}

    def mark(key: HsmKey, node: str, cell: str) -> None:
        keys.setdefault(_identity(key), key)
        cells.setdefault(_identity(key), {"": "absent"})[node] = cell

    for node, found in differences.items():
        if isinstance(found, str):
            continue
        for key in found.unusable:
            mark(key, node, "unusable")
        for key in found.missing:
            mark(key, node, "missing")
        for key in found.extra:
            mark(key, node, "extra")
        for pair in found.mismatched:
            mark(pair.source_key, node, "mismatched")
            mark(pair.target_key, node, "mismatched")
    for node in (node for node, found in differences.items() if isinstance(found, str)):
        for key in keys.values():
            mark(key, node, "unknown")
    return [
        (keys[identity], cells[identity]) for identity in sorted(keys) if predicate is None or predicate(keys[identity])
    ]
