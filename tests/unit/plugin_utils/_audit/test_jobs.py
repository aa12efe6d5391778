# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs whose process is gone, and the state that the callback shares with the tasks."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import jobs, run_state
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditFile
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.verify import verify_file

if t.TYPE_CHECKING:
    from pathlib import Path


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("changed", "gone"),
    [
        ({}, False),
        ({"pid": "DEAD"}, True),
        ({"start_time": "1"}, True),
        ({"boot_id": "another boot"}, True),
        ({"pid_namespace": "pid:[1]"}, False),
        ({"pid_namespace": "pid:[1]", "pid": "DEAD"}, False),
        ({"start_time": ""}, False),
        ({"boot_id": ""}, False),
        ({"pid": "text"}, False),
        ({"pid": None}, False),
    ],
)
def test_process_is_gone_only_if_that_is_certain(changed: dict[str, t.Any], gone: bool) -> None:
    """A PID that another process got is gone. A process of another container is unknown."""
    changed = {name: dead_pid() if value == "DEAD" else value for name, value in changed.items()}
    assert jobs.is_gone({**jobs.this_process(), **changed}) is gone


@pytest.mark.parametrize("process", [None, {}, [], 7, "4711"])
def test_process_of_another_form_is_unknown(process: t.Any) -> None:
    assert jobs.is_gone(process) is False


def started(job: str, **changed: t.Any) -> dict[str, t.Any]:
    process = {**jobs.this_process(), **changed}
    return {"event": "job_started", "job": job, "time": "now", "machine": "here", "process": process}


def test_lost_job_is_recorded_once(tmp_path: Path) -> None:
    """A job whose process is gone is closed by a record of the next run. Living and ended jobs are not."""
    path = str(tmp_path / "audit.jsonl")
    file = AuditFile(path)
    assert jobs.lost_jobs(path, "here") == []
    for record in (started("lives"), started("lost", pid=dead_pid()), started("ended", pid=dead_pid())):
        file.append(record)
    file.append({"event": "job_ended", "job": "ended"})
    file.append({**started("elsewhere", pid=dead_pid()), "machine": "there"})

    assert [record["job"] for record in jobs.lost_jobs(path, "here")] == ["lost"]
    file.append({"event": "job_lost", "job": "next", "lost_job": "lost"})

    assert jobs.lost_jobs(path, "here") == []
    assert [job["job"] for job in verify_file(path)["open_jobs"]] == ["lives", "elsewhere"]


def test_broken_file_has_no_lost_jobs(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditFile(str(path)).append(started("lost", pid=dead_pid()))
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    assert jobs.lost_jobs(str(path), "here") == []


STATE = run_state.RunState("job", "/f", "", "")


@pytest.mark.parametrize(
    "value",
    [
        json.dumps({"pid": os.getpid(), "job": "x", "file": "/f", "not_persistent": "", "failure": ""}),
        json.dumps(STATE._asdict()),
        "1",
    ],
    ids=["with PID", "without PID", "number"],
)
def test_environment_is_not_the_state_of_a_run(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("UTRUST_AUDIT_RUN", value)
    run_state.clear_state()
    assert run_state.current_run() is None


def test_forked_task_has_the_state_of_the_run() -> None:
    """Tasks run in children of the process where the callback runs."""
    run_state.publish_state(STATE)
    try:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply(run_state.current_run) == STATE
    finally:
        run_state.clear_state()
    assert run_state.current_run() is None
