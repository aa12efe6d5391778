# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role key_gate as one task in an operator's own playbook."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.approvals import at
from tests.support.ejbca_client import CA, FIRST, TOKEN
from tests.support.playbook import ROOT, finish, methods, play, start
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
    gate = {"ansible.builtin.include_role": {"name": "keyops.utrust.key_gate"}}
    after = {
        "ansible.builtin.debug": {"msg": "ACTIVATED on {{ key_gate_result.nodes | length }} node(s)"},
        "run_once": True,
        "when": "key_gate_result.passed",
    }
    path = tmp_path / "gate.yml"
    plays = [{"hosts": "utrust", "gather_facts": False, "tasks": [gate, after]}]
    path.write_text(json.dumps(plays), encoding="utf-8")
    return str(path)


def options(*keys: dict[str, t.Any], **more: t.Any) -> list[str]:
    given = {"key_gate_source": "node1", "key_gate_keys": list(keys), "key_gate_crypto_token": TOKEN, **more}
    given = {"key_gate_proof_certificates": True, **given}
    return ["-e", json.dumps({"utrust_source": "node1", **given})]


def opened(run: Run) -> bool:
    assert (run.status == 0) == ("ACTIVATED" in run.output), run.output
    assert (run.status != 0) == ("code: gate_closed" in run.text), run.output
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

    reactivation = {
        "key_gate_reactivate": True,
        "key_gate_out_of_traffic": ["node2", "node3"],
        "key_gate_ejbca_view": True,
        "key_gate_reactivation_affects": {"crypto_tokens": [], "cas": [CA, ca], "key_bindings": []},
    }
    checked = play(playbook, control, *options(new, **reactivation), "--check")
    assert checked.status == 0
    assert "ACTIVATED" not in checked.output
    assert "check mode cannot determine whether level sign is reached" in checked.text
    signed = play(playbook, control, *options(good, new, **reactivation))
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


def fingerprint_of(control: Control, label: str) -> str:
    return next(str(key["fingerprint"]) for key in control.keys("node1") if key["label"] == label)


def confirmations(control: Control, label: str, time: str) -> list[dict[str, str]]:
    """Return a confirmation of the key for each node."""
    words = {"confirmed_by": "Ada", "reason": "tested in the Admin Web", "time": time}
    return [{"node": node, "key": fingerprint_of(control, label), **words} for node in ("node1", "node2", "node3")]


def test_manual_confirmation_counts_for_its_node_only(control: Control, playbook: str) -> None:
    """A manual confirmation proves the level of one node, and the result includes the confirmation."""
    control.generate_key("node1", "confirmed")
    assert play(SYNC, control).status == 0
    words = confirmations(control, "confirmed", at())
    closed = play(playbook, control, *options({"label": "confirmed"}, key_gate_manual_confirmations=words[:2]))
    assert not opened(closed)
    assert "Not on node3 (hsm: no CA uses this key" in closed.text
    run = play(playbook, control, *options({"label": "confirmed"}, key_gate_manual_confirmations=words))
    assert opened(run)
    assert run.text.count("confirmed by Ada at") == 3
    labels = [{**each, "key": "confirmed"} for each in words]
    refused = play(playbook, control, *options({"label": "confirmed"}, key_gate_manual_confirmations=labels))
    assert refused.status != 0
    assert "code: option_invalid" in refused.text


def test_confirmation_before_the_synchronization_does_not_count(control: Control, tmp_path: Path) -> None:
    """The key arrives in the same run as the gate, so nobody can have tested it on the targets."""
    control.generate_key("node1", "tooEarly")
    role = "ansible.builtin.include_role"
    sync = {role: {"name": SYNC}, "vars": {"key_sync_source": "node1"}}
    after = {"ansible.builtin.debug": {"msg": "ACTIVATED"}, "when": "key_gate_result.passed"}
    path = tmp_path / "gate.yml"
    tasks = [sync, {role: {"name": "keyops.utrust.key_gate"}}, after]
    path.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    words = confirmations(control, "tooEarly", at())

    run = play(str(path), control, *options({"label": "tooEarly"}, key_gate_manual_confirmations=words))

    assert not opened(run)
    assert run.text.count("it arrived on this node at") >= 2
    # The second run imports nothing.
    assert opened(play(str(path), control, *options({"label": "tooEarly"}, key_gate_manual_confirmations=words)))


