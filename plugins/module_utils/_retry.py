# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a request may be sent again. Private to keyops.utrust."""

from __future__ import annotations

REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
REFUSED = frozenset({429, 503})
LOST = frozenset({None, 502, 504})
MAX_DELAY = 30.0


def delay_before_retry(
    method: str, status: int | None, attempt: int, *, limit: int, retry_after: float | None = None
) -> float | None:
    """Seconds to wait before sending the request again, or None if it must not be sent again.

    `status` is None when no answer came. A node that answers 429 or 503 says that it did not start; a lost answer
    allows a repetition only where repeating cannot do anything twice. `attempt` counts from 1.
    """
    refused = status in REFUSED
    lost = status in LOST and method in REPEATABLE
    if attempt > limit or not (refused or lost):
        return None
    return min(retry_after if retry_after is not None else 0.5 * 2.0 ** (attempt - 1), MAX_DELAY)
