# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a rollout or the guided restores ended, for every node: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

UP_TO_DATE = "up to date"
SYNCHRONIZED = "synchronized now"
WOULD = "would be synchronized"
RESTORED = "restored now"
WOULD_RESTORE = "would be restored"
FAILED = "FAILED"
NOT_TOUCHED = "not touched"
LEFT_OUT = "MUST BE GATED before it returns"


def summarize_rollout(
    targets: t.Mapping[str, t.Mapping[str, t.Any]],
    *,
    members_not_in_play: t.Sequence[str] = (),
    dry_run: bool = False,
) -> list[dict[str, str]]:
    """A row a node: `node`, `outcome`, `detail`.

    `targets` has for each host what was registered: `plan` (prediction), `result` (import) and `after` (last check), each possibly missing or skipped.
    `members_not_in_play` are joined members outside of this run, which may lack keys that are in use now.
    """
    rows = [{"node": host, **_outcome(results, dry_run)} for host, results in targets.items()]
    changed = any(row["outcome"] in (SYNCHRONIZED, FAILED) for row in rows)
    why = "keys have changed without it" if changed else "it was not part of this run, so nothing is known of it"
    return rows + [{"node": node, "outcome": LEFT_OUT, "detail": why} for node in members_not_in_play]


def _outcome(results: t.Mapping[str, t.Any], dry_run: bool) -> dict[str, str]:
    plan, result, after = (results.get(name) or {} for name in ("plan", "result", "after"))
    for one in (after, result, plan):
        if failure := _failure(one):
            return failure
    if after.get("pending"):
        return {
            "outcome": FAILED,
            "detail": f"{after['pending']} key(s) of the source are not there at the end of the run",
        }
    if "node" in result:
        added, replaced = len(result["added"]), len(result["replaced"])
        if result.get("verified"):
            detail = f"{added} key(s) added, {replaced} replaced; a new backup is needed"
            return {"outcome": SYNCHRONIZED, "detail": detail}
        return {"outcome": WOULD, "detail": f"{added} key(s) to add, {replaced} to replace"}
    if "node" not in plan:
        return {"outcome": NOT_TOUCHED, "detail": "the run ended before it was looked at"}
    if plan["pending"]:
        return {"outcome": WOULD if dry_run else NOT_TOUCHED, "detail": f"{plan['pending']} key(s) are still to come"}
    return {"outcome": UP_TO_DATE, "detail": f"{plan['unchanged']} key(s) as on the source"}


def summarize_restores(
    restores: t.Mapping[str, t.Mapping[str, t.Any] | None], *, dry_run: bool = False
) -> list[dict[str, str]]:
    """A row a node: `node`, `outcome`, `detail`. `restores` has for each host the last result of utrust_hsm_restore: preview, restore, or nothing yet."""
    return [{"node": host, **_restored(result or {}, dry_run)} for host, result in restores.items()]


def _restored(result: t.Mapping[str, t.Any], dry_run: bool) -> dict[str, str]:
    if failure := _failure(result):
        return failure
    if "hsm_state" in result:
        if result["changed"]:
            detail = f"{result['key_count']} key(s) under MBK {result['mbk']['name']}; a new backup is needed"
            return {"outcome": RESTORED, "detail": detail}
        if result["in_sync"]:
            return {"outcome": UP_TO_DATE, "detail": f"{result['key_count']} key(s) as on the source"}
        return {
            "outcome": NOT_TOUCHED,
            "detail": "its HSM is restored, but its keys differ from the source's: run key_sync",
        }
    if "node" in result:
        return {"outcome": WOULD_RESTORE if dry_run else NOT_TOUCHED, "detail": "MBK and keys are still to come"}
    return {"outcome": NOT_TOUCHED, "detail": "it has not been looked at"}


def _failure(result: t.Mapping[str, t.Any]) -> dict[str, str] | None:
    if result.get("failed") or result.get("unreachable"):
        return {"outcome": FAILED, "detail": str(result.get("msg", "no message"))}
    return None


def in_words(rows: t.Sequence[t.Mapping[str, str]]) -> list[str]:
    """The rows as lines of text."""
    width = max((len(row["node"]) for row in rows), default=0)
    return [f"{row['node'].ljust(width)}  {row['outcome']}: {row['detail']}" for row in rows]
