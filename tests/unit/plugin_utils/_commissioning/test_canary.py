# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first synchronization of a cluster changes the canary key only."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.canary import CanaryTarget, check_canary

from tests.support.commissioning import CANARY
from tests.support.factories import key

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

CANARY_KEY, OTHER, OLD = key("canaryKey"), key("other"), key("old")


@pytest.mark.parametrize(
    ("source", "added", "allowed"),
    [
        ([OLD], [], True),
        ([OLD, CANARY_KEY], [CANARY_KEY], True),
        ([OLD, CANARY_KEY, OTHER], [CANARY_KEY, OTHER], False),
        ([OLD, CANARY_KEY, OTHER], [OTHER], True),
        ([OLD, OTHER], [OTHER], False),
    ],
    ids=["nothing to add", "only the canary key", "both", "after the canary key", "no canary key on the source"],
)
def test_other_keys_wait_for_the_canary_key(source: list[HsmKey], added: list[HsmKey], allowed: bool) -> None:
    problems = check_canary(CANARY, "node1", source, [CanaryTarget("node2", added)])
    assert [problem.code for problem in problems] == ([] if allowed else ["canary_key_first"])


def test_each_target_needs_the_canary_key() -> None:
    targets = [CanaryTarget("node2", [OTHER]), CanaryTarget("node3", [CANARY_KEY, OTHER])]
    (problem,) = check_canary(CANARY, "node1", [CANARY_KEY, OTHER], targets)
    assert problem.node == "node3"


def test_record_without_a_canary_key_allows_no_first_key() -> None:
    (problem,) = check_canary(None, "node1", [OTHER], [CanaryTarget("node2", [OTHER])])
    assert (problem.code, problem.node) == ("canary_key_first", "commissioning record")
    assert check_canary(None, "node1", [OTHER], [CanaryTarget("node2", [])]) == []
