# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first synchronization of a cluster changes a worthless key only: the canary key. Pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

REASON: t.Final = "give a reason in key_sync_reasons for canary_key"


class CanaryTarget(t.NamedTuple):
    """A target: the name of the node, and the keys that an import would add to it or replace on it."""

    node: str
    added: t.Sequence[HsmKey]


def check_canary(
    canary_key: t.Mapping[str, str] | None,
    source: str,
    source_keys: t.Sequence[HsmKey],
    targets: t.Sequence[CanaryTarget],
) -> list[Problem]:
    """Return why the keys must not be synchronized yet. A target without pending keys has no problem.

    A target has the canary key as soon as an import of it was verified. A package carries every key of the source, so until then the canary key is the
    only key that a target may lack.
    """
    pending = [target for target in targets if target.added]
    if not pending:
        return []
    if canary_key is None:
        text = "the commissioning record names no canary key"
        remedy = f"name a worthless key when you make the record, or {REASON}"
        return [Problem("canary_key_first", "commissioning record", text, remedy)]
    alias = canary_key["alias"]
    if all(key.label != alias for key in source_keys):
        text = f"the source has no key {alias}, the canary key of the commissioning record"
        remedy = f"generate this worthless key in crypto token {canary_key['crypto_token']} of the source, or {REASON}"
        return [Problem("canary_key_first", source, text, remedy)]
    return [problem for target in pending for problem in _check_target(alias, target)]


def _check_target(alias: str, target: CanaryTarget) -> list[Problem]:
    labels = [key.label for key in target.added]
    others = len([label for label in labels if label != alias])
    if alias not in labels or not others:
        return []
    text = f"the canary key {alias} was never synchronized to {target.node}, but {others} other key(s) would be added or replaced, too"
    remedy = f"synchronize the canary key alone, before other keys are generated, or {REASON}"
    return [Problem("canary_key_first", target.node, text, remedy)]
