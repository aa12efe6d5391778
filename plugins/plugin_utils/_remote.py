# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module on a bastion must end with its run. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import threading
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._run.life import run_has_ended

#: Seconds between two looks at the run.
INTERVAL = 0.5


@contextlib.contextmanager
def end_with_run() -> t.Iterator[None]:
    """While this worker waits for a module, let the end of the run end its child processes and the worker.

    The connection to the bastion then closes, and the module notices this at its output.
    """
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(done,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(done: threading.Event) -> None:
    while not done.wait(INTERVAL):
        if run_has_ended():
            for child in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
            os._exit(1)


def _children() -> list[int]:
    """Return the child processes of this process. Without /proc, no process is found, and only the end of the claim stops the module."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found
