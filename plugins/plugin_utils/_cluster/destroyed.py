# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys that an import has overwritten or removed: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

Document = t.Mapping[str, t.Any]

#: Stands for the reason of a key that the operator did not name.
UNPLANNED: t.Final = "nobody planned this. The node removed the key"


def destroyed_keys(
    result: Document, allow_replace: t.Sequence[Document], *, node: str, by: str
) -> list[dict[str, t.Any]]:
    """Return the keys that are gone after an import, each with its node, its reason and who started the run.

    `result` is the result of utrust_ksp_import, also of a failed import that changed keys. `allow_replace` is the option of the task.
    """
    if not result.get("changed"):
        return []
    reasons = {str(entry.get("fingerprint")): str(entry.get("reason")) for entry in allow_replace}
    found = []
    for pair in result.get("replaced", ()):
        new = pair["source_key"]["fingerprint"]
        found.append(
            {**pair["target_key"], "node": node, "replaced_by": new, "reason": reasons.get(new, UNPLANNED), "by": by}
        )
    for key in result.get("lost", ()):
        found.append({**key, "node": node, "replaced_by": None, "reason": UNPLANNED, "by": by})
    return found


def destroyed_between_runs(changes: Document, nodes: t.Iterable[str], *, by: str) -> list[dict[str, t.Any]]:
    """Return the keys that people overwrote on these nodes between two runs.

    `changes` are those of a plan from before. Each node has the keys of the source now, so the planned replacements are done.
    """
    allowed = changes["options"].get("allow_replace") or ()
    found = []
    for node in dict.fromkeys(nodes):
        done = {"changed": True, "replaced": changes["targets"].get(node, {}).get("replace", ())}
        found += destroyed_keys(done, allowed, node=node, by=by)
    return found
