# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the callback of a run tells the tasks of the same run. Private to keyops.utrust.

The callback lives in Ansible's main process, tasks in children of it, so an environment variable that the callback sets reaches every task that
starts later. It names the process, so that a run inside a run does not take the outer run's callback for its own.
"""

from __future__ import annotations

import json
import os
import typing as t

VARIABLE: t.Final = "UTRUST_AUDIT_RUN"


class RunState(t.NamedTuple):
    """Evidence of the run with this process: `failure` is empty as long as every event could be written, `volatile` if the path persists."""

    pid: int
    job: str
    file: str
    volatile: str
    failure: str


def publish_state(state: RunState) -> None:
    os.environ[VARIABLE] = json.dumps(state._asdict())


def clear_state() -> None:
    os.environ.pop(VARIABLE, None)


def current_run() -> RunState | None:
    """What this run's callback said; None if there is none, or if it belongs to another run."""
    try:
        state = RunState(**json.loads(os.environ[VARIABLE]))
    except (KeyError, TypeError, ValueError):
        return None
    return state if state.pid in (os.getpid(), os.getppid()) else None
