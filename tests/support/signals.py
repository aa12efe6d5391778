# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signals of processes that tests start."""

from __future__ import annotations

import signal


def default_signals() -> None:
    """Undo what the process inherits from nohup or from a shell in the background. For `preexec_fn` of a process that a test ends by a signal."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
