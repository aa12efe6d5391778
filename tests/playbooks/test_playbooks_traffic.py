# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes in and out of traffic during a synchronization: task files of users, health before each batch, crypto tokens."""

from __future__ import annotations

import json
import os
import signal
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.playbook import finish, inventories, methods, own_playbook, play, start
from tests.support.traffic import Traffic
from tests.support.wait import wait_until_applying

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

SYNC = "keyops.utrust.key_sync"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    mix = {"ec-p256": 1}
    with cluster(
        nodes=3, restored=3, keys=1, key_mix=mix, ejbca=True, faults=True, restart_time=1.0, claim_second=0.1
    ) as control:
        assert play(SYNC, control).status == 0  # every node has the key of the CA
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """Three nodes with the same keys, and a new key on node1 that EJBCA of node1 shows."""
    running.generate_key("node1", "newKey")
    for node in ("node1", "node2", "node3"):
        running.ejbca(node, "deactivate")  # a crypto token reads its keys when it is activated
    running.clear_log()
    yield running
    running.clear_faults()
    running.set_profile()
    for node in ("node1", "node2", "node3"):
        running.ejbca(node, "flags", reset=True)
        running.ejbca(node, "set", auto_activation=True)
        if "newKey" in labels(running, node):
            running.delete_key(node, "newKey")
        running.ejbca(node, "deactivate")


def labels(control: Control, node: str) -> set[str]:
    return {key["label"] for key in control.keys(node)}


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    return Traffic(tmp_path, "key_sync", key_sync_batch_size=1)


def synchronize(control: Control, traffic: Traffic, *arguments: str, env: t.Any = None, **more: t.Any) -> Run:
    return play(SYNC, control, *traffic.options(**more), *arguments, env=env)


def test_each_target_is_drained_and_undrained_in_order(control: Control, traffic: Traffic) -> None:
    """The next target is drained only after the target before is undrained. A second run undrains the targets in sync again."""
    run = synchronize(control, traffic)
    assert run.status == 0, run.output
    assert traffic.events == ["drain node2", "undrain node2", "drain node3", "undrain node3"]
    assert "DRAINED" not in run.output
    assert len(set(inventories(control).values())) == 1
    again = synchronize(control, traffic)
    assert (again.status, again.changed) == (0, 0), again.output
    assert sorted(traffic.events[4:]) == ["undrain node2", "undrain node3"]


def audited(folder: Path) -> dict[str, str]:
    return {"UTRUST_AUDIT_FILE": str(folder / "audit.jsonl"), "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit"}


def recorded(folder: Path, *names: str) -> list[dict[str, t.Any]]:
    lines = (folder / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] in names]


def test_failed_drain_leaves_the_node_drained(control: Control, traffic: Traffic, tmp_path: Path) -> None:
    """Nothing is imported, and no other target is drained. The next run begins with the same target."""
    traffic.write("drain", failing="node2")
    before = inventories(control)
    run = synchronize(control, traffic, env=audited(tmp_path))
    assert run.status != 0
    assert traffic.events == ["drain node2"]
    assert "node2: DRAINED, because its undrain tasks did not end. Send no requests to it." in run.text
    assert "node3: DRAINED" not in run.text
    assert inventories(control) == before
    assert [event["host"] for event in recorded(tmp_path, "node_drained", "node_undrained")] == ["node2"]

    traffic.write("drain")
    again = synchronize(control, traffic, env=audited(tmp_path))
    assert again.status == 0, again.output
    assert traffic.events[1:] == ["drain node2", "undrain node2", "drain node3", "undrain node3"]
    found = [(event["event"], event["host"]) for event in recorded(tmp_path, "node_drained", "node_undrained")[1:]]
    assert found == [(f"node_{word}ed", node) for node in ("node2", "node3") for word in ("drain", "undrain")]


def test_failed_import_leaves_the_node_drained(control: Control, traffic: Traffic) -> None:
    control.fault("lost_response_before", node="node2", method="POST", path="/apply$")
    run = synchronize(control, traffic, key_sync_wait_timeout=3)
    assert run.status != 0
    assert traffic.events == ["drain node2"]
    assert "node2: DRAINED, " in run.text
    assert "newKey" not in labels(control, "node3")


