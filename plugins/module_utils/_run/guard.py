# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Program that outlives a run and removes its private directory. Private to keyops.utrust.

`plugin_utils/_run_directory` starts it as `python -I guard.py PID START_TIME DIRECTORY`, with descriptors of locked files.
A process that ends by SIGKILL cannot clean up.
The guard keeps the locks while the run lives and the directory exists. It never contacts a node.
The program can import nothing of the collection, so the collection imports from here what both need.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import shutil
import signal
import sys
import time

#: A file with this suffix in a private directory has the path of a file outside, which is incomplete until its manifest is beside it.
NOTE_SUFFIX = ".path"
MANIFEST_SUFFIX = ".manifest.json"
PACKAGE_SUFFIX = ".ksp"
#: Seconds between two looks at the directory.
INTERVAL = 0.5
REMOVAL_ATTEMPTS = 60


def start_time(pid: int) -> str:
    """Return when a process started, or an empty text if the process has ended. A later process with the same PID has another time.

    Without /proc (macOS), the text is the same for every process. A later process with the same PID then takes over what a killed run left.
    """
    if not pathlib.Path("/proc/self/stat").exists():
        return "alive" if _is_process(pid) else ""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # a process of another user
    return True


def remove_directory(directory: pathlib.Path) -> list[str]:
    """Remove a private directory, and the incomplete files that it names. Return the paths of the packages and incomplete files."""
    removed = [str(path) for path in sorted(directory.glob(f"*/*{PACKAGE_SUFFIX}"))]
    for note in sorted(directory.glob("*" + NOTE_SUFFIX)):
        with contextlib.suppress(OSError, ValueError):  # a full disk or a kill can leave a note without its path
            path = pathlib.Path(note.read_text(encoding="utf-8", errors="surrogateescape"))
            if not path.with_name(path.name + MANIFEST_SUFFIX).exists():
                path.unlink()
                removed.append(str(path))
    shutil.rmtree(directory)
    return removed


def wait_for_end(pid: int, started: str, directory: pathlib.Path) -> None:
    """Return when the process has ended or the directory is gone."""
    descriptor = None
    with contextlib.suppress(AttributeError, OSError):  # macOS, and Linux before 5.3
        descriptor = os.pidfd_open(pid)
    while started and start_time(pid) == started and directory.is_dir():
        if descriptor is None:
            time.sleep(INTERVAL)
        else:
            select.select([descriptor], [], [], INTERVAL)


def main(pid: str, started: str, directory: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the end of a service or session ends the run, too
        signal.signal(number, signal.SIG_IGN)
    if os.fork():
        os._exit(0)  # the task that has started the guard goes on, and does not wait for its end
    wait_for_end(int(pid), started, pathlib.Path(directory))
    for dummy in range(REMOVAL_ATTEMPTS):  # a task that has outlived its run can still write a file
        if not pathlib.Path(directory).is_dir():
            return
        with contextlib.suppress(OSError):
            remove_directory(pathlib.Path(directory))
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main(*sys.argv[1:])
