# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Transport assisted at a terminal: a person does each step at Webconf when the run shows it, and confirms it at the prompt."""

from __future__ import annotations

import json
import os
import signal
import typing as t
import uuid
from pathlib import Path

import pytest
from utrust_appliance.testing import cluster

from tests.support.assisted import SYNC, Rehearsal, api_requests
from tests.support.playbook import Run, play
from tests.support.processes import MARK, processes_with
from tests.support.terminal import CTRL_C, SILENCE, PersonAtTerminal, Prompt, play_at_terminal
from tests.support.wait import wait_for
from tests.support.webconf_person import WebconfPerson

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

TERMINAL = ("-e", "utrust_terminal=true")
DOWNLOAD: Prompt = ("node1", "package_downloaded", "sha256")
UPLOAD: Prompt = ("node2", "package_uploaded", "sha256")


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=2, key_mix={"ec-p256": 1}, ejbca=True, no_api=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Control:
    """A cluster in which only the source has a new key, and EJBCA of the source shows it."""
    labels = {key["label"] for key in running.keys("node1")}
    running.generate_key("node1", f"fresh-{len(labels)}")
    running.ejbca("node1", "deactivate")
    running.clear_log()
    return running


def options(control: Control, folder: Path, **more: t.Any) -> tuple[str, ...]:
    rehearsal = Rehearsal(control, folder)
    return ("-i", str(rehearsal.inventory), *rehearsal.arguments(key_sync_ejbca_view_timeout=10, **more))


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return int(status.rpartition(")")[2].split()[1])


def in_sync(control: Control) -> bool:
    return control.node("node1")["keys_digest"] == control.node("node2")["keys_digest"]


def test_person_at_the_terminal_synchronizes_a_key(control: Control, tmp_path: Path) -> None:
    """Every step is a prompt, the audit trail has each of them, and no request goes to an API."""
    audit = tmp_path / "audit.jsonl"
    env = {
        "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit",
        "UTRUST_AUDIT_FILE": str(audit),
        "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
    }
    person = WebconfPerson(control, "Alice Example")
    at_terminal = PersonAtTerminal(person)
    run = play_at_terminal(SYNC, control, *TERMINAL, *options(control, tmp_path), reply=at_terminal, env=env)

    assert run.status == 0, run.output
    assert in_sync(control)
    assert [prompt for prompt in at_terminal.prompts if prompt[2] == "confirmed_by"] == [
        ("node1", "package_downloaded", "confirmed_by"),
        ("node2", "package_uploaded", "confirmed_by"),
        ("node1", "package_destroyed", "confirmed_by"),
    ]
    assert "Click *Download Cluster Key Synchronization Package*." in run.text
    assert api_requests(control) == []
    records = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
    confirmed = [record["result"] for record in records if record["event"] == "step_confirmed"]
    assert [(each["node"], each["step"]) for each in confirmed] == [
        ("node1", "package_downloaded"),
        ("node2", "package_uploaded"),
        ("node1", "package_destroyed"),
    ]
    assert person.package is not None
    assert {(each["confirmed_by"], each["origin"], each["sha256"]) for each in confirmed} == {
        ("Alice Example", "terminal", person.package.sha256)
    }


@pytest.mark.parametrize(
    ("prompt", "typed", "code"),
    [
        (DOWNLOAD, "stop", "confirmation_refused"),
        (DOWNLOAD, CTRL_C, "confirmation_refused"),
        (UPLOAD, "f" * 64, "confirmation_mismatch"),
        (UPLOAD, "stop", "confirmation_refused"),
    ],
)
def test_person_who_stops_ends_the_run(control: Control, tmp_path: Path, prompt: Prompt, typed: str, code: str) -> None:
    """Nobody uploads a package in this test, so the target stays as it was."""
    before = control.node("node2")["keys_digest"]
    at_terminal = PersonAtTerminal(WebconfPerson(control), {prompt: typed})
    run = play_at_terminal(SYNC, control, *TERMINAL, *options(control, tmp_path), reply=at_terminal)

    assert run.status != 0, run.output
    assert code in run.text
    assert at_terminal.prompts[-1] == prompt
    assert control.node("node2")["keys_digest"] == before
    assert api_requests(control) == []


