# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The quorum rule: how many nodes may be out at once, and who goes first."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.rollout import plan_rollout


def members(joined: int, *down: str, waiting: int = 0) -> list[dict[str, t.Any]]:
    """node1 to node`joined`, of which some are down, and some more that have not joined yet."""
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
def test_canary_goes_alone_then_as_many_as_leave_a_majority(size: int, batches: list[list[str]]) -> None:
    assert plan_rollout(targets(size), members=members(size)).batches == batches


def test_nodes_that_are_down_are_counted() -> None:
    assert plan_rollout(targets(6), members=members(7, "node7")).batches == [
        ["node2"],
        ["node3", "node4"],
        ["node5", "node6"],
    ]
    refused = plan_rollout(targets(6), members=members(7, "node5", "node6", "node7"))
    assert refused.batches == []
    assert refused.refusal is not None
    assert "node5, node6, node7 down already" in refused.refusal


def test_nodes_that_have_not_joined_are_not_counted() -> None:
    assert plan_rollout(["node2"], members=members(2, waiting=5)).refusal is not None


def test_two_nodes_need_an_explicit_word() -> None:
    refused = plan_rollout(["node2"], members=members(2))
    assert refused.batches == []
    assert "[quorum_at_risk]" in (refused.refusal or "")
    assert plan_rollout(["node2"], members=members(2), allow_outage=True).batches == [["node2"]]


def test_accepted_outage_is_one_node_at_a_time() -> None:
    assert plan_rollout(["node2", "node3"], members=members(3, "node3"), allow_outage=True).batches == [
        ["node2"],
        ["node3"],
    ]


def test_operator_chooses_canary_and_smaller_batches_but_not_larger_ones() -> None:
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


def test_canary_that_needs_nothing_gives_way_to_the_first() -> None:
    assert plan_rollout(["node3"], members=members(3), canary="node2").batches == [["node3"]]


def test_nothing_to_do_is_no_batch_and_no_refusal() -> None:
    assert plan_rollout([], members=members(2)) == ([], None)


@pytest.mark.parametrize(
    "limits", [{"allow_outage": "false"}, {"batch_size": "2"}, {"batch_size": 0}, {"batch_size": True}]
)
def test_limits_of_another_type_are_refused(limits: dict[str, t.Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(limits))):
        plan_rollout(["node2"], members=members(3), **limits)
