# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EJBCA views of all nodes as a matrix: pure functions. Private to keyops.utrust.

A row is a key pair that EJBCA of the source shows, and names only the nodes that show something else.
"""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import SCOPE
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import ClusterView, NodeView
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import KeyState, ViewProblem

Data = dict[str, t.Any]

#: States of a key that are a difference between two views. `inactive` and `unknown` are not.
DRIFT: t.Final = ("absent", "stale", "moved", "mismatched")
#: The cell of a node whose view a person has left out.
NOT_READ: t.Final = "not_read"
#: The word for people of each state that is not `present`.
WORDS: t.Final = {
    "absent": "NOT SHOWN",
    "stale": "STALE",
    "moved": "MOVED",
    "mismatched": "MISMATCH",
    "inactive": "INACTIVE",
    "unknown": "UNKNOWN",
}
#: Aliases in one problem. The rows have all of them.
MAX_ALIASES: t.Final = 3
REMEDIES: t.Final = {
    "absent": "compare the keys of the HSM, then synchronize the keys or wait for EJBCA",
    "stale": "wait 2 minutes. If EJBCA still does not show the key, reactivate the crypto token on this node",
    "moved": "a CA finds its key by the alias, so correct the label on this node",
    "mismatched": "reactivate the crypto token on this node and run again. If the keys still differ, ask the key owner which key is correct",
    "inactive": "activate the crypto token on this node",
    "unknown": "",
}


def view_matrix(view: ClusterView, *, hsm_keys_known: bool, fingerprints: t.Collection[str] | None = None) -> Data:
    """Return the matrix of the key pairs of the source (rows) and the nodes (columns).

    `hsm_keys_known` is whether the keys in the HSM of the source were read. `fingerprints` selects key pairs. Without it, every key pair has a row.
    A cell is a state of `view.KeyState`, or `not_read` for a node that a person has left out.
    """
    rows = _rows(view, fingerprints)
    different = {
        node.host: [key for key in node.different if fingerprints is None or key.fingerprint in fingerprints]
        for node in view.nodes
    }
    drift = [
        {"node": host, **{state: [key.alias for key in keys if key.state == state] for state in DRIFT}}
        for host, keys in different.items()
        if any(key.state in DRIFT for key in keys)
    ]
    unknown, left_out = view.unknown_nodes, [node.host for node in view.nodes if node.left_out]
    out_of_sync = {entry["node"] for entry in drift} | {*unknown, *left_out}
    return {
        "scope": SCOPE,
        "source": view.source,
        "hsm_keys_known": hsm_keys_known,
        "nodes": [node.host for node in view.nodes],
        "in_sync": not out_of_sync,
        "in_sync_nodes": [node.host for node in view.nodes if node.host not in out_of_sync],
        "drift": drift,
        "unknown_nodes": unknown,
        "left_out": left_out,
        "problems": [problem.to_dict() for problem in _problems(view, different)],
        "warnings": [f"{node.host}: {text}" for node in view.nodes for text in node.warnings],
        "rows": rows,
    }


def _rows(view: ClusterView, fingerprints: t.Collection[str] | None) -> list[Data]:
    cells: dict[tuple[int, str], dict[str, str]] = collections.defaultdict(dict)
    for node in view.nodes:
        for key in node.different:
            cells[key.token_id, key.alias][node.host] = key.state
    uncompared = {node.host: NOT_READ if node.left_out else "unknown" for node in view.nodes if not node.compared}
    return [
        {
            "token_id": token.id,
            "token": token.name,
            **{name: value for name, value in key._asdict().items() if name != "problem"},
            "state": "present",
            "nodes": {**cells.get((token.id, key.alias), {}), **uncompared},
        }
        for token in (view.source_view.tokens if view.source_view is not None else ())
        for key in token.keys or ()
        if key.subject_key_id is not None and (fingerprints is None or key.fingerprint in fingerprints)
    ]


def _problems(view: ClusterView, different: t.Mapping[str, t.Sequence[KeyState]]) -> t.Iterator[Problem]:
    """Yield each reason why a view is unknown, and the differences of each node."""
    seen: set[ViewProblem] = set()
    for node in view.nodes:
        for problem in node.problems:
            # Each node has the problems of the source, and they are the same.
            of_source = problem.code == "source_view_incomplete"
            if not (of_source and problem in seen):
                seen.add(problem)
                text = f"{problem.text}, so these keys were compared on no node" if of_source else problem.text
                yield Problem(problem.code, node.host, text, _remedy(problem.code, node))
        yield from _differences(node, different[node.host])


def _differences(node: NodeView, different: t.Sequence[KeyState]) -> t.Iterator[Problem]:
    """Yield a problem for each group of keys with the same state and reason. The problems of the node already name some reasons."""
    named = {problem.text for problem in node.problems}
    has_failing = any(problem.code == "token_activation_failing" for problem in node.problems)
    failing = {
        token.name
        for token in node.tokens
        if has_failing and token.active is False and token.auto_activation is not False
    }
    groups: dict[tuple[str, str, str], list[str]] = collections.defaultdict(list)
    for key in different:
        if key.text not in named and not (key.state == "inactive" and key.token in failing):
            groups[key.state, key.token, key.text].append(key.alias)
    for (state, token, text), aliases in groups.items():
        listed = ", ".join(aliases[:MAX_ALIASES])
        more = f" and {len(aliases) - MAX_ALIASES} more" if len(aliases) > MAX_ALIASES else ""
        text = f"{WORDS[state]}: {listed}{more} in crypto token {token}: {text}"
        if state == "inactive":
            yield Problem("crypto_token_inactive", node.host, text, REMEDIES[state])
        elif state == "unknown":
            yield Problem("view_key_not_verified", node.host, text, REMEDIES[state])
        else:
            yield Problem("ejbca_view_differs", node.host, text, REMEDIES[state])


def _remedy(code: str, node: NodeView) -> str:
    if code == "token_activation_failing":
        return f"set the variable utrust_ejbca_view of {node.host} to false, so that no run reads this view until the PIN is correct"
    if code == "database_diverged":
        return "check that all nodes use the same database, and that the addresses are those of nodes of this cluster"
    if code == "ejbca_identity_unknown":
        return f"set utrust_ejbca_host of {node.host} to the address of the node itself"
    return ""