def test_prompt_ends_after_the_time_of_the_option(control: Control, tmp_path: Path) -> None:
    """A run that nobody attends ends, and names the step that somebody can have done."""
    at_terminal = PersonAtTerminal(WebconfPerson(control), {DOWNLOAD: SILENCE})
    more = ("-e", "key_sync_people_timeout=3")
    run = play_at_terminal(SYNC, control, *TERMINAL, *options(control, tmp_path), *more, reply=at_terminal)

    assert run.status != 0, run.output
    assert "confirmation_timeout" in run.text
    assert at_terminal.prompts == [DOWNLOAD]
    assert api_requests(control) == []


def test_typing_error_at_the_terminal_is_corrected(control: Control, tmp_path: Path) -> None:
    """Control characters that somebody types are shown as codes."""
    at_terminal = PersonAtTerminal(WebconfPerson(control), {DOWNLOAD: "12\x1b[31m"})
    run = play_at_terminal(SYNC, control, *TERMINAL, *options(control, tmp_path), reply=at_terminal)

    assert run.status == 0, run.output
    assert "sha256 is '12\\\\x1b[31m'" in run.text
    assert at_terminal.prompts[:2] == [DOWNLOAD, DOWNLOAD]
    assert in_sync(control)


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM"])
def test_killed_run_leaves_nobody_at_the_prompt(control: Control, tmp_path: Path, signal_name: str) -> None:
    """The worker that waits for a person ends, and the next run gets the lock of the cluster."""
    mark = uuid.uuid4().hex

    def kill(dummy: Prompt) -> str:
        processes = processes_with(mark)
        [main] = [pid for pid in processes if parent_of(pid) == os.getpid()]
        os.kill(main, signal.Signals[signal_name])
        return ""

    play_at_terminal(SYNC, control, *TERMINAL, *options(control, tmp_path), reply=kill, env={MARK: mark})
    wait_for(lambda: not processes_with(mark), limit=40)

    run = play_at_terminal(
        SYNC, control, *TERMINAL, *options(control, tmp_path), reply=PersonAtTerminal(WebconfPerson(control))
    )
    assert run.status == 0, run.output
    assert in_sync(control)


def test_json_text_of_a_survey_confirms_steps(control: Control, tmp_path: Path) -> None:
    """A job of AWX continues by the state of the nodes, with all entries of the field."""
    person = WebconfPerson(control, "Ada Example")
    confirmations = [person.act("node1", "package_downloaded")]

    def job() -> Run:
        more = {"key_sync_confirmations": json.dumps(confirmations), "awx_job_id": 7}
        return play(SYNC, control, *options(control, tmp_path, **more))

    stopped = job()
    assert stopped.status != 0
    assert '{"node": "node2", "step": "package_uploaded", "confirmed_by": "NAME", "sha256": "SHA256"}' in stopped.text
    confirmations.append(person.act("node2", "package_uploaded"))
    control.ejbca("node2", "deactivate")
    confirmations.append(person.act("node1", "package_destroyed"))
    done = job()
    assert done.status == 0, done.output
    assert "Ada Example" in done.text
    assert in_sync(control)


@pytest.mark.parametrize(
    "variables", [{}, {"utrust_terminal": "false"}, {"utrust_terminal": "true", "awx_job_id": "7"}]
)
def test_prompt_needs_a_declared_terminal(control: Control, tmp_path: Path, variables: dict[str, str]) -> None:
    """A pseudo terminal alone has no people, and a job of AWX has none."""

    def nobody(prompt: Prompt) -> str:
        raise AssertionError(prompt)

    run = play_at_terminal(SYNC, control, "-e", json.dumps(variables), *options(control, tmp_path), reply=nobody)
    assert run.status != 0
    assert "confirmation_missing" in run.text
    assert '"step": "package_downloaded"' in run.text


def test_run_without_a_terminal_says_so(control: Control, tmp_path: Path) -> None:
    run = play(SYNC, control, *TERMINAL, *options(control, tmp_path))
    assert run.status != 0
    assert "utrust_terminal is true, but this run has no terminal" in run.text