def test_arrival_of_an_earlier_run_is_in_the_audit_trail(control: Control, playbook: str, tmp_path: Path) -> None:
    """With an audit trail, a confirmation before the import of an earlier run does not count."""
    env = {
        "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit",
        "UTRUST_AUDIT_FILE": str(tmp_path / "audit.jsonl"),
        "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
    }
    control.generate_key("node1", "recorded")
    early, late = confirmations(control, "recorded", at()), confirmations(control, "recorded", at(0.02))
    assert play(SYNC, control, env=env).status == 0

    closed = play(playbook, control, *options({"label": "recorded"}, key_gate_manual_confirmations=early), env=env)
    run = play(playbook, control, *options({"label": "recorded"}, key_gate_manual_confirmations=late), env=env)

    assert not opened(closed)
    assert "it arrived on this node at" in closed.text
    assert opened(run)


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
    assert "code: host_unknown" in run.text
    limited = options({"label": "some"}, key_gate_nodes=["node1", "node2"], key_gate_level="hsm")
    assert "code: option_invalid" in play(playbook, control, *limited, "--limit", "node1").text
    assert methods(control) == set()


def test_gate_fails_for_member_not_in_play(control: Control, playbook: str) -> None:
    """A joined member outside of the play closes the gate, unless the member is ignored."""
    good = {"label": FIRST}
    limited = play(playbook, control, *options(good, key_gate_level="hsm"), "--limit", "node1,node2")
    assert limited.status != 0
    assert "ACTIVATED" not in limited.output
    assert "node3: member_not_in_play: node3 is a joined member, as node1 reports" in limited.text
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
    assert "twin (2 found), nowhere (0 found): the source does not hold exactly one key" in unclear.text
    assert "code: key_not_on_source" in unclear.text


def test_failed_gate_leaves_no_earlier_result(control: Control, tmp_path: Path) -> None:
    """After a gate that passed, a gate that fails early or late leaves no result with passed=true."""
    control.generate_key("node1", "stale")
    gate = {"name": "keyops.utrust.key_gate"}

    def rescued(**variables: t.Any) -> dict[str, t.Any]:
        tasks = [{"ansible.builtin.include_role": gate, "vars": {"key_gate_level": "hsm", **variables}}]
        show = {"ansible.builtin.debug": {"msg": "PASSED {{ key_gate_result.passed }}"}, "run_once": True}
        return {"block": tasks, "rescue": [{"ansible.builtin.debug": {"msg": "closed"}}], "always": [show]}

    good = {"key_gate_keys": [{"label": FIRST}]}
    tasks = [
        rescued(**good),
        rescued(key_gate_keys=[{"label": "nowhere"}]),
        rescued(**good),
        rescued(key_gate_keys=[{"label": "stale"}]),
    ]
    path = tmp_path / "gates.yml"
    path.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")

    run = play(str(path), control)

    assert [part.split()[0].strip("'\"") for part in run.text.split("PASSED ")[1:]] == ["True", "False"] * 2


GATE = "keyops.utrust.key_gate"
ACTIVATION = {"ansible.builtin.debug": {"msg": "ACTIVATED"}, "when": "key_gate_result.passed"}


def write_gate(folder: Path, **play_of_caller: t.Any) -> str:
    path = folder / "own-gate.yml"
    path.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, **play_of_caller}]), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "caller",
    [
        {"tasks": [{"ansible.builtin.include_role": {"name": GATE}}, ACTIVATION], "ignore_errors": True},
        {"tasks": [{"ansible.builtin.include_role": {"name": GATE}, "ignore_errors": True}, ACTIVATION]},
        {"tasks": [{"ansible.builtin.import_role": {"name": GATE}, "ignore_errors": True}, ACTIVATION]},
        {"roles": [{"role": GATE, "ignore_errors": True}], "post_tasks": [ACTIVATION]},
        {
            "tasks": [{"ansible.builtin.include_role": {"name": GATE}}, ACTIVATION],
            "vars": {"ansible_connection": "ssh"},
        },
    ],
    ids=["play", "include", "import", "role", "connection"],
)
def test_keywords_of_the_caller_do_not_open_the_gate(
    control: Control, tmp_path: Path, caller: dict[str, t.Any]
) -> None:
    """Keywords of the caller neither open a closed gate nor change where the tasks run."""
    playbook = write_gate(tmp_path, **caller)

    assert opened(play(playbook, control, *options({"label": FIRST}, key_gate_level="hsm")))
    assert not opened(play(playbook, control, *options({"label": FIRST}, key_gate_level="sign")))


