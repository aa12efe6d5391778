# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find out what a request did whose response was lost. Private to keyops.utrust.

A slow node may list an object late, so the client looks again as long as its patience lasts.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

T = t.TypeVar("T")
#: Seconds between the first two readings. Each delay is twice the delay before it, up to `LONGEST_DELAY`.
FIRST_DELAY = 0.5
LONGEST_DELAY = 8.0
#: Codes of rejections that do not prove that the node did not act.
UNDECIDED = ("response_not_problem_json", "request_in_progress")
#: A node that is restarting or busy rejects every request for a while.
NOT_READY = (429, 503)


def was_rejected(failure: UtrustError) -> bool:
    """Return whether the node rejected the request with a problem document. After any other failure of a POST something may have changed."""
    status = failure.details.get("http_status", 0) if isinstance(failure, ApiError) else 0
    # A response that is not a problem document can be of a proxy that has sent the request to the node before.
    # A request that is in progress was sent before with the same key, and the node may still act on it.
    return (400 <= status < 500 or status in (501, 503)) and failure.code not in UNDECIDED


def look_again(lost: UtrustError, what: str, read: t.Callable[[], T | None], patience: WaitOptions) -> T | None:
    """Call `read` until it returns a result or the time is over, and return the result or None.

    Raises ResponseLostError (`outcome_unknown`) if the last reading failed. `lost` is the first failure, and `what` names what is read.
    """
    started = patience.clock()
    delay = FIRST_DELAY
    while True:
        failure: UtrustError | None = None
        try:
            found = read()
            if found is not None:
                return found
        except (ApiError, UnreachableError) as exc:
            failure = exc
        rejected = failure is not None and was_rejected(failure) and failure.details.get("http_status") not in NOT_READY
        if rejected or patience.clock() - started + delay > patience.timeout:
            break
        patience.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY)
    if failure is not None:
        raise ResponseLostError(
            f"{lost}. {what} could not be read, so the result is unknown: {failure}", code="outcome_unknown"
        ) from lost
    return None
