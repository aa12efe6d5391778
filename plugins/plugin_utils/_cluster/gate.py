# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan and the verdict of a key gate: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

Facts = t.Mapping[str, t.Any]


def gate_plan(
    keys: t.Iterable[Facts], hsm_keys: t.Sequence[Facts], manual_confirmations: t.Iterable[Facts] = ()
) -> dict[str, t.Any]:
    """Find the keys of a gate among the keys of the source, and the manual confirmations of each node.

    `unclear` are the labels that do not name exactly one key of the source.
    """
    found: list[dict[str, t.Any]] = []
    unclear: list[str] = []
    for key in keys:
        slot, fingerprint = key.get("slot"), key.get("fingerprint")
        matching = [
            hsm_key
            for hsm_key in hsm_keys
            if hsm_key["label"] == key["label"]
            and (slot is None or hsm_key["slot"] == int(slot))
            and (fingerprint is None or hsm_key["fingerprint"] == fingerprint)
        ]
        if len(matching) == 1:
            found.append(
                {name: matching[0][name] for name in ("fingerprint", "label", "slot")} | {"ca": key.get("ca") or None}
            )
        else:
            unclear.append(key["label"])
    by_node: dict[str, list[dict[str, str]]] = {}
    for confirmation in manual_confirmations:
        for key in found:
            if key["label"] == confirmation["key"]:
                by_node.setdefault(confirmation["node"], []).append(
                    {
                        "key": key["fingerprint"],
                        "confirmed_by": confirmation["confirmed_by"],
                        "reason": confirmation["reason"],
                    }
                )
    return {"hsm_keys": found, "unclear": unclear, "manual_confirmations": by_node}


def gate_verdict(proofs: t.Mapping[str, Facts], *, level: str, min_nodes: int | None = None) -> dict[str, t.Any]:
    """Return whether a gate opens: every key reaches the level on all nodes, or on at least `min_nodes` nodes.

    `proofs` has the result of utrust_key_proof for each node. A node without rows was not read. `passed` has the value None if check mode cannot decide.
    """
    states = {node: proof.get("passed") if proof.get("proof") else False for node, proof in proofs.items()}
    passed = [node for node, state in states.items() if state is True]
    possible = [node for node, state in states.items() if state is not False]
    needed = len(proofs) if min_nodes is None else min_nodes
    enough = bool(proofs) and len(passed) >= needed
    unknown = not enough and len(possible) >= needed and len(possible) > len(passed)
    return {
        "passed": None if unknown else enough,
        "nodes": passed,
        "needed": needed,
        "lines": [*_lines(proofs), f"{len(passed)} of {len(proofs)} node(s) reach level {level}, {needed} must"],
    }


def _lines(proofs: t.Mapping[str, Facts]) -> t.Iterator[str]:
    """One line for each key with its nodes and reasons, and one line for each node that was not read."""
    labels: dict[str, str] = {}
    for proof in proofs.values():
        labels |= {row["fingerprint"]: row["label"] for row in proof.get("proof") or ()}
    for fingerprint, label in labels.items():
        good: list[str] = []
        bad: list[str] = []
        for node, proof in proofs.items():
            for row in proof.get("proof") or ():
                if row["fingerprint"] == fingerprint:
                    where = f"{node} ({row['reached']}: {row['detail']})"
                    (bad if row["passed"] is False else good).append(where)
        yield f"{label} {fingerprint}: on {', '.join(good) or 'no node'}" + (
            f". Not on {', '.join(bad)}" if bad else ""
        )
    for node, proof in proofs.items():
        if not proof.get("proof"):
            yield f"{node} was not read: {proof.get('msg') or 'the failure has no message'}"
