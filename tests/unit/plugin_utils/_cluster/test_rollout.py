# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The quorum rule and the batches of a rollout."""

from __future__ import annotations

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Member, Node
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.rollout import plan_rollout

from tests.support.factories import node


def source(joined: int, *down: str, waiting: int = 0) -> Node:
    """A source with members node1 to node`joined`, some of them down, and more nodes that have not joined."""
    names = [f"node{number}" for number in range(1, joined + waiting + 1)]
    members = tuple(
        Member(name, "127.0.0.2", 443, number < joined, "disconnected" if name in down else "connected")
        for number, name in enumerate(names)
    )
    return node(members=members)


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
    assert plan_rollout(targets(size), source(size)).batches == batches


def test_plan_rollout_counts_nodes_that_are_down() -> None:
    """Nodes that are already down count for the quorum."""
    assert plan_rollout(targets(6), source(7, "node7")).batches == [
        ["node2"],
        ["node3", "node4"],
        ["node5", "node6"],
    ]
    refused = plan_rollout(targets(6), source(7, "node5", "node6", "node7"))
    assert refused.batches == []
    assert refused.problem is not None
    assert "Already down: node5, node6, node7" in refused.problem.text


def test_plan_rollout_ignores_nodes_before_joining() -> None:
    """Nodes that have not joined do not count for the quorum."""
    assert plan_rollout(["node2"], source(2, waiting=5)).problem is not None


def test_plan_rollout_two_nodes_require_allow_outage() -> None:
    """A cluster of two nodes requires allow_outage."""
    refused = plan_rollout(["node2"], source(2))
    assert refused.batches == []
    assert refused.problem is not None
    assert refused.problem.code == "quorum_at_risk"
    assert plan_rollout(["node2"], source(2), allow_outage=True).batches == [["node2"]]


def test_plan_rollout_allow_outage_one_node_at_a_time() -> None:
    """With allow_outage each batch has one node."""
    assert plan_rollout(["node2", "node3"], source(3, "node3"), allow_outage=True).batches == [
        ["node2"],
        ["node3"],
    ]


def test_plan_rollout_canary_and_batch_size() -> None:
    """The operator sets the canary and smaller batches, but not larger batches."""
    assert plan_rollout(targets(7), source(7), canary="node5", batch_size=2).batches == [
        ["node5"],
        ["node2", "node3"],
        ["node4", "node6"],
        ["node7"],
    ]
    assert plan_rollout(targets(5), source(5), batch_size=99).batches == [
        ["node2"],
        ["node3", "node4"],
        ["node5"],
    ]


def test_plan_rollout_canary_in_sync() -> None:
    """If the canary is in sync, the first host is the first batch."""
    assert plan_rollout(["node3"], source(3), canary="node2").batches == [["node3"]]


def test_plan_rollout_without_hosts() -> None:
    """Without hosts the rollout has no batch and no problem."""
    assert plan_rollout([], source(2)) == ([], None)
