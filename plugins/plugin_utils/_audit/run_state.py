# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""State that the callback shares with the tasks of the same run. Private to keyops.utrust.

The callback runs in Ansible's main process. Tasks run in its children, which inherit the state when they are forked.
The environment has no part in this, because everybody who starts a run can set a variable.
"""

from __future__ import annotations

import typing as t


class RunState(t.NamedTuple):
    """The audit trail of a run.

    `not_persistent` is the reason why the path does not persist, or empty. `failure` is empty while every event was recorded.
    """

    job: str
    file: str
    not_persistent: str
    failure: str


_published: list[RunState] = []


def publish_state(state: RunState) -> None:
    _published[:] = [state]


def clear_state() -> None:
    _published.clear()


def current_run() -> RunState | None:
    """The state that the callback of this run published, or None without an active callback."""
    return _published[0] if _published else None
