# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key matrix as a table of text: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import cell
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.columns import MANY_NODES, aligned, columns, heads
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.view_table import format_view

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


def key_type(key: t.Mapping[str, t.Any]) -> str:
    """Return the curve or parameter set, or the type with its size. Some types have no size."""
    size = f"-{key['size']}" if key["size"] is not None else ""
    return str(key["curve"] or f"{key['type'].upper()}{size}")


def row_cells(matrix: t.Mapping[str, t.Any], row: t.Mapping[str, t.Any]) -> list[str]:
    """Return the different cells of a row in alphabetical order."""
    rest = {row["state"]} if len(row["nodes"]) < len(matrix["nodes"]) else set()
    return sorted({*row["nodes"].values(), *rest})


def format_table(matrix: t.Mapping[str, t.Any], *, only_drift: bool = False) -> list[str]:
    """Format the matrix as lines of text: a row for each key, a column for each node, a summary, and the EJBCA views if they were read."""
    shown = columns(matrix)
    lines = [["slot", "label", "type", "fingerprint", *heads(shown)]]
    for row in matrix["rows"]:
        if only_drift and row_cells(matrix, row) == ["present"]:
            continue
        prefix, colon, digits = row["fingerprint"].partition(":")
        fingerprint = f"{prefix}{colon}{digits[:12]}" + (" (check value only)" if row["check_value_only"] else "")
        cells = [CELLS[cell(row, node)] for node, dummy in shown]
        lines.append([str(row["slot"]), row["label"] or "(no label)", key_type(row), fingerprint, *cells])
    view = format_view(matrix["ejbca_view"], only_drift=only_drift) if matrix.get("ejbca_view") is not None else []
    return [*(aligned(lines) if len(lines) > 1 else []), *_summary_lines(matrix), *view]


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
