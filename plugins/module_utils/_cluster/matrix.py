# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of all nodes as a matrix: pure functions. Private to keyops.utrust.

The matrix follows from the keys of the source and from the difference of each node. A row names only the nodes that differ, so that it stays small.
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading

Identity = tuple[int, str, str, str, str, int, str]
Predicate = t.Callable[["HsmKey"], bool]

KEYS_NOT_READ = "the keys were not read"


def _identity(key: HsmKey) -> Identity:
    return key.slot, key.label, key.id, key.fingerprint, key.type, key.size or 0, key.curve or ""


def all_keys(reading: ClusterReading) -> list[HsmKey]:
    """Return every key of any node once."""
    found = {_identity(key): key for key in reading.hsm_keys or ()}
    for each in reading.readings:
        for key in each.difference.target_keys if each.difference is not None else ():
            found.setdefault(_identity(key), key)
    return [found[identity] for identity in sorted(found)]


def _filter_difference(difference: Difference, predicate: Predicate) -> Difference:
    def keys(given: tuple[HsmKey, ...]) -> tuple[HsmKey, ...]:
        return tuple(key for key in given if predicate(key))

    def pairs(given: tuple[t.Any, ...]) -> tuple[t.Any, ...]:
        return tuple(pair for pair in given if predicate(pair.source_key) or predicate(pair.target_key))

    return dc.replace(
        difference,
        missing=keys(difference.missing),
        extra=keys(difference.extra),
        mismatched=pairs(difference.mismatched),
        moved=pairs(difference.moved),
        undetermined=pairs(difference.undetermined),
        duplicate=keys(difference.duplicate),
        unusable=keys(difference.unusable),
    )


def key_matrix(reading: ClusterReading, *, predicate: Predicate | None = None) -> dict[str, t.Any]:
    """Return the matrix of all keys (rows) and nodes (columns). `predicate` selects keys.

    A cell is one of these values:
    `present`: on the source and on the node. `missing`: on the source only. `extra`: on the node only.
    `mismatched`: the node has another key with the same slot and label. `moved`: the same key is in another slot, or has another label or id.
    `duplicate`: the node has a key of the source once more. `unusable`: present, but the node cannot use the key.
    `absent`: on neither of both. `unknown`: the keys of the node are unknown, or the key cannot be compared because a key fingerprint is unknown.

    `in_sync` is true if every node has the keys of the source and can use them.
    If the source cannot list its keys, there are no rows, and the keys of every node are unknown.
    Raises UtrustError (`source_unknown`) if the reading was made without keys.
    """
    if reading.hsm_keys is None and reading.source.problem is None:
        raise UtrustError(
            f"comparing nodes with the source {reading.source.host}: {KEYS_NOT_READ}. Read the keys of the source, then run again",
            code="source_unknown",
        )
    differences = {each.host: _difference_or_reason(each, predicate) for each in reading.readings}
    rows = _rows(reading.hsm_keys or (), differences, predicate)
    unknown = [
        {"node": host, "reason": found if isinstance(found, str) else found.why_unknown}
        for host, found in differences.items()
        if isinstance(found, str) or found.undetermined
    ]
    drift = [
        {"node": host, **found.to_dict()}
        for host, found in differences.items()
        if isinstance(found, Difference) and found.in_sync is False
    ]
    out_of_sync = {entry["node"] for entry in (*unknown, *drift)}
    return {
        "source": reading.source.host,
        "nodes": list(differences),
        "in_sync": not out_of_sync,
        "in_sync_nodes": [host for host in differences if host not in out_of_sync],
        "unknown": unknown,
        "drift": drift,
        "check_value_only": sum(key.check_value_only for key, dummy, dummy_cells in rows),
        "rows": [
            # A key may be usable on one node only, so the cells show this and not the row.
            {name: value for name, value in key.to_dict().items() if name != "usable"}
            | {"state": state, "nodes": cells}
            for key, state, cells in rows
        ],
    }


def _difference_or_reason(reading: NodeReading, predicate: Predicate | None) -> Difference | str:
    if reading.difference is not None:
        return reading.difference if predicate is None else _filter_difference(reading.difference, predicate)
    return reading.problem.text if reading.problem is not None else KEYS_NOT_READ


def _rows(
    source_keys: t.Sequence[HsmKey], differences: t.Mapping[str, Difference | str], predicate: Predicate | None
) -> list[tuple[HsmKey, str, dict[str, str]]]:
    """Return each key with its state on the nodes that have no cell of their own, and the cells of the others."""
    keys = {_identity(key): key for key in source_keys}
    source_identities = set(keys)
    cells: dict[Identity, dict[str, str]] = {identity: {} for identity in keys}

    def set_cell(key: HsmKey, host: str, cell: str) -> None:
        keys.setdefault(_identity(key), key)
        cells.setdefault(_identity(key), {}).setdefault(host, cell)

    for host, found in differences.items():
        if isinstance(found, str):
            continue
        for name in ("unusable", "missing", "extra", "duplicate"):
            for key in getattr(found, name):
                set_cell(key, host, name)
        for name in ("mismatched", "moved"):
            for pair in getattr(found, name):
                set_cell(pair.source_key, host, name)
                set_cell(pair.target_key, host, name)
        for pair in found.undetermined:
            set_cell(pair.source_key, host, "unknown")
            set_cell(pair.target_key, host, "unknown")
    for host in (host for host, found in differences.items() if isinstance(found, str)):
        for key in keys.values():
            set_cell(key, host, "unknown")
    return [
        (keys[identity], "present" if identity in source_identities else "absent", cells[identity])
        for identity in sorted(keys)
        if predicate is None or predicate(keys[identity])
    ]


def cell(row: t.Mapping[str, t.Any], host: str) -> str:
    """Return the value of one cell of a row."""
    return str(row["nodes"].get(host, row["state"]))
