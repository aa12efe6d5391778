# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role key_gate reactivates crypto tokens of nodes out of traffic only, one node after the other."""

from __future__ import annotations

import json
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, FIRST, TOKEN
from tests.support.playbook import methods, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=1, ejbca=True, faults=True) as running:
        yield running


def gate(control: Control, folder: Path, key: dict[str, t.Any], *arguments: str, **more: t.Any) -> Run:
    tasks: list[dict[str, t.Any]] = [
        {"ansible.builtin.include_role": {"name": "keyops.utrust.key_gate"}},
        {"ansible.builtin.debug": {"msg": "ACTIVATED"}, "run_once": True, "when": "key_gate_result.passed"},
    ]
    path = folder / "gate.yml"
    path.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    given = {
        "utrust_source": "node1",
        "key_gate_source": "node1",
        "key_gate_keys": [key],
        "key_gate_crypto_token": TOKEN,
        "key_gate_ejbca_view": True,
        "key_gate_reactivate": True,
        "key_gate_reactivation_affects": {"crypto_tokens": [], "cas": [CA], "key_bindings": []},
        "key_gate_proof_certificates": True,
        **more,
    }
    control.clear_log()
    run = play(str(path), control, "-e", json.dumps(given), *arguments)
    assert (run.status == 0 and "--check" not in arguments) == ("ACTIVATED" in run.output), run.output
    return run


def reactivated(control: Control) -> list[str]:
    """Return the nodes with a deactivation, in the order of time."""
    return [
        node
        for time, node in sorted(
            (str(entry["at"]), node)
            for node in ("node1", "node2", "node3")
            for entry in control.requests(node)
            if entry["path"].endswith("/deactivate")
        )
    ]


def new_key(control: Control, label: str) -> dict[str, str]:
    """Generate a key on node1 with a CA for the proof, and synchronize it. The tokens of the targets do not have it."""
    control.generate_key("node1", label)
    control.ejbca("node1", "deactivate")
    control.ejbca("node1", "create_ca", name=f"Gate-{label}", alias=label, in_health_check=False)
    assert play("keyops.utrust.key_sync", control).status == 0
    return {"label": label, "ca": f"Gate-{label}"}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, "node_in_traffic"),
        ({"key_gate_out_of_traffic": ""}, "node_in_traffic"),
        ({"key_gate_out_of_traffic": ["node9"]}, "option_invalid"),
        ({"key_gate_out_of_traffic": ["node3"], "key_gate_nodes": ["node1", "node2"]}, "option_invalid"),
        ({"key_gate_out_of_traffic": ["node2"], "key_gate_proof_certificates": ""}, "proof_not_allowed"),
    ],
    ids=str,
)
def test_gate_that_is_not_allowed_sends_nothing(
    control: Control, tmp_path: Path, more: dict[str, t.Any], code: str
) -> None:
    run = gate(control, tmp_path, {"label": FIRST, "ca": CA}, **more)
    assert f"code: {code}" in run.text, run.output
    assert methods(control) == set()


@pytest.mark.parametrize("mark", ["public_trust", "qualified"])
def test_gate_of_a_marked_key_issues_no_test_certificate(control: Control, tmp_path: Path, mark: str) -> None:
    """Permission for test certificates does not cover a marked key."""
    refused = gate(control, tmp_path, {"label": FIRST, "ca": CA, mark: True}, key_gate_reactivate=False)
    assert "code: proof_not_allowed" in refused.text
    assert methods(control) == set()
    closed = gate(control, tmp_path, {"label": FIRST, mark: "yes"}, key_gate_reactivate=False)
    assert "No CA uses this key" in closed.text
    assert methods(control) == {"GET"}


def test_gate_reactivates_named_nodes_only(control: Control, tmp_path: Path) -> None:
    """A node with traffic keeps its token, so the gate stays closed until this node is named, too."""
    key = new_key(control, "named")
    closed = gate(control, tmp_path, key, key_gate_out_of_traffic="node2")
    assert "code: gate_closed" in closed.text, closed.output
    assert "Not on node3 (hsm: " in closed.text
    assert reactivated(control) == ["node2"]
    opened = gate(control, tmp_path, key, key_gate_out_of_traffic=["node3", "node2"])
    assert opened.status == 0
    assert reactivated(control) == ["node3"]


def test_gate_reactivates_one_node_after_the_other(control: Control, tmp_path: Path) -> None:
    """The second node is read only after the first node is proven. Check mode reactivates nothing."""
    key, nodes = new_key(control, "inTurn"), ["node2", "node3"]
    checked = gate(control, tmp_path, key, "--check", key_gate_out_of_traffic=nodes)
    assert (checked.status, methods(control)) == (0, {"GET"}), checked.output
    assert "check mode cannot determine whether level sign is reached" in checked.text
    run = gate(control, tmp_path, key, key_gate_out_of_traffic=nodes)
    assert run.status == 0, run.output
    assert reactivated(control) == nodes
    ends = [max(str(entry["at"]) for entry in control.requests(node)) for node in nodes]
    begins = min(str(entry["at"]) for entry in control.requests("node3"))
    assert ends[0] <= begins


def test_gate_stops_at_a_token_that_stays_offline(control: Control, tmp_path: Path) -> None:
    """The PIN of the slot has changed. The next node keeps its token, and a second run does not try the PIN by a reactivation."""
    key, nodes = new_key(control, "offline"), ["node2", "node3"]
    control.ejbca("node2", "slot_pin", code="other", tries=20)
    try:
        run = gate(control, tmp_path, key, key_gate_out_of_traffic=nodes)
        assert "code: crypto_token_offline" in run.text, run.output
        assert reactivated(control) == ["node2"]
        assert run.recap["node2"]["failed"] == 1
        again = gate(control, tmp_path, key, key_gate_out_of_traffic=nodes)
        assert "code: crypto_token_inactive" in again.text, again.output
        assert reactivated(control) == []
    finally:
        control.ejbca("node2", "slot_pin")
