# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every playbook as a job of AWX: fields of surveys, secrets, confirmations as data, and no terminal."""

from __future__ import annotations

import contextlib
import itertools
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
from tests.support.matrix import some
from tests.support.playbook import ROOT, card_holders, changing_methods, inventories, methods, waits_for_card
from tests.support.wait import wait_for, wait_until_applying

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

Survey = dict[str, t.Any]


@pytest.fixture(scope="module")
def shared() -> Iterator[Control]:
    """Three nodes with the same keys. No test changes a node."""
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}) as control:
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


@pytest.mark.parametrize("first", some([0, 1, 2], 1))
@pytest.mark.parametrize("playbook", list(JOBS))
def test_playbook_as_a_job_accepts_blank_fields(shared: Control, tmp_path: Path, playbook: str, first: int) -> None:
    """A survey of a site sends every field, also those that nobody filled in. Each blank follows the one before."""
    role, dummy, end = JOBS[playbook]
    names = [name for name in (options_of(role) if role is not None else []) if not name.endswith("_source")]
    names += ["utrust_hosts", "utrust_bastion", "utrust_lock_dir"]
    survey = dict(zip(names, itertools.islice(itertools.cycle(["", None, " \t"]), first, None), strict=False))
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
        wait_until_applying(control, "node2", limit=60)
        kill_everything(volume)
        job.kill()
        job.communicate(timeout=60)
        control.clear_faults()
        packages = list(volume.rglob("*.ksp"))
        assert packages
        status = controller.run("status")
        assert f"removed a package that a killed run had left: {packages[0]}" in status.text
        assert list(volume.rglob("*.ksp")) == []
