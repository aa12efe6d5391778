# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`ansible-playbook keyops.utrust.status` as a user runs it."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import methods, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

STATUS = "keyops.utrust.status"


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """Node2 lacks a key and has an extra key, and node3 is in Factory Reset Mode."""
    with cluster(nodes=3, restored=2, faults=True) as control:
        control.generate_key("node1", "onlyOnNode1")
        control.generate_key("node2", "onlyOnNode2")
        control.generate_key("node1", "sameLabel")
        control.generate_key("node2", "sameLabel")
        yield control


@pytest.mark.parametrize("arguments", [[], ["--check"], ["--check", "--diff"]], ids=["run", "check", "diff"])
def test_table_shows_drift_and_no_node_changes(control: Control, arguments: list[str]) -> None:
    """The table shows missing and extra keys, and the playbook sends only GET requests."""
    control.clear_log()

    run = play(STATUS, control, *arguments)

    assert run.status == 0, run.output
    assert run.changed == 0
    assert methods(control) == {"GET"}
    rows = {
        label: line for line in run.output.splitlines() for label in ("onlyOnNode1", "onlyOnNode2") if label in line
    }
    assert rows["onlyOnNode1"].split()[-3:] == ["yes", "MISSING", "MISSING"]
    assert rows["onlyOnNode2"].split()[-3:] == ["-", "EXTRA", "-"]
    assert "node2 against node1: 1 missing, 1 extra, 1 mismatched" in run.text
    assert "node3 against node1: 12 missing" in run.text
    assert "Factory Reset Mode" in run.text


def test_fail_on_drift_fails(control: Control) -> None:
    """With status_fail_on_drift, drift is an error."""
    run = play(STATUS, control, "-e", "status_fail_on_drift=true")

    assert run.status != 0
    assert "drift against node1 on node2, node3" in run.text


def test_select_narrows_table_and_verdict(control: Control) -> None:
    """status_select narrows the table and the verdict, and fails if no key matches."""
    selected = ("-e", "status_select=[?label=='onlyOnNode1']", "-e", "status_fail_on_drift=true")
    run = play(STATUS, control, *selected)

    assert "node2 against node1: 1 missing, 0 extra, 0 mismatched, 0 unusable" in run.text
    assert "onlyOnNode2" not in run.text
    assert run.status != 0

    slip = play(STATUS, control, "-e", "status_select=[?label=='OnlyOnNode1']")
    assert slip.status != 0
    assert "no node holds a key that" in slip.text


def test_keys_are_read_only_from_nodes_that_differ() -> None:
    """The playbook reads the keys of the source, and of nodes with another digest or unusable keys."""
    with cluster(nodes=3, restored=3) as control:
        control.damage_key("node2", control.keys("node2")[0]["label"])
        control.clear_log()

        run = play(STATUS, control)

        assert "DRIFT: node2 against node1: 0 missing, 0 extra, 0 mismatched, 1 unusable" in run.text
        assert "node3 against" not in run.text
        paths = {
            name: [one["path"].partition("?")[0] for one in control.requests(name)]
            for name in ("node1", "node2", "node3")
        }
        node, inventory = "/api/v1/node", "/api/v1/hsm/keys"
        assert paths == {"node1": [node, inventory], "node2": [node, inventory], "node3": [node]}


def test_unreachable_node_is_reported_and_others_are_shown(control: Control) -> None:
    """The playbook shows the readable nodes, and fails with the name of the unreachable node."""
    control.fault("node_down", node="node3")

    run = play(STATUS, control, env={"UTRUST_RETRIES": "0"})

    control.clear_faults()
    assert run.status != 0
    assert "UNKNOWN: GET /api/v1/node" in run.text
    assert "node2 against node1: 1 missing, 1 extra, 1 mismatched" in run.text
    assert "UNKNOWN: node3: the node was not read" in run.text
    assert "these nodes were not read: node3" in run.text


def test_limit_compares_the_node_with_the_source(control: Control) -> None:
    """With --limit, the table still has the source."""
    run = play(STATUS, control, "--limit", "node2")

    assert run.status == 0, run.output
    assert "node2 against node1" in run.text
    assert "node3 against" not in run.text
