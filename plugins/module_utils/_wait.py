# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for a node, with a time limit. Private to keyops.utrust."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UnreachableError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import require_run

T = t.TypeVar("T")


class WaitOptions(t.NamedTuple):
    """How long to wait for a node, in seconds. Clock and sleep are options so that tests do not wait."""

    timeout: float
    interval: float = 2.0
    clock: t.Callable[[], float] = time.monotonic
    sleep: t.Callable[[float], None] = time.sleep


def wait_until_available(
    read: t.Callable[[], T],
    wait_options: WaitOptions,
    action: str,
    *,
    not_ready: t.Callable[[T], str | None] = lambda dummy: None,
    tolerate_errors: float = 0.0,
    outcome: str = "Its keys may have changed",
) -> T:
    """Call `read` until the node is available, and return its result. `action` is part of the error message.

    A node that is unreachable or responds with HTTP 503 may be restarting. Every other error is raised after `tolerate_errors` seconds.
    `not_ready` returns why a result means that the node is still restarting, or None. `outcome` is part of the error message, too.
    Raises UtrustError (`node_wait_timeout`) when the time is over, and RunEndedError if nobody waits for the result any more.
    """
    started = wait_options.clock()
    while True:
        failure: UtrustError | None = None
        try:
            result = read()
            reason = not_ready(result)
            if reason is None:
                return result
        except (UnreachableError, ApiError) as exc:
            available = isinstance(exc, ApiError) and exc.details.get("http_status") != 503
            waited = wait_options.clock() - started
            if available and waited + wait_options.interval > min(tolerate_errors, wait_options.timeout):
                raise
            failure, reason = exc, str(exc)
        if wait_options.clock() - started + wait_options.interval > wait_options.timeout:
            raise UtrustError(
                f"{action}: timed out after {wait_options.timeout:g} s waiting for the node. {outcome}. "
                f"Check the node, then run again. Last state: {reason}",
                code="node_wait_timeout",
            ) from failure
        require_run()
        wait_options.sleep(wait_options.interval)
