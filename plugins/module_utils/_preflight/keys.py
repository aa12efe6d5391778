# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of the keys that an import would change. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference


class Policy(t.NamedTuple):
    """What the operator allows an import to do; all are fingerprints. `expected_new_keys` None means: any key may be added."""

    keep_extra: bool
    allowed_extra_keys: frozenset[str]
    destroyed_keys: frozenset[str]
    expected_new_keys: frozenset[str] | None
    allow_replace: frozenset[str]
    import_effect: str | None = None


def check_key_changes(node: str, source: str, difference: Difference, policy: Policy) -> list[Problem]:
    """Keys that would be lost, overwritten or brought back from the dead."""
    problems: list[Problem] = []

    def add(code: str, key: HsmKey, text: str, remedy: str) -> None:
        problems.append(Problem(code, node, f"{key} {text}", remedy))

    if not policy.keep_extra:
        for key in difference.extra:
            if key.fingerprint not in policy.allowed_extra_keys:
                add(
                    "extra_keys",
                    key,
                    f"is on {node} only, not on {source}",
                    "it exists once and is at risk: synchronize from the node that has it, or allow it with extra_keys: keep or allowed_extra_keys",
                )
    for pair in difference.mismatched:
        if pair.source_key.fingerprint not in policy.allow_replace:
            add(
                "key_mismatch",
                pair.target_key,
                f"on {node} is another key than {pair.source_key.fingerprint} (id {pair.source_key.id}) under the same label on {source}",
                "find out which one is in use; to overwrite the target's, name the source's fingerprint in replace, with a reason",
            )
    arriving = [*difference.missing, *(pair.source_key for pair in difference.mismatched)]
    for key in arriving:
        if key.fingerprint in policy.destroyed_keys:
            add(
                "destroyed_key_would_return",
                key,
                f"was retired, {node} does not hold it, and {source} would bring it back",
                f"destroy it on {source}, or take it off the retired list",
            )
        if policy.expected_new_keys is not None and key.fingerprint not in policy.expected_new_keys:
            add(
                "key_not_expected",
                key,
                f"would be new on {node} and is not in expected_new_keys",
                "find out who generated it; add its fingerprint to expected_new_keys if it is wanted",
            )
    return problems


def check_import_effect(node: Node, difference: Difference, policy: Policy) -> list[Problem]:
    """What the operator allows, and imports of this node would not do so, or nobody knows whether they would."""
    told, declared = node.import_behavior, policy.import_effect
    if declared is not None and told.effect not in (UNKNOWN, declared):
        text = f"imports of {node.name} are {told.effect}, as it says itself, not {declared}"
        return [Problem("import_effect_mismatch", node.name, text, "take import_effect away, or correct it")]
    if not (difference.missing or difference.mismatched):
        return []  # nothing would be imported
    effect = told.effect if told.effect != UNKNOWN else declared or UNKNOWN
    deletions = told.deletions if told.deletions != UNKNOWN or declared is None else "stay"
    unknown = (
        f"and nobody knows what an import does to it on {node.name}",
        "find it out on a node that takes no requests, then declare it with import_effect; or synchronize this key by hand first",
    )
    extra = [key for key in difference.extra if policy.keep_extra or key.fingerprint in policy.allowed_extra_keys]
    replaced = [
        pair.target_key for pair in difference.mismatched if pair.source_key.fingerprint in policy.allow_replace
    ]
    problems = []
    for key in extra:
        if effect == "replacing" or deletions == "travel":
            text = f"{key} is on {node.name} only and is to stay, but an import would remove it: "
            text += "it replaces all keys" if effect == "replacing" else "deletions travel with the keys"
            remedy = "it exists once: synchronize from the node that has it first"
            problems.append(Problem("extra_keys_would_be_lost", node.name, text, remedy))
        elif UNKNOWN in (effect, deletions):
            text = f"{key} is on {node.name} only and is to stay, {unknown[0]}"
            problems.append(Problem("import_effect_unknown", node.name, text, unknown[1]))
    for key in replaced:
        if effect == "additive":
            text = f"{key} is to be replaced, but imports of {node.name} only add: both would be there"
            remedy = f"destroy it on {node.name} by hand when you are sure, then run again"
            problems.append(Problem("key_not_replaceable", node.name, text, remedy))
        elif effect == UNKNOWN:
            problems.append(
                Problem("import_effect_unknown", node.name, f"{key} is to be replaced, {unknown[0]}", unknown[1])
            )
    return problems
