# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for a condition, with a time limit."""

from __future__ import annotations

import time
import typing as t


def wait_for(condition: t.Callable[[], bool], limit: float = 180) -> None:
    """Until the condition holds; fails when the limit (seconds) is over."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not happen"
        time.sleep(0.05)