def test_failed_undrain_is_repeated_by_the_next_run(control: Control, traffic: Traffic) -> None:
    """The node has its keys. The next run gates and undrains it before it drains the next target."""
    traffic.write("undrain", failing="node2")
    run = synchronize(control, traffic)
    assert run.status != 0
    assert traffic.events == ["drain node2", "undrain node2"]
    assert "node2: DRAINED, " in run.text
    assert ("newKey" in labels(control, "node2"), "newKey" in labels(control, "node3")) == (True, False)

    traffic.write("undrain")
    again = synchronize(control, traffic)
    assert again.status == 0, again.output
    assert traffic.events[2:] == ["undrain node2", "drain node3", "undrain node3"]


@pytest.mark.parametrize(
    "text",
    [
        "- this: [is no task",
        "this: is no list",
        "- {name: Drain, ansible.builtin.no_such_module: {}}",
        "- 4711",
        "- meta: end_play",
    ],
)
def test_invalid_task_file_is_refused(control: Control, traffic: Traffic, tmp_path: Path, text: str) -> None:
    """Ansible would end the run without a summary, and leave the node drained."""
    (tmp_path / "undrain.yml").write_text(text, encoding="utf-8")
    run = synchronize(control, traffic)
    assert run.status != 0
    assert "code: option_invalid" in run.text, run.output
    assert "undrain.yml is not a valid task file" in run.text
    assert (traffic.events, methods(control)) == ([], set())


def test_closed_gate_leaves_the_node_drained(control: Control, traffic: Traffic) -> None:
    """EJBCA of the target does not show the key. The next run undrains the target as soon as the gate is open."""
    view = {"key_sync_ejbca_view": True, "key_sync_ejbca_view_timeout": 0}
    run = synchronize(control, traffic, **view)
    assert run.status != 0
    assert "code: ejbca_view_not_verified" in run.text
    assert traffic.events == ["drain node2"]
    assert "node2: DRAINED, " in run.text

    still = synchronize(control, traffic, **view)
    assert still.status != 0
    assert traffic.events == ["drain node2"], "the gate is still closed"
    control.ejbca("node2", "deactivate")
    again = synchronize(control, traffic, **view)
    assert traffic.events[1:3] == ["undrain node2", "drain node3"], again.output


def test_killed_run_leaves_the_node_drained(control: Control, traffic: Traffic) -> None:
    """Nobody shows a summary. The next run drains the node again, because the task files are idempotent."""
    control.fault("hold_apply", node="node2")
    process = start(SYNC, control, *traffic.options())
    wait_until_applying(control, "node2")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert traffic.events == ["drain node2"]
    control.clear_faults()
    again = synchronize(control, traffic)
    assert again.status == 0, again.output
    # The node can have finished the import in the meantime.
    assert traffic.events[-3:] == ["undrain node2", "drain node3", "undrain node3"]


