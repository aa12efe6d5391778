# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every playbook as a job of AWX: fields of surveys, secrets, confirmations as data, and no terminal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.awx_job import Controller, finish
from tests.support.ejbca_client import CA, TOKEN
from tests.support.playbook import ROOT, card_holders, changing_methods, inventories, methods, waits_for_card
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

Survey = dict[str, t.Any]
EXAMPLES = ROOT / "molecule/renew_ca/tasks"


@pytest.fixture(scope="module")
def shared() -> Iterator[Control]:
    """Three nodes with the same keys. No test changes a node."""
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}) as control:
        yield control


@pytest.fixture(scope="module")
def with_ejbca() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=1, ejbca=True) as control:
        yield control


def options_of(role: str) -> list[str]:
    entries = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text(encoding="utf-8"))
    return list(entries["argument_specs"]["main"]["options"])


#: Playbooks that only read or change nothing here, their role, fields as text, and the last words of the result.
JOBS: t.Final[dict[str, tuple[str | None, Survey, str]]] = {
    "status": (
        "key_status",
        {"key_status_only_drift": "no", "key_status_fail_on_drift": "yes", "key_status_max_parallel": "2"},
        "in sync: node1, node2, node3 hold the same 2 key(s)",
    ),
    "preflight": (
        "preflight",
        {"preflight_min_certificate_days": "7", "preflight_max_clock_skew": "60.5", "preflight_allow_outage": "false"},
        "no problems found on node1, node2, node3",
    ),
    "report": (
        "key_report",
        {"key_report_max_parallel": "2", "key_report_node_timeout": "30.5"},
        "Nobody can read the files after the job",
    ),
    "key_sync": (
        "key_sync",
        {"key_sync_batch_size": "1", "key_sync_wait_timeout": "120", "key_sync_approvals_required": "0"},
        "node3 up to date: 2 key(s) as on the source",
    ),
    "initial_sync": (
        "guided_restore",
        {"guided_restore_cards_available": "2", "guided_restore_hsm_serials": "node2=UT000002, node3=UT000003"},
        "node3 up to date: 2 key(s), same as the source",
    ),
    "cancel_restore": (None, {}, "node3"),
    "require_nodes": (None, {}, "ok"),
}


@pytest.mark.parametrize("blank", ["", None, " \t"], ids=["empty", "null", "blank"])
@pytest.mark.parametrize("playbook", list(JOBS))
def test_playbook_as_a_job_accepts_blank_fields(
    shared: Control, tmp_path: Path, playbook: str, blank: str | None
) -> None:
    """A survey sends every field, also those that nobody filled in."""
    role, dummy, end = JOBS[playbook]
    names = [name for name in (options_of(role) if role is not None else []) if not name.endswith("_source")]
    survey = {**dict.fromkeys(names, blank), "utrust_hosts": blank, "utrust_bastion": blank, "utrust_lock_dir": blank}
    run = Controller(shared, tmp_path).run(playbook, survey)
    assert run.status == "successful", run.output
    assert end in run.text
    assert changing_methods(shared) == set()


@pytest.mark.parametrize("playbook", [name for name, (dummy, survey, end) in JOBS.items() if survey])
def test_playbook_as_a_job_accepts_numbers_as_text(shared: Control, tmp_path: Path, playbook: str) -> None:
    dummy, survey, end = JOBS[playbook]
    run = Controller(shared, tmp_path).run(playbook, {"utrust_source": " node1 ", **survey})
    assert run.status == "successful", run.output
    assert end in run.text
    assert changing_methods(shared) == set()


