# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Matrix of the keys of several nodes. Private to keyops.utrust.

A node with the keys digest of the source has the keys of the source, so its keys need not be read.
If the digest differs, the keys are compared one by one. A node whose keys are unknown is never in sync.
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
CHANGED = "the keys changed while they were read"
KEYS_NOT_READ = "the keys were not read"
OTHER_DIGEST = "the keys differ from those of the source, and the keys were not read"
SOME_UNUSABLE = "some keys are unusable, and the keys were not read"


@dc.dataclass(frozen=True)
class NodeKeys:
    """Keys of one node: the reported digest, the keys themselves, or both. Without either, the keys are unknown."""

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
    """Parse a result of utrust_hsm_info or a list of keys. None becomes unknown keys. Raises ApiError (`response_invalid`)."""
    if not isinstance(given, t.Mapping):
        return NodeKeys(hsm_keys=_parse_keys(given)) if given is not None else NodeKeys()
    node, listed = given.get("node"), given.get("hsm_keys")
    if node is None:
        return NodeKeys()
    return NodeKeys(
        schema.get_str(node, "keys_digest"),
        schema.get_int(node, "key_count"),
        schema.get_int(node, "unusable_key_count"),
        _parse_keys(listed) if listed is not None else None,
    )


def _parse_keys(listed: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[HsmKey, ...]:
    return tuple(schema.parse_key(dict(key)) for key in listed)


def known_keys(node: NodeKeys, source_keys: t.Sequence[HsmKey], source_digest: str) -> t.Sequence[HsmKey] | str:
    """Return the keys of a node, which are those of the source if the digests are equal. Returns a reason if the keys are unknown."""
    if node.digest is None and node.hsm_keys is None:
        return NOT_READ
    if not node.consistent:
        return CHANGED
    if node.hsm_keys is not None:
        return node.hsm_keys
    if node.digest != source_digest:
        return OTHER_DIGEST
    if node.unusable_count not in (0, node.key_count):
        return SOME_UNUSABLE
    return [dc.replace(key, usable=node.unusable_count == 0) for key in source_keys]


def keys_of_source(nodes: t.Mapping[str, NodeKeys], source: str) -> tuple[HsmKey, ...]:
    """Return the keys of the source. Raises UtrustError (`source_unknown`) if they were not read."""
    node = nodes.get(source, NodeKeys())
    if node.hsm_keys is None or not node.consistent:
        reason = KEYS_NOT_READ if node.hsm_keys is None else CHANGED
        raise UtrustError(
            f"comparing nodes with the source {source}: {reason}. Read the keys of the source, then run again",
            code="source_unknown",
        )
    return node.hsm_keys


def _filter_difference(difference: Difference, predicate: t.Callable[[HsmKey], bool]) -> Difference:
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
    """Return the matrix of all keys (rows) and nodes (columns). `predicate` selects keys.

    A cell is one of these values:
    `present`: on the source and on the node. `missing`: on the source only. `extra`: on the node only.
    `mismatched`: the node has another key with the same slot and label. `unusable`: present, but the node cannot use the key.
    `absent`: on neither of both. `unknown`: the keys of the node are unknown.

    `in_sync` is true if every node has the keys of the source and can use them. Raises UtrustError (`source_unknown`).
    """
    source_keys = keys_of_source(nodes, source)
    differences = _differences(nodes, source, source_keys, predicate)
    rows = _rows(source_keys, differences, predicate)
    unknown = [{"node": node, "reason": found} for node in nodes if isinstance(found := differences[node], str)]
    drift = [
        {"node": node, **found.to_dict()}
        for node in nodes
        if isinstance(found := differences[node], Difference) and not found.in_sync
    ]
    out_of_sync = {entry["node"] for entry in (*unknown, *drift)}
    return {
        "source": source,
        "nodes": list(nodes),
        "in_sync": not out_of_sync,
        "in_sync_nodes": [node for node in nodes if node not in out_of_sync],
        "unknown": unknown,
        "drift": drift,
        "check_value_only": sum(key.check_value_only for key, dummy in rows),
        "rows": [
            # A key may be usable on one node only, so the cells show this and not the row.
            {name: value for name, value in key.to_dict().items() if name != "usable"}
            | {"nodes": {node: cells.get(node, cells[""]) for node in nodes}}
            for key, cells in rows
        ],
    }


def _differences(
    nodes: t.Mapping[str, NodeKeys],
    source: str,
    source_keys: t.Sequence[HsmKey],
    predicate: t.Callable[[HsmKey], bool] | None,
) -> dict[str, Difference | str]:
    """Return for each node the difference from the source, or the reason why its keys are unknown."""
    digest = keys_digest(source_keys)
    # The source differs from itself in its unusable keys.
    differences: dict[str, Difference | str] = {source: compare(source_keys, source_keys)}
    for name, node in nodes.items():
        if name != source:
            keys = known_keys(node, source_keys, digest)
            differences[name] = keys if isinstance(keys, str) else compare(source_keys, keys)
    if predicate is None:
        return differences
    return {
        name: found if isinstance(found, str) else _filter_difference(found, predicate)
        for name, found in differences.items()
    }


def _rows(
    source_keys: t.Sequence[HsmKey],
    differences: t.Mapping[str, Difference | str],
    predicate: t.Callable[[HsmKey], bool] | None,
) -> list[tuple[HsmKey, dict[str, str]]]:
    """Return each key with its cells. The cell with the empty name applies to all nodes without a cell of their own."""
    keys = {_identity(key): key for key in source_keys}
    cells: dict[Identity, dict[str, str]] = {identity: {"": "present"} for identity in keys}

    def set_cell(key: HsmKey, node: str, cell: str) -> None:
        keys.setdefault(_identity(key), key)
        cells.setdefault(_identity(key), {"": "absent"})[node] = cell

    for node, found in differences.items():
        if isinstance(found, str):
            continue
        for key in found.unusable:
            set_cell(key, node, "unusable")
        for key in found.missing:
            set_cell(key, node, "missing")
        for key in found.extra:
            set_cell(key, node, "extra")
        for pair in found.mismatched:
            set_cell(pair.source_key, node, "mismatched")
            set_cell(pair.target_key, node, "mismatched")
    for node in (node for node, found in differences.items() if isinstance(found, str)):
        for key in keys.values():
            set_cell(key, node, "unknown")
    return [
        (keys[identity], cells[identity]) for identity in sorted(keys) if predicate is None or predicate(keys[identity])
    ]
