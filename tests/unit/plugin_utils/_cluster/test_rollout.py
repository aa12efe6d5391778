# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The quorum rule and the batches of a rollout."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.rollout import plan_rollout


def members(joined: int, *down: str, waiting: int = 0) -> list[dict[str, t.Any]]:
    """Members node1 to node`joined`, some of them down, and more nodes that have not joined."""
    names = [f"node{number}" for number in range(1, joined + waiting + 1)]
    return [
        {"node": name, "joined": number < joined, "connection": "disconnected" if name in down else "connected"}
        for number, name in enumerate(names)
    ]


def targets(count: int) -> list[str]:
    return [f"node{number}" for number in range(2, count + 1)]


@pytest.mark.parametrize(
    ("size", "batches"),
    [
        (3, [["node2"], ["node3"]]),
        (4, [["node2"], ["node3"], ["node4"]]),
        (5, [["node2"], ["node3", "node4"], ["node5"]]),
        (7, [["node2"], ["node3", "node4", "node5"], ["node6", "node7"]]),
    ],
)
def test_plan_rollout_batches_keep_the_quorum(size: int, batches: list[list[str]]) -> None:
    """The canary is alone in its batch, and each later batch keeps the quorum."""
    assert plan_rollout(targets(size), members=members(size)).batches == batches


def test_plan_rollout_counts_nodes_that_are_down() -> None:
    """Nodes that are already down count for the quorum."""
    assert plan_rollout(targets(6), members=members(7, "node7")).batches == [
        ["node2"],
        ["node3", "node4"],
        ["node5", "node6"],
    ]
    refused = plan_rollout(targets(6), members=members(7, "node5", "node6", "node7"))
    assert refused.batches == []
    assert refused.refusal is not None
    assert "Already down: node5, node6, node7" in refused.refusal


def test_plan_rollout_ignores_nodes_before_joining() -> None:
    """Nodes that have not joined do not count for the quorum."""
    assert plan_rollout(["node2"], members=members(2, waiting=5)).refusal is not None


def test_plan_rollout_two_nodes_require_allow_outage() -> None:
    """A cluster of two nodes requires allow_outage."""
    refused = plan_rollout(["node2"], members=members(2))
    assert refused.batches == []
    assert "[quorum_at_risk]" in (refused.refusal or "")
    assert plan_rollout(["node2"], members=members(2), allow_outage=True).batches == [["node2"]]


def test_plan_rollout_allow_outage_one_node_at_a_time() -> None:
    """With allow_outage each batch has one node."""
    assert plan_rollout(["node2", "node3"], members=members(3, "node3"), allow_outage=True).batches == [
        ["node2"],
        ["node3"],
    ]


def test_plan_rollout_canary_and_batch_size() -> None:
    """The operator sets the canary and smaller batches, but not larger batches."""
    assert plan_rollout(targets(7), members=members(7), canary="node5", batch_size=2).batches == [
        ["node5"],
        ["node2", "node3"],
        ["node4", "node6"],
        ["node7"],
    ]
    assert plan_rollout(targets(5), members=members(5), batch_size=99).batches == [
        ["node2"],
        ["node3", "node4"],
        ["node5"],
    ]


def test_plan_rollout_canary_in_sync() -> None:
    """If the canary is in sync, the first host is the first batch."""
    assert plan_rollout(["node3"], members=members(3), canary="node2").batches == [["node3"]]


def test_plan_rollout_without_hosts() -> None:
    """Without hosts the rollout has no batch and no refusal."""
    assert plan_rollout([], members=members(2)) == ([], None)


@pytest.mark.parametrize(
    "options", [{"allow_outage": "false"}, {"batch_size": "2"}, {"batch_size": 0}, {"batch_size": True}]
)
def test_plan_rollout_option_of_another_type(options: dict[str, t.Any]) -> None:
    """Options of another type raise TypeError."""
    with pytest.raises(TypeError, match=next(iter(options))):
        plan_rollout(["node2"], members=members(3), **options)