def with_variables(control: Control, folder: Path, **hosts: dict[str, t.Any]) -> Path:
    """Write the inventory with more variables of hosts."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    for host, variables in hosts.items():
        inventory["utrust"]["hosts"][host] |= variables
    path = folder / "inventory.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return path


def test_unhealthy_node_stops_before_the_first_batch(control: Control, traffic: Traffic, tmp_path: Path) -> None:
    """A node that gets no requests from the load balancer may be unhealthy, and is not drained."""
    control.ejbca("node3", "flags", maintenance="at work")
    run = synchronize(control, traffic, key_sync_health_check=True)
    assert run.status != 0
    assert "node3: member_unhealthy: the health check of EJBCA on node3 fails: MAINT: at work" in run.text
    assert traffic.events == []
    assert methods(control) <= {"GET", "PUT", "DELETE"}  # the claim

    inventory = with_variables(control, tmp_path, node3={"utrust_traffic": "false"})
    options = traffic.options(key_sync_health_check=True, key_sync_canary="node3")
    allowed = play(SYNC, control, *options, inventory=inventory)
    assert allowed.status == 0, allowed.output
    assert traffic.events == ["drain node2", "undrain node2"]
    assert len(set(inventories(control).values())) == 1


def test_limit_does_not_hide_an_unhealthy_node(control: Control, traffic: Traffic) -> None:
    """The load balancer sends requests to the node, so it must be healthy before another node leaves the traffic."""
    control.ejbca("node3", "flags", maintenance="at work")
    run = synchronize(control, traffic, "--limit", "node1,node2", key_sync_health_check=True)
    assert run.status != 0
    assert "node3: member_unhealthy: the health check of EJBCA on node3 fails: MAINT: at work" in run.text
    assert traffic.events == []
    assert "newKey" not in labels(control, "node2")


def test_drained_node_is_named_if_nobody_can_read_the_source(control: Control, traffic: Traffic) -> None:
    traffic.write("undrain", failing="node2")
    control.fault("hold_apply", node="node2")
    process = start(SYNC, control, *traffic.options())
    wait_until_applying(control, "node2")
    control.set_api(False, node="node1")
    control.clear_faults()
    try:
        run = finish(process)
    finally:
        control.set_api(True, node="node1")
    assert run.status != 0
    assert "node2: DRAINED, because its undrain tasks did not end. Send no requests to it." in run.text, run.output


def test_node_that_gets_unhealthy_stops_the_rollout(control: Control, traffic: Traffic) -> None:
    control.fault("hold_apply", node="node2")
    process = start(SYNC, control, *traffic.options(key_sync_health_check=True, key_sync_settle_time=1))
    wait_until_applying(control, "node2")
    control.ejbca("node1", "flags", maintenance="at work")
    control.clear_faults()
    run = finish(process)
    assert run.status != 0
    assert "before the import into node3: 1 problem(s) on node1. No other node is changed" in run.text
    assert run.text.count("waiting 1 s for the last batch to settle") == 1
    assert traffic.events == ["drain node2", "undrain node2"]
    assert "DRAINED" not in run.output


def test_crypto_token_without_auto_activation_needs_a_person(control: Control, traffic: Traffic) -> None:
    """With a person, the role waits until the crypto token is active again, and stops if it stays inactive."""
    control.ejbca("node2", "set", auto_activation=False)
    view = {"key_sync_ejbca_view": True, "key_sync_ejbca_view_timeout": 0}
    refused = synchronize(control, traffic, **view)
    assert refused.status != 0
    assert "node2: operator_required: crypto token SigningToken has no auto-activation" in refused.text
    assert traffic.events == []

    control.fault("hold_apply", node="node2")
    process = start(SYNC, control, *traffic.options(key_sync_operator_present=True, **view))
    wait_until_applying(control, "node2")
    control.ejbca("node2", "deactivate")
    control.clear_faults()
    stopped = finish(process)
    assert stopped.status != 0
    assert "code: token_inactive_after_import" in stopped.text, stopped.output
    assert "node2: EJBCA view: TOKEN INACTIVE: crypto token SigningToken was active before the import" in stopped.text
    assert traffic.events == ["drain node2"]
    assert "newKey" not in labels(control, "node3")


def test_slot_with_smart_card_needs_a_person(control: Control, traffic: Traffic) -> None:
    for node in ("node1", "node2", "node3"):
        control.set_slot(node, 0, activation="smart_card")
    try:
        run = synchronize(control, traffic)
        checked = synchronize(control, traffic, "--check", key_sync_operator_present=True)
    finally:
        for node in ("node1", "node2", "node3"):
            control.set_slot(node, 0, activation="auto")
    assert run.status != 0
    assert "node2: operator_required: slot 0 of node2 uses Smart Card Activation" in run.text
    assert traffic.events == []
    assert checked.status == 0, checked.output


def test_check_mode_names_the_task_files(control: Control, traffic: Traffic, tmp_path: Path) -> None:
    run = synchronize(control, traffic, "--check", key_sync_health_check=True, key_sync_settle_time=100)
    assert run.status == 0, run.output
    assert f"node2: would drain the node with {tmp_path}/drain.yml" in run.text
    assert f"node3: would undrain the node with {tmp_path}/undrain.yml" in run.text
    assert traffic.events == []
    assert methods(control) == {"GET"}


def test_keywords_of_the_play_are_those_of_the_task_files(control: Control, traffic: Traffic, tmp_path: Path) -> None:
    """The time limit of the play ends a drain task that hangs. It does not end an import."""
    traffic.write(
        "drain", more=[{"name": "Hang", "ansible.builtin.wait_for": {"timeout": 60}, "delegate_to": "localhost"}]
    )
    playbook = own_playbook(tmp_path, {"timeout": 8, "roles": ["keyops.utrust.key_sync"]})
    run = play(playbook, control, *traffic.options())
    assert run.status != 0
    # Each version of ansible-core has words of its own.
    words = ("Timed out after 8", "exceeded the allowed timeout", "in the expected time frame (8)")
    assert any(word.lower() in run.text.lower() for word in words), run.output
    assert traffic.events == ["drain node2"]
    assert "node2: DRAINED, " in run.text


@pytest.mark.parametrize(
    "changed",
    [
        {"key_sync_drain_tasks": "drain.yml"},
        {"key_sync_undrain_tasks": "/nonexistent/undrain.yml"},
        {"key_sync_settle_time": -1},
        {"key_sync_health_check": "perhaps"},
        {"key_sync_reasons": {"settel_time": "typing error"}},
        {"key_sync_reasons": {"settle_time": " "}},
        {"utrust_traffic": "perhaps"},
    ],
    ids=str,
)
def test_invalid_options_of_traffic_are_refused(control: Control, traffic: Traffic, changed: dict[str, t.Any]) -> None:
    run = synchronize(control, traffic, **changed)
    assert run.status != 0
    assert "code: option_invalid" in run.text, run.output
    assert methods(control) <= {"GET", "PUT", "DELETE"}  # the claim


ASSISTED: t.Final = {"utrust_transport": "assisted"}
REASONS: t.Final = {"change_reference": "a test", "approvals_required": "one person", "audit": "a laboratory"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (
            {"key_sync_reasons": {"approvals_required": "test"}, "key_sync_approvals_required": 0},
            "change_reference_missing",
        ),
        ({"utrust_change_reference": "CHG-0640", "key_sync_settle_time": 10}, "reason_missing"),
        ({"utrust_change_reference": "CHG-0640", "key_sync_batch_size": 2}, "reason_missing"),
        ({"utrust_change_reference": "CHG-0640"}, "audit_inactive"),
        (
            {"utrust_change_reference": "CHG-0640", "key_sync_audit": "optional", "key_sync_reasons": REASONS},
            "approvers_missing",
        ),
    ],
    ids=["reference", "settle_time", "batch_size", "audit", "approvals"],
)
def test_weaker_value_without_a_reason_is_refused(
    control: Control, traffic: Traffic, changed: dict[str, t.Any], code: str
) -> None:
    """Nothing is read: the transport alone decides that the defaults are strict."""
    run = synchronize(control, traffic, **{**ASSISTED, **changed})
    assert run.status != 0
    assert f"code: {code}" in run.text, run.output
    assert methods(control) == set()


def test_overwritten_key_is_recorded_as_destroyed(control: Control, tmp_path: Path) -> None:
    [lost] = control.generate_key("node2", "newKey")
    [new] = [key for key in control.keys("node1") if key["label"] == "newKey"]
    replace = [{"fingerprint": new["fingerprint"], "reason": "generated twice"}]
    options = ["-e", json.dumps({"key_sync_allow_replace": replace, "key_sync_import_effect": "overwriting"})]
    run = play(SYNC, control, *options, env=audited(tmp_path))
    assert run.status == 0, run.output
    [event] = recorded(tmp_path, "key_destroyed")
    names = ("node", "label", "slot", "fingerprint", "replaced_by", "reason")
    expected = ("node2", "newKey", 0, lost["fingerprint"], new["fingerprint"], "generated twice")
    assert tuple(event["result"][name] for name in names) == expected
    assert event["result"]["by"]
