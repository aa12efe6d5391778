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
    """Changes that the operator allows. All sets hold key fingerprints. `expected_new_keys` None allows every new key."""

    keep_extra: bool
    allowed_extra_keys: frozenset[str]
    destroyed_keys: frozenset[str]
    expected_new_keys: frozenset[str] | None
    allow_replace: frozenset[str]
    import_effect: str | None = None


def check_key_changes(node: str, source: str, difference: Difference, policy: Policy) -> list[Problem]:
    """Check which keys the target would lose, overwrite or get."""
    problems: list[Problem] = []
    if not policy.keep_extra:
        for key in difference.extra:
            if key.fingerprint not in policy.allowed_extra_keys:
                text = f"{key} is only on {node}, not on {source}"
                remedy = (
                    f"synchronize from {node} first, because this may be the only copy of the key. "
                    "To keep the key, set extra_keys: keep or add its fingerprint to allowed_extra_keys"
                )
                problems.append(Problem("extra_keys", node, text, remedy))
    for pair in difference.mismatched:
        if pair.source_key.fingerprint not in policy.allow_replace:
            expected = f"{pair.source_key.fingerprint} (id {pair.source_key.id})"
            text = f"{pair.target_key} on {node} is not the key {expected} with the same label on {source}"
            remedy = (
                "find out which key is in use. To replace the key of the target, "
                "add the key fingerprint of the source to allow_replace, with a reason"
            )
            problems.append(Problem("key_mismatch", node, text, remedy))
    for pair in difference.moved:
        text = f"key {pair.source_key.fingerprint} is {_place(pair.target_key)} on {node}, but {_place(pair.source_key)} on {source}"
        remedy = f"set slot, label and id of the key on {node} as on {source}, because an import does not move a key"
        problems.append(Problem("key_moved", node, text, remedy))
    for pair in difference.undetermined:
        text = (
            f"{pair.source_key} of {source} and {pair.target_key} of {node} have the same label, "
            "but a key fingerprint is unknown, so the keys cannot be compared"
        )
        remedy = "synchronize this key manually, or update the firmware of the node that cannot determine the key fingerprint"
        problems.append(Problem("key_fingerprint_unknown", node, text, remedy))
    for key in [*difference.missing, *(pair.source_key for pair in difference.mismatched)]:
        problems += _check_new_key(node, source, key, policy)
    return problems


def _place(key: HsmKey) -> str:
    return f"'{key.label}' in slot {key.slot} with id {key.id or 'none'}"


def _check_new_key(node: str, source: str, key: HsmKey, policy: Policy) -> list[Problem]:
    problems = []
    if not key.fingerprint_known:
        text = f"{source} cannot determine the key fingerprint of {key}, so the import of the key cannot be verified"
        remedy = f"synchronize this key manually, or update the firmware of {source}"
        problems.append(Problem("key_fingerprint_unknown", node, text, remedy))
    if key.fingerprint in policy.destroyed_keys:
        text = f"{key} is in destroyed_keys, but {source} would import it into {node}"
        remedy = f"destroy the key on {source}, or remove it from destroyed_keys"
        problems.append(Problem("destroyed_key_would_return", node, text, remedy))
    if policy.expected_new_keys is not None and key.fingerprint not in policy.expected_new_keys:
        text = f"{key} would be new on {node}, but is not in expected_new_keys"
        remedy = "find out who generated the key. If it is correct, add its fingerprint to expected_new_keys"
        problems.append(Problem("key_not_expected", node, text, remedy))
    return problems


def check_import_effect(node: Node, difference: Difference, policy: Policy) -> list[Problem]:
    """Check that imports of the node change keys as the operator allows. An unknown effect is a problem if the result depends on it."""
    reported, declared = node.import_behavior, policy.import_effect
    if declared is not None and reported.effect not in (UNKNOWN, declared):
        text = f"{node.name} reports that its imports are {reported.effect}, but import_effect is {declared}"
        return [Problem("import_effect_mismatch", node.name, text, "correct or remove import_effect")]
    if not (difference.missing or difference.mismatched):
        return []  # the import would change nothing
    effect, deletions = known_effect(node, declared)
    problems = []
    for key in difference.extra:
        if policy.keep_extra or key.fingerprint in policy.allowed_extra_keys:
            problems += _check_kept_key(node.name, key, effect, deletions)
    for pair in difference.mismatched:
        if pair.source_key.fingerprint in policy.allow_replace:
            problems += _check_replaced_key(node.name, pair.target_key, effect)
    return problems


def known_effect(node: Node, declared: str | None) -> tuple[str, str]:
    """Return what is known about the effect of an import and about deletions, from the node or from the operator."""
    reported = node.import_behavior
    effect = reported.effect if reported.effect != UNKNOWN else declared or UNKNOWN
    return effect, reported.deletions if reported.deletions != UNKNOWN or declared is None else "not_replicated"


def removable_keys(node: Node, difference: Difference, declared: str | None) -> tuple[HsmKey, ...]:
    """Return the keys that an import may remove without a loss: the HSM holds each of them once more, in the place of the source."""
    effect, deletions = known_effect(node, declared)
    stays = effect in ("additive", "overwriting") and deletions == "not_replicated"
    return () if stays else difference.duplicate


def keys_after_import(
    node: Node, hsm_keys: t.Iterable[HsmKey], difference: Difference, declared: str | None
) -> list[HsmKey]:
    """Return the keys that a target has after an import of `hsm_keys`: those of the source, and its own that stay."""
    replaced = known_effect(node, declared)[0] == "replacing"
    return [*hsm_keys, *difference.extra, *(() if replaced else difference.duplicate)]


UNKNOWN_EFFECT_REMEDY = (
    "test the import effect on a node that processes no requests, then set import_effect. "
    "Otherwise synchronize this key manually first"
)


def _check_kept_key(node: str, key: HsmKey, effect: str, deletions: str) -> list[Problem]:
    if effect == "replacing" or deletions == "replicated":
        reason = "replace all keys" if effect == "replacing" else "also delete keys that were deleted on the source"
        text = f"{key} is only on {node} and must be kept, but imports of {node} {reason}"
        return [Problem("extra_keys_would_be_lost", node, text, f"synchronize from {node} first")]
    if UNKNOWN in (effect, deletions):
        text = f"{key} is only on {node} and must be kept, but the import effect of {node} is unknown"
        return [Problem("import_effect_unknown", node, text, UNKNOWN_EFFECT_REMEDY)]
    return []


def _check_replaced_key(node: str, key: HsmKey, effect: str) -> list[Problem]:
    if effect == "additive":
        text = f"{key} must be replaced, but imports of {node} only add keys"
        remedy = f"make sure that nobody uses the key, destroy it on {node} manually, then run again"
        return [Problem("key_not_replaceable", node, text, remedy)]
    if effect == UNKNOWN:
        text = f"{key} must be replaced, but the import effect of {node} is unknown"
        return [Problem("import_effect_unknown", node, text, UNKNOWN_EFFECT_REMEDY)]
    return []
