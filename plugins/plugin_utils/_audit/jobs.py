# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs without an end record: whether their process still runs. Private to keyops.utrust."""

from __future__ import annotations

import os
import pathlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import boot_id, pid_namespace
from ansible_collections.keyops.utrust.plugins.module_utils._run.guard import start_time
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain

Process = dict[str, t.Any]


def this_process() -> Process:
    """Return what identifies this process on this machine until the next boot. A PID alone is used again."""
    return {
        "pid": os.getpid(),
        "start_time": start_time(os.getpid()),
        "boot_id": boot_id(),
        "pid_namespace": pid_namespace(),
    }


def lost_jobs(path: str, machine: str) -> list[chain.Record]:
    """Return the start records of jobs that did not end, and whose process is gone. A broken file has none."""
    try:
        lines = pathlib.Path(path).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    found = chain.verify(lines)
    if found.first_broken is not None:
        return []
    started = [chain.read_record(lines[line - 1].removesuffix(b"\n")) for line in found.open_jobs.values()]
    return [record for record in started if record.get("machine") == machine and is_gone(record.get("process"))]


def is_gone(process: t.Any) -> bool:
    """Whether the process has certainly ended. Another container can have the same machine name, so its processes are unknown."""
    if not isinstance(process, dict) or not isinstance(process.get("pid"), int):
        return False
    here = this_process()
    if not here["boot_id"] or process.get("boot_id") != here["boot_id"]:
        return bool(here["boot_id"] and process.get("boot_id"))
    if not here["pid_namespace"] or process.get("pid_namespace") != here["pid_namespace"]:
        return False
    return bool(process.get("start_time")) and start_time(process["pid"]) != process["start_time"]
