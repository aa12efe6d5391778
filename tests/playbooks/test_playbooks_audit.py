# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit trail of runs with the callback audit, and runs that cannot record."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.chain import FRAGMENT_MARK
from utrust_appliance.testing import cluster

from tests.support.approvals import Person, write_approvals
from tests.support.playbook import (
    BIN,
    ROOT,
    Run,
    card_holders,
    changing_methods,
    environment,
    finish,
    inventories,
    methods,
    play,
    start,
    waits_for_card,
)
from tests.support.wait import wait_for, wait_until_applying

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

SYNC = "keyops.utrust.key_sync"
INITIAL = "keyops.utrust.initial_sync"
VERIFY = "keyops.utrust.verify_audit"
#: Ansible prints these for a playbook that needs no inventory.
NO_INVENTORY = ["No inventory was parsed", "provided hosts list is empty"]
REQUIRED = ("-e", "key_sync_audit=required")
ENABLED = {"ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit"}


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    # The claim of a killed run ends after 12 seconds instead of 120.
    with cluster(nodes=3, restored=3, faults=True, claim_second=0.1) as control:
        yield control


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def enabled(audit: Path, **more: str) -> dict[str, str]:
    """Enable the callback with a file in the temporary folder of the test, which is not persistent."""
    return {**ENABLED, "UTRUST_AUDIT_FILE": str(audit), "UTRUST_AUDIT_ASSUME_PERSISTENT": "true", **more}


def events(audit: Path) -> list[dict[str, t.Any]]:
    return [json.loads(line) for line in audit.read_bytes().splitlines() if not line.endswith(FRAGMENT_MARK)]


def named(audit: Path, *names: str) -> list[dict[str, t.Any]]:
    return [event for event in events(audit) if event["event"] in names]


def verify(audit: Path, *arguments: str, ansible_playbook: str = str(BIN / "ansible-playbook")) -> Run:
    command = [ansible_playbook, VERIFY, "-e", f"audit_file={audit}", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return finish(process, warnings=NO_INVENTORY)


def synchronize(control: Control, label: str, *arguments: str, **options: t.Any) -> Run:
    control.generate_key("node1", label)
    control.clear_log()
    return play(SYNC, control, *arguments, **options)


def test_key_sync_records_every_key_and_the_package(control: Control, audit: Path) -> None:
    """The audit trail has every imported key and the life of the package."""
    of_awx = ["-e", "awx_user_name=anna", "-e", "utrust_change_reference=CHG-4711"]
    run = synchronize(control, "evidentKey", *REQUIRED, *of_awx, env=enabled(audit))

    assert run.status == 0, run.output
    key = next(key for key in control.keys("node1") if key["label"] == "evidentKey")
    started, ended = events(audit)[0], events(audit)[-1]
    assert (started["event"], started["playbook"], started["check_mode"]) == ("job_started", "key_sync.yml", False)
    assert started["requester"] == {"name": "anna", "known_from": "awx_user_name"}
    assert started["change_reference"] == "CHG-4711"
    assert started["collection"]["digest"].startswith("sha256:")
    assert (ended["event"], ended["outcome"], sorted(ended["hosts"])) == (
        "job_ended",
        "ok",
        ["node1", "node2", "node3"],
    )

    exported, destroyed = named(audit, "package_exported", "package_removed")
    assert exported["result"]["node"]["hsm_serial"] == "UT000001"
    assert {"hsm_firmware", "fips", "mbk"} <= exported["result"]["node"].keys()
    assert exported["result"]["package"]["sha256"] == destroyed["result"]["removed"]["sha256"]
    assert exported["result"]["package"]["mbk"]["check_value"] == exported["result"]["node"]["mbk"]["check_value"]

    imported = named(audit, "keys_imported")
    assert [event["host"] for event in imported] == ["node2", "node3"]
    for event in imported:
        assert [added["fingerprint"] for added in event["result"]["added"]] == [key["fingerprint"]]
        assert event["result"]["verified"]
        assert event["outcome"] == "changed"
    (declared,) = named(audit, "declaration")
    assert (declared["by"], declared["result"]["source"]) == ("key_sync", "node1")
    decided = {
        "extra_keys",
        "allowed_extra_keys",
        "destroyed_keys",
        "expected_new_keys",
        "allow_replace",
        "import_effect",
        "ignore_members",
    }
    assert decided <= declared["result"].keys()

    verified = verify(audit)
    assert verified.status == 0, verified.output
    assert f"record {len(events(audit))} is the last intact record" in verified.text


def test_check_mode_is_recorded_as_check_mode_result(control: Control, audit: Path) -> None:
    """The audit trail marks a check mode run, and has no event of a change."""
    run = synchronize(control, "predictedKey", "--check", env=enabled(audit))

    assert run.status == 0, run.output
    assert events(audit)[0]["check_mode"]
    assert named(audit, "package_exported", "keys_imported", "package_removed") == []
    assert named(audit, "check_mode_result")
    assert methods(control) == {"GET"}


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({}, "audit_inactive"),
        (ENABLED, "audit_not_configured"),
        ({**ENABLED, "UTRUST_AUDIT_FILE": "/dev/shm/utrust-audit-of-tests.jsonl"}, "audit_not_persistent"),
        ({**ENABLED, "UTRUST_AUDIT_FILE": "/nowhere/audit.jsonl"}, "audit_not_written"),
        (
            {"UTRUST_AUDIT_RUN": '{"job": "x", "file": "/f", "not_persistent": "", "failure": ""}'},
            "audit_inactive",
        ),
        (
            {
                **ENABLED,
                "UTRUST_AUDIT_FILE": "FILE",
                "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
                "UTRUST_AUDIT_SYSLOG": "::1",
            },
            "audit_syslog_invalid",
        ),
        (
            {**ENABLED, "UTRUST_AUDIT_FILE": "FILE", "UTRUST_AUDIT_ASSUME_PERSISTENT": "true", "ANSIBLE_NO_LOG": "1"},
            "audit_censored",
        ),
    ],
    ids=["not active", "no file", "in memory", "no such directory", "pretended", "bad syslog", "no log"],
)
def test_required_audit_unavailable_stops_before_any_request(
    control: Control, audit: Path, env: dict[str, str], code: str
) -> None:
    """If the audit trail is required but not recorded, the run stops before it contacts a node."""
    env = {name: str(audit) if value == "FILE" else value for name, value in env.items()}
    run = synchronize(control, f"never-{code}-{len(env)}", *REQUIRED, env=env)
    Path("/dev/shm/utrust-audit-of-tests.jsonl").unlink(missing_ok=True)

    assert run.status != 0
    assert code in run.text
    assert "Nothing is changed from here on" in run.text
    assert methods(control) == set()


