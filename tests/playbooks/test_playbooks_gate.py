# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role key_gate as one task in an operator's own playbook."""

from __future__ import annotations

import json
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, FIRST, TOKEN
from tests.support.playbook import finish, methods, play, start
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

SYNC = "keyops.utrust.key_sync"


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=1, ejbca=True) as running:
        yield running


@pytest.fixture
def playbook(tmp_path: Path) -> str:
    """Write a playbook that runs the gate, then a task that stands for the activation."""
    gate = {"ansible.builtin.include_role": {"name": "keyops.utrust.key_gate", "public": True}}
    after = {
        "ansible.builtin.debug": {"msg": "ACTIVATED on {{ key_gate_result.nodes | length }} node(s)"},
        "run_once": True,
    }
    path = tmp_path / "gate.yml"
    plays = [{"hosts": "utrust", "gather_facts": False, "connection": "local", "tasks": [gate, after]}]
    path.write_text(json.dumps(plays), encoding="utf-8")
    return str(path)


def options(*keys: dict[str, t.Any], **more: t.Any) -> list[str]:
    given = {"key_gate_source": "node1", "key_gate_keys": list(keys), "key_gate_crypto_token": TOKEN, **more}
    return ["-e", json.dumps({"utrust_source": "node1", **given})]


def opened(run: Run) -> bool:
    assert (run.status == 0) == ("ACTIVATED" in run.output), run.output
    assert (run.status != 0) == ("[gate_closed]" in run.text), run.output
    return run.status == 0


def new_key(control: Control, label: str) -> str:
    """Generate a key on node1 with a CA for the proof. Returns the name of the CA."""
    control.generate_key("node1", label)
    control.ejbca("node1", "deactivate")
    control.ejbca("node1", "create_ca", name=f"Gate-{label}", alias=label, in_health_check=False)
    return f"Gate-{label}"


def test_gate_reports_nodes_of_each_key_at_every_level(control: Control, playbook: str) -> None:
    """The gate lists the nodes with and without each key, and opens only at a level that all nodes reach."""
    ca = new_key(control, "levels")
    fingerprint = next(key["fingerprint"] for key in control.keys("node1") if key["label"] == "levels")
    good, new = {"label": FIRST, "ca": CA}, {"label": "levels", "ca": ca}

    missing = play(playbook, control, *options(good, new))
    assert not opened(missing)
    assert f"levels {fingerprint}: on node1 (sign: certificate" in missing.text
    assert "Not on node2 (none: the key is not in the HSM), node3 (none: the key is not in the HSM)" in missing.text
    assert "1 of 3 node(s) reach level sign, 3 must" in missing.text

    assert play(SYNC, control).status == 0
    # --extra-vars key=value and surveys pass text.
    texts = play(
        playbook, control, *options(new), "-e", "key_gate_nodes=node1,node3", "-e", "key_gate_reactivate=false"
    )
    assert not opened(texts)
    assert "1 of 2 node(s) reach level sign, 2 must" in texts.text
    in_hsm = play(playbook, control, *options(new, key_gate_level="hsm"))
    assert opened(in_hsm)
    unseen = play(playbook, control, *options(new))  # the tokens loaded their keys before the synchronization
    assert not opened(unseen)
    assert "node2 (hsm: " in unseen.text

    checked = play(playbook, control, *options(new, key_gate_reactivate=True), "--check")
    assert checked.status == 0
    assert "check mode cannot determine whether level sign is reached" in checked.text
    signed = play(playbook, control, *options(good, new, key_gate_reactivate=True))
    assert opened(signed)
    assert (signed.recap["node1"]["changed"], signed.recap["node2"]["changed"]) == (0, 1)


def test_gate_waits_for_reactivated_tokens(control: Control, playbook: str) -> None:
    """The gate opens after people reactivate the crypto tokens within the time limit."""
    ca = new_key(control, "waiting")
    assert play(SYNC, control).status == 0
    arguments = options({"label": "waiting", "ca": ca}, key_gate_wait_timeout=60)
    control.clear_log()
    process = start(playbook, control, *arguments)
    wait_for(lambda: any(entry["path"].endswith("pkcs10enroll") for entry in control.requests("node3")))
    for node in ("node2", "node3"):
        control.ejbca(node, "deactivate")
    run = finish(process)
    assert opened(run)
    assert "waiting for level sign for up to 60 s" in run.text
    assert run.changed == 0


def test_manual_confirmation_counts_for_its_node_only(control: Control, playbook: str) -> None:
    """A manual confirmation proves the level of one node, and the result includes the confirmation."""
    control.generate_key("node1", "confirmed")
    assert play(SYNC, control).status == 0
    words = [
        {"node": node, "key": "confirmed", "confirmed_by": "Ada", "reason": "tested in the Admin Web"}
        for node in ("node1", "node2", "node3")
    ]
    closed = play(playbook, control, *options({"label": "confirmed"}, key_gate_manual_confirmations=words[:2]))
    assert not opened(closed)
    assert "Not on node3 (hsm: no CA uses this key" in closed.text
    run = play(playbook, control, *options({"label": "confirmed"}, key_gate_manual_confirmations=words))
    assert opened(run)
    assert run.text.count("confirmed by Ada: tested in the Admin Web") == 3


def test_min_nodes_opens_gate_and_lists_other_members(control: Control, playbook: str) -> None:
    """The gate opens with the minimum number of nodes, and lists members that are not part of the gate."""
    control.generate_key("node1", "some")
    enough = {"key_gate_level": "hsm", "key_gate_nodes": ["node1", "node2"], "key_gate_min_nodes": 1}
    one = play(playbook, control, *options({"label": "some"}, **enough))
    assert opened(one)
    assert "1 of 2 node(s) reach level hsm, 1 must" in one.text
    assert "must be gated before they return: node3" in one.text
    control.clear_log()
    run = play(playbook, control, *options({"label": "some"}, key_gate_nodes=["node1", "node9"]))
    assert run.status != 0
    assert "[option_invalid]" in run.text
    assert methods(control) == set()


def test_gate_fails_for_member_not_in_play(control: Control, playbook: str) -> None:
    """A joined member outside of the play closes the gate, unless the member is ignored."""
    good = {"label": FIRST}
    limited = play(playbook, control, *options(good, key_gate_level="hsm"), "--limit", "node1,node2")
    assert limited.status != 0
    assert "ACTIVATED" not in limited.output
    assert "node1 reports joined members that are not hosts of this play: node3 [member_not_in_play]" in limited.text
    ignored_members = options(good, key_gate_level="hsm", key_gate_ignore_members=["node3"])
    assert opened(play(playbook, control, *ignored_members, "--limit", "node1,node2"))


def test_gate_stays_closed_for_another_key_with_the_label(control: Control, playbook: str) -> None:
    """The gate compares key fingerprints, not labels."""
    for node in ("node1", "node2"):
        control.generate_key(node, "twin")
    run = play(playbook, control, *options({"label": "twin"}, key_gate_level="hsm"))
    assert not opened(run)
    assert "node2 (none: the HSM holds another key with this label" in run.text
    control.generate_key("node1", "twin")
    unclear = play(playbook, control, *options({"label": "twin"}, {"label": "nowhere"}, key_gate_level="hsm"))
    assert unclear.status != 0
    assert "twin, nowhere: node1 does not hold exactly one key" in unclear.text
