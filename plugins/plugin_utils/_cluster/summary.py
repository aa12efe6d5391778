# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Summaries of a rollout and of guided restores, a line for each node: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

UP_TO_DATE = "up to date"
SYNCHRONIZED = "synchronized now"
WOULD_SYNCHRONIZE = "would be synchronized"
RESTORED = "restored now"
WOULD_RESTORE = "would be restored"
FAILED = "FAILED"
NOT_TOUCHED = "not touched"
GATE_REQUIRED = "MUST BE GATED before use"


def summarize_rollout(
    targets: t.Mapping[str, t.Mapping[str, t.Any]],
    *,
    members_not_in_play: t.Sequence[str] = (),
    dry_run: bool = False,
) -> list[dict[str, str]]:
    """Return a row for each node with `node`, `outcome` and `detail`.

    `targets` has the registered results of each host: `plan` (prediction), `result` (import) and `after` (last check). Each result may be missing or skipped.
    `members_not_in_play` are joined members outside of this run. They may not have keys that are in use now.
    """
    rows = [{"node": host, **_outcome(results, dry_run)} for host, results in targets.items()]
    changed = any(row["outcome"] in (SYNCHRONIZED, FAILED) for row in rows)
    detail = "the run changed keys on other nodes only" if changed else "the run did not read this node"
    return rows + [{"node": node, "outcome": GATE_REQUIRED, "detail": detail} for node in members_not_in_play]


def _outcome(results: t.Mapping[str, t.Any], dry_run: bool) -> dict[str, str]:
    plan, result, after = (results.get(name) or {} for name in ("plan", "result", "after"))
    for registered in (after, result, plan):
        if failure := _failure(registered):
            return failure
    if after.get("pending"):
        return {
            "outcome": FAILED,
            "detail": f"{after['pending']} key(s) of the source are missing at the end of the run",
        }
    if "node" in result:
        added, replaced = len(result["added"]), len(result["replaced"])
        if result.get("verified"):
            detail = f"{added} key(s) added, {replaced} replaced. Make a new backup"
            return {"outcome": SYNCHRONIZED, "detail": detail}
        return {"outcome": WOULD_SYNCHRONIZE, "detail": f"{added} key(s) to add, {replaced} to replace"}
    if "node" not in plan:
        return {"outcome": NOT_TOUCHED, "detail": "the run ended before it checked this node"}
    if plan["pending"]:
        return {"outcome": WOULD_SYNCHRONIZE if dry_run else NOT_TOUCHED, "detail": f"{plan['pending']} key(s) pending"}
    return {"outcome": UP_TO_DATE, "detail": f"{plan['unchanged']} key(s), same as the source"}


def summarize_restores(
    restores: t.Mapping[str, t.Mapping[str, t.Any] | None], *, dry_run: bool = False
) -> list[dict[str, str]]:
    """Return a row for each node with `node`, `outcome` and `detail`.

    `restores` has the last result of utrust_hsm_restore for each host: a preview, a restore, or None.
    """
    return [{"node": host, **_restored(result or {}, dry_run)} for host, result in restores.items()]


def _restored(result: t.Mapping[str, t.Any], dry_run: bool) -> dict[str, str]:
    if failure := _failure(result):
        return failure
    if "hsm_state" in result:
        if result["changed"]:
            detail = f"{result['key_count']} key(s) under MBK {result['mbk']['name']}. Make a new backup"
            return {"outcome": RESTORED, "detail": detail}
        if result["in_sync"]:
            return {"outcome": UP_TO_DATE, "detail": f"{result['key_count']} key(s), same as the source"}
        return {
            "outcome": NOT_TOUCHED,
            "detail": "the HSM is restored, but its keys differ from the source. Run key_sync",
        }
    if "node" in result:
        return {"outcome": WOULD_RESTORE if dry_run else NOT_TOUCHED, "detail": "MBK and keys pending"}
    return {"outcome": NOT_TOUCHED, "detail": "the run did not check this node"}


def _failure(result: t.Mapping[str, t.Any]) -> dict[str, str] | None:
    if result.get("failed") or result.get("unreachable"):
        return {"outcome": FAILED, "detail": _failure_reason(result)}
    return None


def _failure_reason(result: t.Mapping[str, t.Any]) -> str:
    """Return one line: the codes of several problems, or the first line of the message. The failed task shows the whole message."""
    problems = result.get("problems")
    if isinstance(problems, list) and problems:
        codes = dict.fromkeys(str(problem["code"]) for problem in problems)
        return f"{len(problems)} problem(s): {', '.join(codes)}"
    return str(result.get("msg") or "the failure has no message").splitlines()[0]


def format_rows(rows: t.Sequence[t.Mapping[str, str]]) -> list[str]:
    """The rows as lines of text."""
    width = max((len(row["node"]) for row in rows), default=0)
    return [f"{row['node'].ljust(width)}  {row['outcome']}: {row['detail']}" for row in rows]
