# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EJBCA views as a table of text: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import cell
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_matrix import WORDS
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.columns import MANY_NODES, aligned, columns, heads

Matrix = t.Mapping[str, t.Any]

CELLS: t.Final = {**WORDS, "present": "yes", "unknown": "?", "not_read": "not read"}
HEADING: t.Final = "EJBCA view: keys as EJBCA of each node shows them, scope: ejbca"


def heading(matrix: Matrix) -> str:
    """Return the heading, which says so where nothing but the view is known."""
    return HEADING if matrix["hsm_keys_known"] else f"{HEADING}. The keys of the HSMs are unknown"


def format_view(matrix: Matrix, *, only_drift: bool = False) -> list[str]:
    """Format the views as lines of text: a row for each key pair that a node does not show as the source does, and a line for each problem.

    Where the keys of the HSMs are unknown, no other table has the keys, so each key pair has a row.
    """
    every = not matrix["hsm_keys_known"] and not only_drift
    rows = [row for row in matrix["rows"] if every or row["nodes"]]
    return [
        heading(matrix) + (". Only keys that differ" if rows and not every else ""),
        *(_table(matrix, rows) if rows else []),
        *map(_problem_line, matrix["problems"]),
        *(f"VIEW NOTE: {text}" for text in matrix["warnings"]),
        *_in_sync(matrix),
    ]


def _table(matrix: Matrix, rows: t.Sequence[Matrix]) -> list[str]:
    shown = columns(matrix)
    lines = [["crypto token", "alias", "key", "fingerprint", *heads(shown)]]
    for row in rows:
        specification = f"{row['algorithm']} {row['specification'].partition(' / ')[0]}".strip()
        fingerprint = row["fingerprint"][:19] if row["fingerprint"] else "unknown"
        cells = [CELLS[cell(row, node)] for node, dummy in shown]
        lines.append([row["token"], row["alias"], specification, fingerprint, *cells])
    return aligned(lines)


def _problem_line(problem: Matrix) -> str:
    kind = "VIEW DRIFT" if problem["code"] == "ejbca_view_differs" else "VIEW UNKNOWN"
    kind = "VIEW NOT READ" if problem["code"] == "ejbca_view_left_out" else kind
    remedy = f". {problem['remedy'][:1].upper()}{problem['remedy'][1:]}" if problem["remedy"] else ""
    return f"{kind}: {problem['node']}: {problem['text']}{remedy} [{problem['code']}]"


def _in_sync(matrix: Matrix) -> list[str]:
    """Return a line about the nodes whose view shows every key pair of the source, if this is more than the source."""
    nodes = matrix["in_sync_nodes"]
    if not nodes or (nodes == [matrix["source"]] and len(matrix["nodes"]) > 1):
        return []
    names = ", ".join(nodes) if len(nodes) <= MANY_NODES else f"{len(nodes)} nodes"
    return [f"view in sync: EJBCA of {names} shows the same {len(matrix['rows'])} key pair(s)"]
