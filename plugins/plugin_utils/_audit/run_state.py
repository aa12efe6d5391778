# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""State that the callback shares with the tasks of the same run. Private to keyops.utrust.

The callback runs in Ansible's main process, and tasks run in its children. An environment variable that the callback sets reaches every later task.
The state includes the PID, so that a nested run ignores the callback of the outer run.
"""

from __future__ import annotations

import json
import os
import typing as t

VARIABLE: t.Final = "UTRUST_AUDIT_RUN"


class RunState(t.NamedTuple):
    """The audit trail of a run.

    `not_persistent` is the reason why the path does not persist, or empty. `failure` is empty while every event was recorded.
    """

    pid: int
    job: str
    file: str
    not_persistent: str
    failure: str


def publish_state(state: RunState) -> None:
    os.environ[VARIABLE] = json.dumps(state._asdict())


def clear_state() -> None:
    os.environ.pop(VARIABLE, None)


def current_run() -> RunState | None:
    """The state that the callback of this run published, or None without an active callback."""
    try:
        state = RunState(**json.loads(os.environ[VARIABLE]))
    except (KeyError, TypeError, ValueError):
        return None
    return state if state.pid in (os.getpid(), os.getppid()) else None
