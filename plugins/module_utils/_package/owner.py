# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Identity of the run that owns a directory with a package. Private to keyops.utrust."""

from __future__ import annotations

import hashlib
import os
import pathlib


def process_identity(pid: int) -> str | None:
    """Return a short identity of a process, or None if the process has ended. A later process with the same PID has another identity.

    Without /proc (macOS) all processes have the same identity. A package of a dead run may then stay until the process with its PID ends.
    """
    if not pathlib.Path("/proc/self/stat").exists():
        return "alive" if _is_process(pid) else None
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    started = fields[19] + pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return hashlib.sha256(started.encode()).hexdigest()[:12]


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # a process of another user
    return True
