# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`key_sync` while the cluster changes: a node goes down between two batches, and keys appear that nobody predicted."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import finish, inventories, start
from tests.support.wait import wait_for, wait_until_applying

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

SYNC = "keyops.utrust.key_sync"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    mix = {"ec-p256": 1}
    with cluster(nodes=4, restored=4, keys=2, key_mix=mix, faults=True, restart_time=1.0, claim_second=0.1) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """Four nodes with the same keys, and a new key on node1."""
    running.generate_key("node1", "newKey")
    running.clear_log()
    yield running
    running.clear_faults()
    running.set_profile()
    running.delete_key("node1", "newKey")
    for node in ("node2", "node3", "node4"):
        running.factory_reset(node)
        running.restore(node)


def applied(control: Control, node: str) -> list[str]:
    return [request["path"] for request in control.requests(node) if request["method"] == "POST"]


@pytest.mark.parametrize("allow_outage", [False, True])
def test_node_that_goes_down_between_two_batches(control: Control, allow_outage: bool) -> None:
    """The plan saw all nodes. Before its import, node3 lists node4 as disconnected, so it must not restart."""
    control.set_profile("restart=node")
    control.fault("hold_apply", node="node2")
    arguments = ["-e", "key_sync_batch_size=1", "-e", "key_sync_wait_timeout=20"]
    process = start(SYNC, control, *arguments, "-e", f"key_sync_allow_outage={str(allow_outage).lower()}")
    wait_until_applying(control, "node2")
    # node3 is read for the plan already. The next reading of node3 is the one of its import.
    control.fault("latency", node="node3", method="GET", path="/api/v1/node$", seconds=3.0, count=1)
    connections = control.connections("node3")
    control.clear_faults("hold_apply")
    wait_for(lambda: control.connections("node3") > connections)
    control.fault("node_down", node="node4")
    run = finish(process)
    assert run.status != 0
    if allow_outage:
        assert "quorum_at_risk" not in run.text
        assert inventories(control)["node3"] == inventories(control)["node1"]
        return
    assert "node3: quorum_at_risk: a node may restart during the import" in run.text
    assert "Already down: node4" in run.text
    assert (applied(control, "node2") != [], applied(control, "node3"), applied(control, "node4")) == (True, [], [])


@pytest.mark.parametrize("node", ["node2", "node4"])
def test_key_that_appears_during_the_run_is_named(control: Control, node: str) -> None:
    """The key appears on a node with an import, or on one that had nothing to do. Its fingerprint is one of a destroyed key."""
    control.factory_reset("node4")
    control.restore("node4")
    control.fault("hold_apply", node="node3")
    process = start(SYNC, control, "-e", "key_sync_canary=node2", "-e", "key_sync_batch_size=1")
    wait_until_applying(control, "node3")
    assert applied(control, "node2"), "node2 has its keys already"
    [strange] = control.generate_key(node, "strangeKey")
    control.clear_faults("hold_apply")
    run = finish(process)
    assert run.status != 0
    assert "code: unexpected_keys" in run.text
    assert f"{node}: slot 0 strangeKey ({strange['fingerprint']})" in run.text
    assert f"{node} FAILED: unexpected keys: slot 0 strangeKey" in run.text
    assert "node3 synchronized now" in run.text
