# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of several nodes side by side: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._inventory import compare

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import HsmKey

Identity = tuple[int, str, str, str]


def _identity(key: HsmKey) -> Identity:
    return key.slot, key.label, key.id, key.fingerprint


def key_matrix(inventories: t.Mapping[str, t.Sequence[HsmKey]], source: str) -> dict[str, t.Any]:
    """Every key of any node against every node, seen from the source.

    A cell is `present`, `missing`, `extra` (this node has it, the source does not), `mismatched` (this node has another key under the same
    slot and label) or `unusable` (there, but its slot is not activated or its objects are incomplete). Raises KeyError if the source is not among the nodes.
    """
    wanted = inventories[source]
    rows: dict[Identity, HsmKey] = {_identity(key): key for key in wanted}
    cells: dict[Identity, dict[str, str]] = {
        _identity(key): {source: "present" if key.usable else "unusable"} for key in wanted
    }
    drift: list[dict[str, t.Any]] = []

    def mark(key: HsmKey, node: str, cell: str) -> None:
        rows.setdefault(_identity(key), key)
        cells.setdefault(_identity(key), {})[node] = cell

    for node, held in inventories.items():
        for key in held:
            mark(key, node, "present" if key.usable else "unusable")
        if node == source:
            continue
        difference = compare(wanted, held)
        for key in difference.missing:
            mark(key, node, "missing")
        for key in difference.extra:
            mark(key, node, "extra")
        for pair in difference.mismatched:
            mark(pair.wanted, node, "mismatched")
            mark(pair.held, node, "mismatched")
        if not difference.in_sync:
            drift.append({"node": node, **difference.public()})
    ordered = sorted(rows)
    return {
        "source": source,
        "nodes": list(inventories),
        "in_sync": not drift,
        "drift": drift,
        "rows": [
            {**rows[identity].public(), "nodes": {node: cells[identity].get(node, "missing") for node in inventories}}
            for identity in ordered
        ],
    }


CELLS: t.Final = {
    "present": "yes",
    "missing": "MISSING",
    "extra": "EXTRA",
    "mismatched": "OTHER KEY",
    "unusable": "UNUSABLE",
}


def as_table(matrix: t.Mapping[str, t.Any]) -> list[str]:
    """The matrix as lines of text for a terminal: a row a key, a column a node, and a last line that says whether they agree."""
    nodes = matrix["nodes"]
    lines = [["slot", "label", "type", "fingerprint", *nodes]]
    for row in matrix["rows"]:
        kind = row["curve"] or f"{row['type'].upper()}-{row['size']}"
        prefix, dummy, digits = row["fingerprint"].partition(":")
        fingerprint = f"{prefix}:{digits[:12]}" + (" (weak)" if row["weak"] else "")
        lines.append(
            [str(row["slot"]), row["label"], kind, fingerprint, *(CELLS[row["nodes"][node]] for node in nodes)]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [*table, *_drift_in_words(matrix)]


def _drift_in_words(matrix: t.Mapping[str, t.Any]) -> list[str]:
    if matrix["in_sync"]:
        return [f"in sync: {', '.join(matrix['nodes'])} hold the same {len(matrix['rows'])} key(s)"]
    return [
        f"DRIFT: {one['node']} against {matrix['source']}: {len(one['missing'])} missing, {len(one['extra'])} extra, "
        f"{len(one['mismatched'])} mismatched, {len(one['unusable'])} unusable"
        for one in matrix["drift"]
    ]
