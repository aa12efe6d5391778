# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key matrix as a table of text: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._printable import escape_unprintable

CELLS: t.Final = {
    "present": "yes",
    "missing": "MISSING",
    "extra": "EXTRA",
    "mismatched": "OTHER KEY",
    "unusable": "UNUSABLE",
    "absent": "-",
    "unknown": "?",
}


#: With more nodes, those that hold the same as the source share its column.
MANY_NODES: t.Final = 12


def columns(matrix: t.Mapping[str, t.Any]) -> list[tuple[str, list[str]]]:
    """A column each: the node whose cells it shows, and the nodes that it stands for."""
    nodes, same, source = matrix["nodes"], matrix["in_sync_nodes"], matrix["source"]
    if len(nodes) <= MANY_NODES or source not in same:
        return [(node, [node]) for node in nodes]
    return [(source, list(same)), *((node, [node]) for node in nodes if node not in same)]


def key_type(key: t.Mapping[str, t.Any]) -> str:
    return str(key["curve"] or f"{key['type'].upper()}-{key['size']}")


def format_table(matrix: t.Mapping[str, t.Any], *, only_drift: bool = False) -> list[str]:
    """The matrix as lines of text for a terminal: a row a key, a column a node, and last lines that say whether they agree."""
    shown = columns(matrix)
    heads = [node if len(stands_for) == 1 else f"{node} and {len(stands_for) - 1} more" for node, stands_for in shown]
    lines = [["slot", "label", "type", "fingerprint", *heads]]
    for row in matrix["rows"]:
        if only_drift and set(row["nodes"].values()) == {"present"}:
            continue
        prefix, dummy, digits = row["fingerprint"].partition(":")
        fingerprint = f"{prefix}:{digits[:12]}" + (" (check value only)" if row["check_value_only"] else "")
        cells = [cell_text(row, node, matrix["source"]) for node, dummy in shown]
        lines.append([str(row["slot"]), escape_unprintable(row["label"]), key_type(row), fingerprint, *cells])
    if len(lines) == 1:
        return _summary_lines(matrix)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [*table, *_summary_lines(matrix)]


def cell_text(row: t.Mapping[str, t.Any], node: str, source: str) -> str:
    """A cell; of two keys under one label, the one that the source does not have is there instead."""
    cell = row["nodes"][node]
    return "INSTEAD" if cell == "mismatched" and row["nodes"][source] == "absent" else CELLS[cell]


def _summary_lines(matrix: t.Mapping[str, t.Any]) -> list[str]:
    source = matrix["source"]
    lines = [f"UNKNOWN: {one['node']}: {one['reason']}" for one in matrix["unknown"]]
    for one in matrix["drift"]:
        if one["node"] == source:
            lines.append(f"DRIFT: {source} itself: {len(one['unusable'])} unusable")
            continue
        lines.append(
            f"DRIFT: {one['node']} against {source}: {len(one['missing'])} missing, {len(one['extra'])} extra, "
            f"{len(one['mismatched'])} mismatched, {len(one['unusable'])} unusable"
        )
    if lines:
        return lines
    nodes = matrix["nodes"]
    names = ", ".join(nodes) if len(nodes) <= MANY_NODES else f"{len(nodes)} nodes"
    check_value_only = (
        f", {matrix['check_value_only']} of them compared by a check value of three bytes only"
        if matrix["check_value_only"]
        else ""
    )
    return [f"in sync: {names} hold the same {len(matrix['rows'])} key(s){check_value_only}"]