def test_pretended_state_of_the_callback_is_ignored(control: Control, audit: Path) -> None:
    """An intact file with an open job, and a variable that names this job, do not replace the callback."""
    assert play("keyops.utrust.status", control, env=enabled(audit)).status in (0, 2)
    lines = audit.read_bytes().splitlines(keepends=True)
    audit.write_bytes(lines[0])
    job = json.loads(lines[0])["job"]
    control.generate_key("node1", "pretended")
    control.clear_log()
    # The shell becomes ansible-playbook, so that the PID is right.
    script = audit.with_suffix(".sh")
    script.write_text(
        f'#!/bin/sh\nexport UTRUST_AUDIT_RUN="$(printf \'{{"pid": %d, "job": "{job}", "file": "{audit}", '
        f'"not_persistent": "", "failure": ""}}\' $$)"\nexec {BIN / "ansible-playbook"} "$@"\n'
    )
    script.chmod(0o755)

    run = play(SYNC, control, *REQUIRED, ansible_playbook=str(script))

    assert run.status != 0
    assert "audit_inactive" in run.text
    assert methods(control) == set()


HIDDEN = "{{ _key_sync_plan is defined }}"
EXPORT_HIDDEN = "{{ _key_sync_plan is defined and _key_sync_export is not defined }}"


