# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Summaries of a rollout and of guided restores."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.summary import (
    format_rows,
    summarize_restores,
    summarize_rollout,
)

DIFFERS: dict[str, t.Any] = {"node": "n", "pending": 1, "unchanged": 9}
SAME: dict[str, t.Any] = {"node": "n", "pending": 0, "unchanged": 10}
DONE: dict[str, t.Any] = {"node": "n", "added": [{}], "replaced": [], "verified": True}
PREDICTED: dict[str, t.Any] = {**DONE, "verified": False}
SKIPPED: dict[str, t.Any] = {"changed": False, "skipped": True}


def outcomes(targets: dict[str, dict[str, t.Any]], **options: t.Any) -> dict[str, str]:
    return {row["node"]: row["outcome"] for row in summarize_rollout(targets, **options)}


def test_summarize_rollout_failed_run_names_every_node() -> None:
    """The summary of a failed run names the outcome of each node."""
    failed = {"failed": True, "msg": "importing into node3: the disk is full"}
    targets: dict[str, dict[str, t.Any]] = {
        "node2": {"plan": DIFFERS, "result": DONE},
        "node3": {"plan": DIFFERS, "result": failed},
        "node4": {"plan": DIFFERS, "result": SKIPPED},
        "node5": {"plan": SAME, "result": None},
        "node6": {"plan": None, "result": None},
    }

    assert outcomes(targets, members_not_in_play=["node7"]) == {
        "node2": "synchronized now",
        "node3": "FAILED",
        "node4": "not touched",
        "node5": "up to date",
        "node6": "not touched",
        "node7": "MUST BE GATED before use",
    }
    lines = format_rows(summarize_rollout(targets, members_not_in_play=["node7"]))
    assert "node2  synchronized now: 1 key(s) added, 0 replaced. Make a new backup" in lines
    assert "node3  FAILED: importing into node3: the disk is full" in lines
    assert "node7  MUST BE GATED before use: the run changed keys on other nodes only" in lines


def test_summarize_rollout_missing_keys_after_import() -> None:
    """A node whose keys are missing after its import is not called synchronized."""
    keys_missing = {"node": "n", "pending": 2, "unchanged": 8}
    targets: dict[str, dict[str, t.Any]] = {
        "node2": {"plan": DIFFERS, "result": DONE, "after": keys_missing},
        "node3": {"plan": SAME, "result": SKIPPED, "after": keys_missing},
        "node4": {"plan": DIFFERS, "result": DONE, "after": {"failed": True, "msg": "no response"}},
        "node5": {"plan": DIFFERS, "result": DONE, "after": SAME},
    }
    assert outcomes(targets) == {
        "node2": "FAILED",
        "node3": "FAILED",
        "node4": "FAILED",
        "node5": "synchronized now",
    }
    assert "node2  FAILED: 2 key(s) of the source are missing at the end of the run" in format_rows(
        summarize_rollout(targets)
    )


def test_summarize_rollout_failed_preflight() -> None:
    """A failed prediction is the reason for the failure."""
    plan = {"failed": True, "msg": "extra keys"}
    assert outcomes({"node2": {"plan": plan, "result": None}}) == {"node2": "FAILED"}


def test_summarize_rollout_check_mode() -> None:
    """The summary in check mode does not report changes."""
    rows = summarize_rollout({"node2": {"plan": DIFFERS, "result": PREDICTED}}, dry_run=True)
    assert rows == [{"node": "node2", "outcome": "would be synchronized", "detail": "1 key(s) to add, 0 to replace"}]


def test_summarize_restores_stopped_run_names_every_node() -> None:
    """The summary of a stopped run names the outcome of each node."""
    restored: dict[str, t.Any] = {"node": "n", "hsm_state": "operational", "key_count": 10, "mbk": {"name": "KEYOPS"}}
    preview = {"node": "n", "changed": True, "preview": {}}
    restores: dict[str, dict[str, t.Any] | None] = {
        "node2": {**restored, "changed": True, "in_sync": True},
        "node3": {"failed": True, "msg": "guided restore of node3 canceled after 1 of 2 cards"},
        "node4": preview,
        "node5": {**restored, "changed": False, "in_sync": True},
        "node6": {**restored, "changed": False, "in_sync": False},
        "node7": None,
    }
    assert format_rows(summarize_restores(restores)) == [
        "node2  restored now: 10 key(s) under MBK KEYOPS. Make a new backup",
        "node3  FAILED: guided restore of node3 canceled after 1 of 2 cards",
        "node4  not touched: MBK and keys pending",
        "node5  up to date: 10 key(s), same as the source",
        "node6  not touched: the HSM is restored, but its keys differ from the source. Run key_sync",
        "node7  not touched: the run did not check this node",
    ]
    assert format_rows(summarize_restores({"node4": preview}, dry_run=True)) == [
        "node4  would be restored: MBK and keys pending"
    ]
