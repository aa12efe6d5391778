# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times: the wall clock for display, the monotonic clock for every limit."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


def utc_now(skew: float = 0.0) -> str:
    """The current time in RFC 3339, UTC, with seconds. `skew` is in seconds."""
    return (datetime.now(UTC) + timedelta(seconds=skew)).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_in(seconds: float) -> str:
    return utc_now(seconds)


class Deadlines:
    """Expiry times of objects. A limit is monotonic within a process, and follows the wall clock after a restart. `ttl` is in seconds."""

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        self._ends: dict[str, float] = {}

    def start(self, object_id: str) -> None:
        self._ends[object_id] = time.monotonic() + self.ttl

    def resume(self, object_id: str, expires_at: str) -> None:
        left = datetime.fromisoformat(expires_at).timestamp() - time.time()
        self._ends[object_id] = time.monotonic() + min(max(left, 0.0), self.ttl)

    def passed(self) -> list[str]:
        now = time.monotonic()
        return [object_id for object_id, end in list(self._ends.items()) if now >= end]

    def forget(self, object_id: str) -> None:
        self._ends.pop(object_id, None)