@pytest.mark.parametrize(
    ("place", "value"),
    [("play", True), ("include", True), ("block", True), ("play", HIDDEN), ("block", EXPORT_HIDDEN)],
    ids=["play", "include", "block", "after the plan", "the export"],
)
def test_no_log_of_the_caller_stops_before_a_change(
    control: Control, audit: Path, tmp_path: Path, place: str, value: t.Any
) -> None:
    """Results that no_log hides are lost, so a run that requires an audit trail changes nothing."""
    role = {"name": "keyops.utrust.key_sync", "apply": {"no_log": value} if place == "include" else {}}
    include = {"ansible.builtin.include_role": role, "vars": {"key_sync_source": "node1"}}
    tasks: list[dict[str, t.Any]] = [include]
    if place == "block":
        tasks = [{"block": [include], "no_log": value}]
    plays = [{"hosts": "utrust", "gather_facts": False, "tasks": tasks}]
    playbook = tmp_path / "hidden.yml"
    playbook.write_text(json.dumps([{**plays[0], "no_log": value} if place == "play" else plays[0]]), encoding="utf-8")
    control.generate_key("node1", f"hidden-{place}-{value is True}")
    control.clear_log()
    before = inventories(control)

    run = play(str(playbook), control, *REQUIRED, env=enabled(audit))

    assert run.status != 0
    assert "no_log hides" in run.text
    assert {node: digest for node, digest in inventories(control).items() if node != "node1"} == {
        node: digest for node, digest in before.items() if node != "node1"
    }
    assert "keys_imported" not in [event["event"] for event in events(audit) if event.get("outcome") == "changed"]
    assert changing_methods(control) == set(), "the node makes no package"
    assert [event["event"] for event in events(audit) if event.get("censored")] != []


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("utrust_ksp_export", {}),
        ("utrust_ksp_import", {"src": "/nonexistent.ksp", "manifest_sha256": f"sha256:{64 * '0'}"}),
        ("utrust_hsm_restore", {"source": {}, "pin_pad": "front"}),
        ("utrust_hsm_restore", {"state": "canceled"}),
        (
            "ejbca_key",
            {
                "crypto_token": "T",
                "alias": "a",
                "key_alg": "EC",
                "key_spec": "P-256",
                "ejbca": {"host": "127.0.0.1", "client_cert": "c", "client_key": "k"},
            },
        ),
    ],
)
def test_hidden_change_is_refused_before_a_request(
    control: Control, audit: Path, tmp_path: Path, module: str, options: dict[str, t.Any]
) -> None:
    """Every module that changes something has the option audit, and refuses no_log with it."""
    tasks = [{f"keyops.utrust.{module}": {**options, "audit": "required"}, "no_log": "{{ 1 == 1 }}"}]
    playbook = tmp_path / "hidden.yml"
    playbook.write_text(json.dumps([{"hosts": "node1", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    control.clear_log()

    run = play(str(playbook), control, env=enabled(audit))

    assert run.status != 0
    assert "audit_censored" in run.text, run.output
    assert methods(control) == set()


def test_hidden_restore_is_refused_before_the_first_card(audit: Path, tmp_path: Path) -> None:
    """A caller whose no_log begins after the checks of the role cannot hide the restore."""
    include = {"ansible.builtin.include_role": {"name": "keyops.utrust.guided_restore"}}
    tasks = [{"block": [include], "no_log": "{{ _guided_restore_checked is defined }}"}]
    playbook = tmp_path / "hidden.yml"
    plays = [{"hosts": "utrust", "gather_facts": False, "serial": 1, "tasks": tasks}]
    playbook.write_text(json.dumps(plays), encoding="utf-8")
    with cluster(nodes=2) as control:
        variables = {"guided_restore_audit": "required", "guided_restore_source": "node1"}
        run = play(str(playbook), control, "-e", json.dumps(variables), env=enabled(audit))
        assert run.status != 0
        assert "audit_censored" in run.text, run.output
        assert changing_methods(control) == set()
        assert control.node("node2")["state"] == "factory_reset"


def test_removal_with_a_hidden_result_is_a_removal(control: Control, audit: Path, tmp_path: Path) -> None:
    """The event follows from the task, because a hidden result has no content."""
    tasks = [
        {"keyops.utrust.utrust_ksp_export": {"dest": str(tmp_path / "kept.ksp"), "state": state}, "no_log": True}
        for state in ("present", "absent")
    ]
    playbook = tmp_path / "hidden.yml"
    playbook.write_text(json.dumps([{"hosts": "node1", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    tmp_path.chmod(0o700)

    run = play(str(playbook), control, env=enabled(audit))

    assert run.status == 0, run.output
    assert [event["event"] for event in events(audit)][1:3] == ["package_exported", "package_removed"]


def test_required_audit_rejects_a_broken_file(control: Control, audit: Path) -> None:
    """A broken audit file stops the run, and verify_audit reports the same line."""
    assert play("keyops.utrust.status", control, env=enabled(audit)).status in (0, 2)
    lines = audit.read_bytes().splitlines(keepends=True)
    audit.write_bytes(b"".join([lines[0], *lines[2:]]))
    control.clear_log()

    run = play(SYNC, control, *REQUIRED, env=enabled(audit))

    assert run.status != 0
    assert "line 2 is the first broken line" in run.text
    assert "audit_broken" in run.text
    assert methods(control) == set()
    verified = verify(audit)
    assert verified.status != 0
    assert "line 2 is the first broken line" in verified.text


def waiting_at_node2(control: Control, *arguments: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start a synchronization whose canary does not finish until the faults are cleared."""
    control.fault("hold_apply", node="node2")
    process = start(SYNC, control, "-e", "key_sync_canary=node2", *arguments, env=env)
    try:
        wait_until_applying(control, "node2")
    except AssertionError:
        process.kill()
        raise AssertionError(finish(process).output) from None
    return process


def test_audit_failure_stops_before_the_next_batch(control: Control, audit: Path) -> None:
    """If the file fails during the canary, the run reports it at once and changes no other node."""
    assert play(SYNC, control).status == 0
    control.generate_key("node1", "halfwayKey")
    control.clear_log()
    before = inventories(control)
    process = waiting_at_node2(control, *REQUIRED, env=enabled(audit))
    # A directory in place of the file makes writing fail.
    audit.rename(audit.with_suffix(".kept"))
    audit.mkdir()
    control.clear_faults()
    run = finish(process)

    assert run.status != 0
    assert "THE AUDIT TRAIL IS INCOMPLETE" in run.text
    assert "audit_incomplete" in run.text
    assert inventories(control)["node2"] == before["node1"]
    assert inventories(control)["node3"] == before["node3"], "nothing changes after the audit trail fails"
    assert verify(audit.with_suffix(".kept")).status == 0


def by_token(control: Control, folder: Path) -> Path:
    """The inventory with a bearer token instead of a client certificate."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    for variables in inventory["utrust"]["hosts"].values():
        del variables["utrust_client_cert"], variables["utrust_client_key"]
        variables["utrust_bearer_token"] = control.token
    written = folder / "inventory.yml"
    written.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return written


def test_audit_has_no_secrets_at_vvvv(control: Control, audit: Path, tmp_path: Path) -> None:
    """Tokens, environment and unlisted facts stay out of the audit file at the highest verbosity."""
    canary = "canary-value-4711"
    run = synchronize(
        control,
        "quietKey",
        "-vvvv",
        "--diff",
        "-e",
        f"some_secret={canary}",
        "-e",
        json.dumps({"key_sync_approvals": write_approvals(tmp_path / "approvals.json", Person("bea").approve("none"))}),
        inventory=by_token(control, tmp_path),
        env=enabled(audit, UTRUST_CANARY=canary),
    )

    assert run.status == 0, run.output
    content = audit.read_text(encoding="utf-8")
    assert "keys_imported" in content
    assert named(audit, "declaration")[0]["result"]["approvals"][0]["name"] == "bea"
    for secret in (control.token, canary, "PRIVATE KEY", "invocation", "before_header", "manifest"):
        assert secret not in content


POISONED = """
- name: Everything that must not be recorded
  hosts: node1
  gather_facts: false
  tasks:
    - name: "Named canary-4711-canary"
      ansible.builtin.set_fact:
        poisoned__audit:
          approvals: [{name: bea, pin: canary-4711-canary}]
          cards: {serial: [{share: canary-4711-canary}]}
          bearer_token: canary-4711-canary
        other_fact: canary-4711-canary
    - name: Log in with a token that is refused
      keyops.utrust.utrust_hsm_info:
        host: "{{ utrust_host }}"
        port: "{{ utrust_port }}"
        ca_file: "{{ utrust_ca_file }}"
        bearer_token: canary-4711-canary
      ignore_errors: true
    - name: Fail
      ansible.builtin.fail:
        msg: canary-4711-canary [some_code]
      loop: [canary-4711-canary]
      ignore_errors: true
"""


def test_audit_records_only_allowed_fields_at_vvvv(control: Control, audit: Path, tmp_path: Path) -> None:
    """Only fields of the allow list reach the audit file."""
    playbook = tmp_path / "poisoned.yml"
    playbook.write_text(POISONED, encoding="utf-8")
    run = play(
        str(playbook), control, "-vvvv", "-e", "extra=canary-4711-canary", env=enabled(audit, MORE="canary-4711-canary")
    )

    assert run.status == 0, run.output
    assert "canary-4711-canary" in run.output
    recorded = [(event["event"], event.get("codes")) for event in events(audit)]
    assert [event for event, dummy in recorded] == [
        "job_started",
        "declaration",
        "node_read",
        "task_failed",
        "job_ended",
    ]
    assert recorded[3][1] == ["some_code"]
    assert named(audit, "declaration")[0]["result"] == {"approvals": [{"name": "bea"}], "cards": {"serial": []}}
    assert "canary" not in audit.read_text(encoding="utf-8")


def test_killed_run_is_reported_and_recording_continues(control: Control, audit: Path) -> None:
    """verify_audit reports a killed run, and the next run continues the file."""
    control.generate_key("node1", "killedKey")
    control.clear_log()
    process = waiting_at_node2(control, env=enabled(audit))
    process.send_signal(signal.SIGKILL)
    control.clear_faults()
    process.communicate(timeout=60)
    # A kill during a write leaves such a fragment.
    with open(audit, "ab") as file:
        file.write(b'{"event":"keys_imp')

    killed = verify(audit)
    assert killed.status == 0, killed.output
    assert "is a fragment of a killed writer" in killed.text
    assert f"job {events_before_fragment(audit)[0]['job']}, started in line 1, has not ended" in killed.text

    wait_for(lambda: len({control.node(node)["keys_digest"] for node in ("node1", "node2")}) == 1)
    again = play(SYNC, control, *REQUIRED, env=enabled(audit))
    assert again.status == 0, again.output
    verified = verify(audit)
    assert verified.status == 0, verified.output
    assert "a later record names the fragment" in verified.text
    assert "has not ended" not in verified.text
    (lost,) = named(audit, "job_lost")
    assert lost["lost_job"] == json.loads(audit.read_bytes().splitlines()[0])["job"]


def events_before_fragment(audit: Path) -> list[dict[str, t.Any]]:
    return [json.loads(line) for line in audit.read_bytes().splitlines()[:-1]]


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "[::1]")], ids=["4", "6"]
)
def test_signature_and_syslog_reveal_truncation(
    control: Control, audit: Path, tmp_path: Path, family: socket.AddressFamily, host: str
) -> None:
    """The signed head and the head sent to syslog reveal removed records."""
    private, public = tmp_path / "audit.key", tmp_path / "audit.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", str(private)], check=True)
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)], check=True)
    private.chmod(0o600)
    with socket.socket(family, socket.SOCK_DGRAM) as syslog:
        syslog.bind((host.strip("[]"), 0))
        syslog.settimeout(10)
        address = f"{host}:{syslog.getsockname()[1]}"
        env = enabled(audit, UTRUST_AUDIT_SIGNING_KEY=str(private), UTRUST_AUDIT_SYSLOG=address)
        assert play("keyops.utrust.status", control, env=env).status in (0, 2)
        messages = [syslog.recv(65536).decode() for dummy in events(audit)]
    count, head = events(audit)[-1]["sequence"], events(audit)[-1]["sha256"]
    assert f'"sequence": {count}, "sha256": "{head}"' in messages[-1]

    signed = verify(audit, "-e", f"audit_public_key={public}")
    assert signed.status == 0, signed.output
    assert f"the head was signed at record {count}" in signed.text

    audit.write_bytes(b"".join(audit.read_bytes().splitlines(keepends=True)[:-1]))
    for remembered in (
        ["-e", f"audit_public_key={public}"],
        ["-e", f"audit_count={count}", "-e", f"audit_head={head}"],
    ):
        truncated = verify(audit, *remembered)
        assert truncated.status != 0
        assert "audit_truncated" in truncated.text


def test_verify_audit_requires_valid_options(tmp_path: Path) -> None:
    """A missing file and incomplete options are errors."""
    missing = verify(tmp_path / "nothing.jsonl")
    assert missing.status != 0
    assert "audit_unreadable" in missing.text
    for half in (["-e", "audit_head=ab"], ["-e", "audit_count=0"], ["-e", "audit_count=many"]):
        run = verify(tmp_path / "nothing.jsonl", *half)
        assert run.status != 0
        assert "option_invalid" in run.text


@pytest.mark.parametrize(
    ("replies", "code"),
    [
        ({"audit_count": "", "audit_head": "", "audit_public_key": ""}, "audit_unreadable"),
        ({"audit_count": None, "audit_head": None, "audit_public_key": None}, "audit_unreadable"),
        ({"audit_count": " ", "audit_head": " ", "audit_public_key": " "}, "audit_unreadable"),
        ({"audit_count": 5, "audit_head": " "}, "audit_unreadable"),
        ({"audit_count": 0}, "option_invalid"),
        ({"audit_count": "1.5"}, "option_invalid"),
        ({"audit_count": 1.5}, "option_invalid"),
        ({"audit_count": "2x"}, "option_invalid"),
        ({"audit_count": " 5 "}, "audit_unreadable"),
        ({"audit_head": "ab", "audit_count": ""}, "option_invalid"),
        ({"audit_file": " "}, "option_invalid"),
    ],
    ids=str,
)
def test_verify_audit_blank_is_not_set(tmp_path: Path, replies: dict[str, t.Any], code: str) -> None:
    """A survey of AWX sends blanks or null. The number 0 is not a blank."""
    run = verify(tmp_path / "nothing.jsonl", "-e", json.dumps(replies))
    assert run.status != 0
    assert f"[{code}]" in run.text


def test_verify_audit_ignores_limit(control: Control, audit: Path) -> None:
    """With --limit, the playbook still verifies the file."""
    audit.write_text("no record\n")
    run = play(VERIFY, control, "-e", f"audit_file={audit}", "--limit", "node2")
    assert run.status != 0
    assert "line 1 is the first broken line" in run.text


def test_guided_restore_is_recorded_with_steps_and_cards(audit: Path) -> None:
    """The audit trail has the steps at the PIN pad and the declared MBK cards."""
    cards = [{"serial": "MBK-0001", "holder": "anna"}, {"serial": "MBK-0002", "holder": "bea"}]
    required = ("-e", json.dumps({"guided_restore_cards": cards, "guided_restore_audit": "required"}))
    with cluster(nodes=2) as control:
        refused = play(INITIAL, control, *required)
        assert refused.status != 0
        assert "audit_inactive" in refused.text
        assert methods(control) == set()
        with card_holders(control, "node2"):
            run = play(INITIAL, control, *required, env=enabled(audit))
        assert run.status == 0, run.output
        assert not waits_for_card(control, "node2")

    (restored,) = [event for event in named(audit, "hsm_restored") if event["host"] == "node2"]
    assert restored["result"]["hsm_serial"] == "UT000002"
    assert any("card 2 of 2" in step for step in restored["result"]["events"])
    assert restored["result"]["preview"]["tls_fingerprint"].startswith("sha256:")
    (declared,) = named(audit, "declaration")
    assert declared["result"]["cards"] == cards
    assert verify(audit).status == 0


def test_audit_failure_stops_after_the_running_restore(audit: Path) -> None:
    """If the file fails during a restore, the run fails at once and restores no other node."""
    with cluster(nodes=3) as control:
        process = start(INITIAL, control, "-e", "guided_restore_audit=required", env=enabled(audit))
        wait_for(lambda: waits_for_card(control, "node2"))
        audit.rename(audit.with_suffix(".kept"))
        audit.mkdir()
        for card in ("KEYOPS-1", "KEYOPS-2"):
            control.present_card("node2", card)
        run = finish(process)

        assert run.status != 0
        assert "audit_incomplete" in run.text
        assert run.recap["node2"]["failed"] == 1, "the run fails at once, not before the next node"
        assert "node2 restored now" in run.text, "the result of the restore is shown, too"
        assert control.node("node3")["state"] == "factory_reset"
        assert not waits_for_card(control, "node3")


@pytest.fixture(scope="module")
def floor() -> str:
    """Return ansible-playbook of the oldest supported ansible-core, after setting up its environment."""
    subprocess.run([BIN / "python", str(ROOT / "tests/tools/setup_env.py"), "floor"], check=True)
    return str(ROOT / ".venv-floor/bin/ansible-playbook")


def test_audit_works_on_the_oldest_ansible_core(control: Control, audit: Path, floor: str) -> None:
    """The audit trail works on the oldest supported ansible-core."""
    run = synchronize(control, "floorKey", *REQUIRED, env=enabled(audit), ansible_playbook=floor)
    assert run.status == 0, run.output
    assert [event["host"] for event in named(audit, "keys_imported")] == ["node2", "node3"]
    assert named(audit, "declaration")
    assert len(named(audit, "sync_planned")) == 1
    assert verify(audit, ansible_playbook=floor).status == 0

    refused = play(SYNC, control, *REQUIRED, ansible_playbook=floor)
    assert refused.status != 0
    assert "audit_inactive" in refused.text
