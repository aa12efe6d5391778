# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a rollout ended, for every node."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.summary import (
    in_words,
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


def test_every_node_of_a_run_that_failed_is_named_with_what_happened_to_it() -> None:
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
        "node7": "MUST BE GATED before it returns",
    }
    lines = in_words(summarize_rollout(targets, members_not_in_play=["node7"]))
    assert "node2  synchronized now: 1 key(s) added, 0 replaced; a new backup is needed" in lines
    assert "node3  FAILED: importing into node3: the disk is full" in lines
    assert "node7  MUST BE GATED before it returns: keys have changed without it" in lines


def test_a_node_that_lost_keys_after_its_import_is_not_called_synchronized() -> None:
    lost = {"node": "n", "pending": 2, "unchanged": 8}
    targets: dict[str, dict[str, t.Any]] = {
        "node2": {"plan": DIFFERS, "result": DONE, "after": lost},
        "node3": {"plan": SAME, "result": SKIPPED, "after": lost},
        "node4": {"plan": DIFFERS, "result": DONE, "after": {"failed": True, "msg": "no answer"}},
        "node5": {"plan": DIFFERS, "result": DONE, "after": SAME},
    }
    assert outcomes(targets) == {
        "node2": "FAILED",
        "node3": "FAILED",
        "node4": "FAILED",
        "node5": "synchronized now",
    }
    assert "node2  FAILED: 2 key(s) of the source are not there at the end of the run" in in_words(
        summarize_rollout(targets)
    )


def test_a_preflight_that_failed_is_the_reason() -> None:
    plan = {"failed": True, "msg": "extra keys"}
    assert outcomes({"node2": {"plan": plan, "result": None}}) == {"node2": "FAILED"}


def test_check_mode_never_claims_that_something_was_done() -> None:
    rows = summarize_rollout({"node2": {"plan": DIFFERS, "result": PREDICTED}}, dry_run=True)
    assert rows == [{"node": "node2", "outcome": "would be synchronized", "detail": "1 key(s) to add, 0 to replace"}]


def test_every_node_of_guided_restores_that_stopped_is_named_with_how_it_stands() -> None:
    held: dict[str, t.Any] = {"node": "n", "hsm_state": "operational", "key_count": 10, "mbk": {"name": "KEYOPS"}}
    preview = {"node": "n", "changed": True, "preview": {}}
    restores: dict[str, dict[str, t.Any] | None] = {
        "node2": {**held, "changed": True, "in_sync": True},
        "node3": {"failed": True, "msg": "guided restore of node3 canceled after 1 of 2 cards"},
        "node4": preview,
        "node5": {**held, "changed": False, "in_sync": True},
        "node6": {**held, "changed": False, "in_sync": False},
        "node7": None,
    }
    assert in_words(summarize_restores(restores)) == [
        "node2  restored now: 10 key(s) under MBK KEYOPS; a new backup is needed",
        "node3  FAILED: guided restore of node3 canceled after 1 of 2 cards",
        "node4  not touched: MBK and keys are still to come",
        "node5  up to date: 10 key(s) as on the source",
        "node6  not touched: its HSM is restored, but its keys differ from the source's: run key_sync",
        "node7  not touched: it has not been looked at",
    ]
    assert in_words(summarize_restores({"node4": preview}, dry_run=True)) == [
        "node4  would be restored: MBK and keys are still to come"
    ]