@pytest.mark.parametrize(
    ("playbook", "survey", "code"),
    [
        ("key_sync", {"key_sync_batch_size": "two"}, "option_invalid"),
        ("key_sync", {"key_sync_canary": "{{ 7 * 7 }}"}, "option_invalid"),
        ("key_sync", {"utrust_source": "node9"}, "host_unknown"),
        ("status", {"key_status_max_parallel": "many"}, "option_invalid"),
        ("preflight", {"preflight_cards_available": "two"}, "option_invalid"),
        ("report", {"key_report_mode": "640"}, "option_invalid"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_wrong_field_fails_with_a_code(
    shared: Control, tmp_path: Path, playbook: str, survey: Survey, code: str
) -> None:
    """Text of a survey is not evaluated."""
    run = Controller(shared, tmp_path).run(playbook, survey)
    assert run.status == "failed", run.output
    assert code in run.text
    assert "49" not in run.text
    assert changing_methods(shared) == set()


@pytest.mark.parametrize(
    "serials",
    [
        "node2=UT000002\nnode3=UT000003",
        "node2=UT000002\r\n\r\nnode3 = UT000003\r\n",
        "node2=UT000002, node3=UT000003",
        '{"node2": "UT000002",\n"node3": "UT000003"}',
    ],
)
@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_serial_numbers_of_a_text_field(shared: Control, tmp_path: Path, serials: str, wrong: bool) -> None:
    """A text field of a survey has lines, and people end them with blanks."""
    filled = serials.replace("UT000003", "UT000009") if wrong else serials
    survey = {"preflight_operation": "initial_sync", "preflight_hsm_serials": filled}
    run = Controller(shared, tmp_path).run("preflight", survey)
    assert run.status == ("failed" if wrong else "successful"), run.output
    assert ("node3: hsm_serial_mismatch" in run.text) is wrong
    assert "node2: hsm_serial_mismatch" not in run.text


@pytest.mark.parametrize("confirmed", [(), ("node1",), ("node1", "node2", "node3")], ids=len)
def test_confirmations_of_a_text_field(shared: Control, tmp_path: Path, confirmed: tuple[str, ...]) -> None:
    """A person confirms a backup with a JSON list, because a survey has no other field for it."""
    given = [
        {"subject": "backup", "node": node, "confirmed_by": "Ada", "reason": "tape 7, shelf {{ 2 }}"}
        for node in confirmed
    ]
    survey = {"preflight_max_backup_hours": "0", "preflight_manual_confirmations": json.dumps(given, indent=2)}
    run = Controller(shared, tmp_path).run("preflight", survey)
    assert run.status == ("successful" if len(confirmed) == 3 else "failed"), run.output
    for node in ("node1", "node2", "node3"):
        assert (f"{node}: backup" in run.text) is (node not in confirmed)


def test_audit_file_is_verified_in_a_job(shared: Control, tmp_path: Path) -> None:
    controller, audit = Controller(shared, tmp_path), tmp_path / "audit.jsonl"
    controller.env = audit_environment(audit)
    assert controller.run("status", user="cleo").status == "successful"
    run = controller.run("verify_audit", {"audit_file": str(audit)})
    assert run.status == "successful", run.output
    first = json.loads(audit.read_text(encoding="utf-8").splitlines()[0])
    assert '"cleo"' in json.dumps(first)


def audit_environment(audit: Path) -> dict[str, str]:
    return {
        "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit",
        "UTRUST_AUDIT_FILE": str(audit),
        "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
    }


def search(folder: Path, *texts: str) -> list[str]:
    """Return the files below the folder that have one of the texts."""
    assert all(len(text) > 8 for text in texts)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    return [str(path) for path in files if any(text.encode() in path.read_bytes() for text in texts)]


@pytest.mark.parametrize("verbosity", ["-v", "-vvvvv"])
def test_artifacts_of_a_job_have_no_secret(tmp_path: Path, verbosity: str) -> None:
    """AWX keeps artifacts and events. Neither the bearer token nor a private key is there, also after a failure."""
    with cluster(nodes=2, restored=2, keys=1, key_mix={"ec-p256": 1}, faults=True) as control:
        control.generate_key("node1", "newKey")
        token = tmp_path / "token"
        token.write_text(control.token + "\n", encoding="utf-8")
        controller = Controller(control, tmp_path / "jobs")
        lookup = f"{{{{ lookup('ansible.builtin.file', '{token}') }}}}"
        controller.host_vars = {"utrust_bearer_token": lookup, "utrust_client_cert": "", "utrust_client_key": None}
        control.fault("lost_response_before", node="node2", method="POST", path="/apply$", count=1)
        failed = controller.run("key_sync", {"key_sync_allow_outage": "true"}, verbosity)
        control.clear_faults()
        applied = controller.run("key_sync", {"key_sync_allow_outage": "true"}, verbosity)
        assert (failed.status, applied.status) == ("failed", "successful"), applied.output
        assert applied.changed == 1
        dummy, key = control.client("operator")
        lines = key.read_text(encoding="utf-8").splitlines()
        assert search(tmp_path / "jobs", control.token, *lines[1:3]) == []


def test_ceremony_with_confirmations_as_data(tmp_path: Path) -> None:
    """People present the cards at the PIN pad, and the survey has the serial number that they read."""
    with cluster(nodes=2, restored=1, keys=1, key_mix={"ec-p256": 1}) as control:
        controller, audit = Controller(control, tmp_path), tmp_path / "audit.jsonl"
        controller.env = audit_environment(audit)
        backup = {"subject": "backup", "node": "node1", "confirmed_by": "Ada", "reason": "tape 7"}
        survey = {
            "guided_restore_hsm_serials": "node2=UT000002",
            "guided_restore_max_backup_hours": "0",
            "guided_restore_manual_confirmations": json.dumps([backup, {**backup, "node": "node2"}]),
            "guided_restore_confirm_serial": "yes",
            "guided_restore_cards_available": "2",
        }
        wrong = controller.run("initial_sync", {**survey, "guided_restore_hsm_serials": "node2=UT000009"})
        assert wrong.status == "failed"
        assert "hsm_serial_mismatch" in wrong.text
        with card_holders(control, "node2"):
            run = controller.run("initial_sync", survey)
        assert run.status == "successful", run.output
        assert "PIN pad front-usb" in run.text
        assert "card 2 of 2" in run.text
        records = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
        assert "tape 7" in json.dumps(records)
        assert '"hsm_serial_was_read": true' in json.dumps(records)
        assert len(set(inventories(control).values())) == 1
        pins = [control.pin_of(card["card"]) for card in control.cards()]
        assert not [pin for pin in pins if f'"{pin}"' in run.text]


@pytest.mark.parametrize("terminal", ["", "true", "yes"])
def test_job_never_waits_for_a_terminal(tmp_path: Path, terminal: str) -> None:
    """ansible-runner gives the job a pseudo terminal that nobody reads."""
    with cluster(nodes=2, restored=1, keys=1, key_mix={"ec-p256": 1}) as control:
        started = time.monotonic()
        survey = {"guided_restore_confirm_serial": "true", "utrust_terminal": terminal}
        run = Controller(control, tmp_path).run("initial_sync", survey)
        assert run.status == "failed"
        assert "[serial_not_confirmed]" in run.text
        assert time.monotonic() - started < 60
        assert methods(control) == {"GET"} or changing_methods(control) == set()


def test_canceled_ceremony_continues_with_the_next_job(tmp_path: Path) -> None:
    """A canceled job leaves the restore at the PIN pad, and the next job watches the restore."""
    with cluster(nodes=2, restored=1, keys=1, key_mix={"ec-p256": 1}, claim_second=0.05) as control:
        controller = Controller(control, tmp_path)
        private = controller.prepare("initial_sync")
        job = controller.start(private)
        wait_for(lambda: waits_for_card(control, "node2"), limit=60)
        job.terminate()
        assert finish(private, job).status == "canceled"
        assert waits_for_card(control, "node2")
        with card_holders(control, "node2"):
            run = controller.run("initial_sync")
        assert run.status == "successful", run.output
        assert len(set(inventories(control).values())) == 1


def kill_everything(volume: Path) -> None:
    """Kill the processes that use the volume, the guard first, and their parents: the end of a container."""
    users = {
        int(link.parts[2])
        for link in Path("/proc").glob("[0-9]*/fd/*")
        if (shown := _target(link)) and shown.startswith(str(volume))
    }
    assert users
    for pid in users:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # the file is closed, or belongs to another user
        return ""


def test_package_of_a_killed_container_ends_with_the_next_job(tmp_path: Path) -> None:
    """The guard of the run is killed, too, but the private directory is on a volume."""
    with cluster(nodes=2, restored=2, keys=1, key_mix={"ec-p256": 1}, faults=True, claim_second=0.05) as control:
        control.generate_key("node1", "newKey")
        controller, volume = Controller(control, tmp_path / "jobs"), tmp_path / "volume"
        volume.mkdir(mode=0o700)
        controller.env = {"XDG_RUNTIME_DIR": str(volume)}
        control.fault("hold_apply", node="node2")
        private = controller.prepare("key_sync", {"key_sync_allow_outage": "true"})
        job = controller.start(private)
        wait_for(lambda: control.node("node2")["running"] is not None, limit=60)
        kill_everything(volume)
        job.kill()
        job.communicate(timeout=60)
        control.clear_faults()
        packages = list(volume.rglob("*.ksp"))
        assert packages
        status = controller.run("status")
        assert f"removed a package that a killed run had left: {packages[0]}" in status.text
        assert list(volume.rglob("*.ksp")) == []


def test_ca_is_renewed_in_a_job(with_ejbca: Control, tmp_path: Path) -> None:
    """The template has the paths, and the survey has the names."""
    template = {
        # The tasks of the site use modules, which need a directory.
        "ansible_remote_tmp": str(tmp_path / "remote"),
        "renew_ca_name": CA,
        "renew_ca_crypto_token": TOKEN,
        "renew_ca_proof_ca": "Gate-2027",
        "renew_ca_proof_tasks": str(EXAMPLES / "make_proof_ca.yml"),
        "renew_ca_switch_tasks": str(EXAMPLES / "switch_ca.yml"),
    }
    blank = [name for name in options_of("renew_ca") if name not in template and name != "renew_ca_source"]
    survey = {
        **dict.fromkeys(blank, ""),
        "renew_ca_alias": "signKey-2027",
        "renew_ca_key_alg": "EC",
        "renew_ca_key_spec": "P-256",
        "renew_ca_reactivate": "true",
        "renew_ca_wait_timeout": "120",
    }
    run = Controller(with_ejbca, tmp_path).run("renew_ca", survey, template=template)
    assert run.status == "successful", run.output
    assert f"{CA} uses signKey-2027" in run.text
