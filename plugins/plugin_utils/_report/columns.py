# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Columns of tables with a cell for each node: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

#: With more nodes, the nodes in sync share the column of the source.
MANY_NODES: t.Final = 12
Column = tuple[str, list[str]]


def columns(matrix: t.Mapping[str, t.Any]) -> list[Column]:
    """For each column, the node whose cells it shows and the nodes that share the column."""
    nodes, in_sync, source = matrix["nodes"], matrix["in_sync_nodes"], matrix["source"]
    if len(nodes) <= MANY_NODES or source not in in_sync:
        return [(node, [node]) for node in nodes]
    return [(source, list(in_sync)), *((node, [node]) for node in nodes if node not in in_sync)]


def heads(shown: t.Sequence[Column]) -> list[str]:
    """Return the heads of the columns."""
    return [node if len(shared) == 1 else f"{node} and {len(shared) - 1} more" for node, shared in shown]


def aligned(lines: t.Sequence[t.Sequence[str]]) -> list[str]:
    """Return lines of cells as text with aligned columns."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
