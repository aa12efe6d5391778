# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what each node proved to one verdict: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

Facts = t.Mapping[str, t.Any]


def plan(
    wanted: t.Iterable[Facts], hsm_keys: t.Sequence[Facts], manual_confirmations: t.Iterable[Facts] = ()
) -> dict[str, t.Any]:
    """What to prove: each key as the source has it, labels that the source does not have exactly once, and for each node the manual_confirmations of keys."""
    found: list[dict[str, t.Any]] = []
    unclear: list[str] = []
    for key in wanted:
        slot, fingerprint = key.get("slot"), key.get("fingerprint")
        held = [
            one
            for one in hsm_keys
            if one["label"] == key["label"]
            and (slot is None or one["slot"] == int(slot))
            and (fingerprint is None or one["fingerprint"] == fingerprint)
        ]
        if len(held) == 1:
            found.append(
                {name: held[0][name] for name in ("fingerprint", "label", "slot")} | {"ca": key.get("ca") or None}
            )
        else:
            unclear.append(key["label"])
    given: dict[str, list[dict[str, str]]] = {}
    for word in manual_confirmations:
        for key in found:
            if key["label"] == word["key"]:
                fact = {"key": key["fingerprint"], "confirmed_by": word["confirmed_by"], "reason": word["reason"]}
                given.setdefault(word["node"], []).append(fact)
    return {"hsm_keys": found, "unclear": unclear, "manual_confirmations": given}


def verdict(proofs: t.Mapping[str, Facts], *, level: str, min_nodes: int | None = None) -> dict[str, t.Any]:
    """Whether a gate opens: every key at the level on all nodes, or on at least so many.

    `proofs` has for each node the result of utrust_key_proof. A node without rows was not read. `passed` None: check mode cannot know.
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
    """One line a key: where it is and where it is not, and why; one for each node that was not read."""
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
            f"; not on {', '.join(bad)}" if bad else ""
        )
    for node, proof in proofs.items():
        if not proof.get("proof"):
            yield f"{node} was not read: {proof.get('msg') or 'no reason was given'}"
