# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for a node, with a time limit. Private to keyops.utrust."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UnreachableError, UtrustError

T = t.TypeVar("T")


class WaitOptions(t.NamedTuple):
    """How long to wait for a node, in seconds. Clock and sleep are options so that tests do not wait."""

    timeout: float
    interval: float = 2.0
    clock: t.Callable[[], float] = time.monotonic
    sleep: t.Callable[[float], None] = time.sleep


def wait_until_available(read: t.Callable[[], T], wait_options: WaitOptions, action: str) -> T:
    """Call `read` until the node is available, and return its result. `action` is part of the error message.

    A node that is unreachable or responds with HTTP 503 may be restarting. Every other error is raised at once.
    Raises UtrustError (`node_wait_timeout`) when the time is over.
    """
    started = wait_options.clock()
    while True:
        try:
            return read()
        except (UnreachableError, ApiError) as exc:
            if isinstance(exc, ApiError) and exc.details.get("http_status") != 503:
                raise
            waited = wait_options.clock() - started
            if waited + wait_options.interval > wait_options.timeout:
                raise UtrustError(
                    f"{action}: timed out after {wait_options.timeout:g} s waiting for the node. Its keys may have changed. "
                    f"Check the node, then run again. Last error: {exc}",
                    code="node_wait_timeout",
                ) from exc
        wait_options.sleep(wait_options.interval)
