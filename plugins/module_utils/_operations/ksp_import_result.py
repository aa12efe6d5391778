# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of an import, or of its prediction. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import node_facts

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference
    from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest


def warn(result: dict[str, t.Any], text: str) -> None:
    result.setdefault("warnings", []).append(text)


def make_result(
    target: Node,
    after: str | None,
    difference: Difference,
    manifest: Manifest,
    *,
    changed: bool,
    predicted: bool = False,
    unusable: int | None = None,
) -> dict[str, t.Any]:
    added = [key.to_dict() for key in difference.missing]
    replaced = [pair.to_dict() for pair in difference.mismatched]
    result: dict[str, t.Any] = {
        "changed": changed,
        "node": target.name,
        "hsm_serial": target.hsm_serial,
        "added": added,
        "replaced": replaced,
        "extra": [key.to_dict() for key in difference.extra],
        "pending": len(added) + len(replaced) if predicted else 0,
        "unchanged": difference.unchanged,
        "check_value_only": difference.check_value_only,
        "keys_digest_before": target.keys_digest,
        "keys_digest": after,
        "in_sync": (target.keys_digest if predicted else after) == manifest.keys_digest,
        "verified": not predicted,
        "target": node_facts(target),
        "diff": _diff(target.name, difference),
    }
    if unusable is not None:
        result["unusable_key_count"] = unusable
    if unusable:
        result["warnings"] = [
            f"{unusable} key(s) in the HSM of {target.name} are not usable: their slot is not activated, or their objects are incomplete"
        ]
    return result


def _diff(node: str, difference: Difference) -> dict[str, str]:
    new_keys = [*difference.missing, *(pair.source_key for pair in difference.mismatched)]
    return {
        "before_header": f"keys of {node}",
        "after_header": f"keys of {node}",
        "before": "".join(f"{pair.target_key}\n" for pair in difference.mismatched),
        "after": "".join(f"{key}\n" for key in new_keys),
    }
