# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a synchronization: pure functions. Private to keyops.utrust.

People read, approve and sign a plan, and a run must follow it. A plan contains no secret, only names, key fingerprints and digests.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import canonical, leaves

FORMAT = 1
REMEDY = "make a new plan in check mode (in AWX: launch key_sync with the job type Check), and have it approved"

Document = dict[str, t.Any]


def plan_digest(plan: t.Mapping[str, t.Any]) -> str:
    """The digest of a plan covers everything except for the digest itself."""
    return (
        "sha256:"
        + hashlib.sha256(canonical({name: part for name, part in plan.items() if name != "digest"})).hexdigest()
    )


def make_plan(changes: Document, *, requested_by: str, requester_account: str, requested_at: str) -> Document:
    """`requested_by` is the name of a person, and `requester_account` the account of AWX or of the system."""
    plan: Document = {
        "format": FORMAT,
        "requested_by": requested_by,
        "requester_account": requester_account,
        "requested_at": requested_at,
        "changes": changes,
    }
    return {**plan, "digest": plan_digest(plan)}


def check_plan(plan: t.Any, changes: Document) -> list[Problem]:
    """Return the reasons why a plan must not be applied now. `changes` are the changes that a run would make now."""
    if not isinstance(plan, dict) or plan.get("format") != FORMAT or not _has_targets(plan.get("changes")):
        return [_problem("plan_invalid", f"the document is not a plan of format {FORMAT}")]
    if plan.get("digest") != plan_digest(plan):
        text = f"the plan was edited: its digest is {plan_digest(plan)}, but the plan names {plan.get('digest')!s:.80}"
        return [_problem("plan_digest_mismatch", text)]
    completed = _completed_targets(plan["changes"], changes)
    planned, now = leaves(_drop_targets(completed, plan["changes"])), leaves(_drop_targets(completed, changes))
    return [
        _problem(
            "plan_outdated",
            f"{escape_unprintable('.'.join(path)):.120} was {planned.get(path, 'missing'):.120}, and is {now.get(path, 'missing'):.120} now",
        )
        for path in sorted(planned.keys() | now.keys())
        if planned.get(path) != now.get(path)
    ]


def _problem(code: str, text: str) -> Problem:
    return Problem(code, "plan", text, REMEDY)


def _has_targets(changes: t.Any) -> bool:
    targets = changes.get("targets") if isinstance(changes, dict) else None
    return isinstance(targets, dict) and all(isinstance(target, dict) for target in targets.values())


def _completed_targets(planned: Document, now: Document) -> set[str]:
    """Targets that already hold their planned keys, so that an interrupted run can continue with the same plan."""
    return {
        node
        for node, target in now["targets"].items()
        if target["keys_digest"] == target["keys_digest_after"]
        and planned["targets"].get(node, {}).get("keys_digest_after") == target["keys_digest_after"]
        and planned["targets"][node].get("hsm_serial") == target["hsm_serial"]
    }


def _drop_targets(completed: set[str], changes: Document) -> Document:
    """The changes without the completed targets, and without the batches, because fewer targets make other batches."""
    if not completed:
        return changes
    targets = {node: target for node, target in changes["targets"].items() if node not in completed}
    return {**{name: part for name, part in changes.items() if name != "batches"}, "targets": targets}