@pytest.mark.parametrize(
    ("gate", "arguments"),
    [
        ({}, ["--tags", "activate"]),
        ({}, ["--tags", "activate", "--skip-tags", "always"]),
        ({"tags": ["gate"]}, ["--skip-tags", "gate"]),
        ({"tags": ["gate"]}, ["--tags", "gate,activate"]),
    ],
)
def test_activation_without_a_gate_fails(
    control: Control, tmp_path: Path, gate: dict[str, t.Any], arguments: list[str]
) -> None:
    """Tags that skip the gate, or the tasks of its include, leave no result, so the activation fails."""
    include = {"ansible.builtin.include_role": {"name": GATE}, **gate}
    playbook = write_gate(tmp_path, tasks=[include, {**ACTIVATION, "tags": ["activate"]}])
    control.clear_log()
    run = play(playbook, control, *options({"label": FIRST}, key_gate_level="hsm"), *arguments)
    assert run.status != 0
    assert "ACTIVATED" not in run.output
    assert methods(control) & {"POST", "PUT", "DELETE"} == set()


@pytest.mark.parametrize(
    "keyword", [{"run_once": True}, {"when": "inventory_hostname != 'node2'"}], ids=["run_once", "condition"]
)
def test_host_without_a_proof_closes_the_gate(control: Control, tmp_path: Path, keyword: dict[str, t.Any]) -> None:
    """A caller that leaves hosts out gets a verdict, not an error of a template."""
    gate = {"ansible.builtin.include_role": {"name": "keyops.utrust.key_gate"}, **keyword}
    path = tmp_path / "gate.yml"
    path.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "tasks": [gate]}]), encoding="utf-8")
    run = play(str(path), control, *options({"label": FIRST}, key_gate_level="hsm"))
    assert not opened(run)
    assert "node2 was not read: the task did not run on this host" in run.text


@pytest.mark.parametrize("form", ["roles", "import"])
def test_condition_that_skips_the_source_closes_the_gate(control: Control, tmp_path: Path, form: str) -> None:
    """The verdict is a task that runs once, and must not be skipped with the first host."""
    condition = {"when": "inventory_hostname != 'node1'"}
    caller: dict[str, t.Any] = {"roles": [{"role": GATE, **condition}], "post_tasks": [ACTIVATION]}
    if form == "import":
        caller = {"tasks": [{"ansible.builtin.import_role": {"name": GATE}, **condition}, ACTIVATION]}
    run = play(write_gate(tmp_path, **caller), control, *options({"label": FIRST}, key_gate_level="hsm"))
    assert not opened(run)
    assert "node1 was not read: the task did not run on this host" in run.text


def test_proof_of_an_earlier_gate_does_not_count(control: Control, tmp_path: Path) -> None:
    """The second gate leaves out node2, which passed the first gate in the same play."""
    gate = {"ansible.builtin.include_role": {"name": "keyops.utrust.key_gate"}}
    tasks = [gate, {**gate, "when": "inventory_hostname != 'node2'"}]
    path = tmp_path / "gate.yml"
    path.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    run = play(str(path), control, *options({"label": FIRST}, key_gate_level="hsm"))
    assert not opened(run)
    assert "node2 was not read: the task did not run on this host" in run.text


def test_two_hosts_of_one_node_do_not_count_twice(control: Control, playbook: str, tmp_path: Path) -> None:
    """The gate refuses two inventory hosts that are the same node."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    hosts = inventory["utrust"]["hosts"]
    hosts["node2.example.com"] = {**hosts["node2"], "utrust_node": "node2"}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

    run = play(
        playbook, control, *options({"label": FIRST}, key_gate_level="hsm"), inventory=tmp_path / "inventory.yml"
    )

    assert run.status != 0
    assert "code: node_duplicate" in run.text


@pytest.mark.parametrize("blank", ["", None, "  "])
def test_blank_options_of_a_survey_count_as_not_set(control: Control, playbook: str, blank: str | None) -> None:
    """Null and blank text mean the default, for every option of the role."""
    entries = yaml.safe_load((ROOT / "roles/key_gate/meta/argument_specs.yml").read_text(encoding="utf-8"))
    given = {"key_gate_source", "key_gate_keys", "key_gate_level"}
    names = [name for name in entries["argument_specs"]["main"]["options"] if name not in given]
    assert len(names) > 8

    run = play(playbook, control, *options({"label": FIRST}, key_gate_level="hsm", **dict.fromkeys(names, blank)))

    assert opened(run)
