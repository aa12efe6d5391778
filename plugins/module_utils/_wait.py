# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for a node, with a time limit and a monotonic clock. Private to keyops.utrust."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UnreachableError, UtrustError

T = t.TypeVar("T")


class WaitOptions(t.NamedTuple):
    """How long to wait for a node that restarts; seconds. Clock and sleep are arguments so that tests do not wait."""

    timeout: float
    interval: float = 2.0
    clock: t.Callable[[], float] = time.monotonic
    sleep: t.Callable[[float], None] = time.sleep


def wait_until_available(read: t.Callable[[], T], patience: WaitOptions, action: str) -> T:
    """What `read` returns, as soon as the node answers it.

    A node that is unreachable or says 503 may be restarting; anything else is raised at once. Raises UtrustError (`node_wait_timeout`) with the last
    message when the time is over.
    """
    started = patience.clock()
    while True:
        try:
            return read()
        except (UnreachableError, ApiError) as exc:
            if isinstance(exc, ApiError) and exc.details.get("http_status") != 503:
                raise
            waited = patience.clock() - started
            if waited + patience.interval > patience.timeout:
                raise UtrustError(
                    f"{action}: the node gave no good answer within {patience.timeout:g} s; last: {exc}; "
                    "its keys may have changed. Look at the node, then run again",
                    code="node_wait_timeout",
                ) from exc
        patience.sleep(patience.interval)
