# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key matrix as a table of text: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import cell

CELLS: t.Final = {
    "present": "yes",
    "missing": "MISSING",
    "extra": "EXTRA",
    "mismatched": "MISMATCH",
    "moved": "MOVED",
    "duplicate": "DUPLICATE",
    "unusable": "UNUSABLE",
    "absent": "-",
    "unknown": "?",
}
#: Differences of a node, in the order of the line that counts them.
DIFFERENCES: t.Final = ("missing", "extra", "mismatched", "moved", "duplicate", "unusable")
#: With more nodes, the nodes in sync share the column of the source.
MANY_NODES: t.Final = 12


def columns(matrix: t.Mapping[str, t.Any]) -> list[tuple[str, list[str]]]:
    """For each column, the node whose cells it shows and the nodes that share the column."""
    nodes, in_sync, source = matrix["nodes"], matrix["in_sync_nodes"], matrix["source"]
    if len(nodes) <= MANY_NODES or source not in in_sync:
        return [(node, [node]) for node in nodes]
    return [(source, list(in_sync)), *((node, [node]) for node in nodes if node not in in_sync)]


def key_type(key: t.Mapping[str, t.Any]) -> str:
    """Return the curve or parameter set, or the type with its size. Some types have no size."""
    size = f"-{key['size']}" if key["size"] is not None else ""
    return str(key["curve"] or f"{key['type'].upper()}{size}")


def row_cells(matrix: t.Mapping[str, t.Any], row: t.Mapping[str, t.Any]) -> list[str]:
    """Return the different cells of a row in alphabetical order."""
    rest = {row["state"]} if len(row["nodes"]) < len(matrix["nodes"]) else set()
    return sorted({*row["nodes"].values(), *rest})


def format_table(matrix: t.Mapping[str, t.Any], *, only_drift: bool = False) -> list[str]:
    """Format the matrix as lines of text: a row for each key, a column for each node, and a summary."""
    shown = columns(matrix)
    heads = [node if len(shared) == 1 else f"{node} and {len(shared) - 1} more" for node, shared in shown]
    lines = [["slot", "label", "type", "fingerprint", *heads]]
    for row in matrix["rows"]:
        if only_drift and row_cells(matrix, row) == ["present"]:
            continue
        prefix, colon, digits = row["fingerprint"].partition(":")
        fingerprint = f"{prefix}{colon}{digits[:12]}" + (" (check value only)" if row["check_value_only"] else "")
        cells = [CELLS[cell(row, node)] for node, dummy in shown]
        lines.append([str(row["slot"]), row["label"] or "(no label)", key_type(row), fingerprint, *cells])
    if len(lines) == 1:
        return _summary_lines(matrix)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [*table, *_summary_lines(matrix)]


def _summary_lines(matrix: t.Mapping[str, t.Any]) -> list[str]:
    source = matrix["source"]
    lines = [f"UNKNOWN: {unknown['node']}: {unknown['reason']}" for unknown in matrix["unknown"]]
    for drift in matrix["drift"]:
        itself = drift["node"] == source
        numbers = ", ".join(f"{len(drift[name])} {name}" for name in DIFFERENCES if drift[name])
        lines.append(
            f"DRIFT: {source} itself: {numbers}" if itself else f"DRIFT: {drift['node']} against {source}: {numbers}"
        )
    if lines:
        return lines
    nodes = matrix["nodes"]
    names = ", ".join(nodes) if len(nodes) <= MANY_NODES else f"{len(nodes)} nodes"
    check_value_only = f", {matrix['check_value_only']} by check value only" if matrix["check_value_only"] else ""
    return [f"in sync: {names} hold the same {len(matrix['rows'])} key(s){check_value_only}"]
