# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interruptions of a task after the point of no return. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

if t.TYPE_CHECKING:
    import types

    from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions


class InterruptedTaskError(UtrustError):
    """The task was interrupted, and something may have changed."""

    def with_outcome(self, outcome: str) -> t.Self:
        """Return the same error with what was read afterwards."""
        return type(self)(f"{self}. {outcome}", code=self.code, changed=True)


class CodedInterruption:
    """A context that turns an interruption into InterruptedTaskError, so that the code after it can read the node.

    The time-out of a task in Ansible is not an `Exception`, and becomes `task_interrupted`. It interrupts a task once, so it does not interrupt
    the reading afterwards. An unexpected exception becomes `internal_error`, as everywhere.
    """

    def __init__(self, action: str) -> None:
        self._action = action

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if error is None or isinstance(error, (UtrustError, GeneratorExit)):
            return
        raise InterruptedTaskError(
            f"{self._action}: the task was interrupted ({type(error).__name__})",
            code="internal_error" if isinstance(error, Exception) else "task_interrupted",
        ) from error


def shortened(patience: WaitOptions) -> WaitOptions:
    """Return how long to wait for a node after an interruption."""
    return patience._replace(timeout=min(patience.timeout, limits.MAX_LOOKUP_TIME))
