# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start, find and stop the background process.

The process holds a lock on D/lock (flock(2)), which shows whether D is in use. A process id is valid only together with the start time, because the
system reuses process ids.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from utrust_appliance.errors import OperationError
from utrust_appliance.files import write_private

POLL = 0.02
MARK = ".utrust-appliance"


def claim(folder: Path) -> None:
    """Create or mark the folder. Raises OperationError if the folder contains other files."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise OperationError(f"{folder} contains other files. Use an empty or new folder.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not (folder / MARK).exists():
        write_private(
            folder / MARK,
            b"A simulated cluster. Created by `utrust-appliance up`, removed by `down --purge`.\n",
        )


def start_time(pid: int) -> str | None:
    """The start time of a process in the format of the system. None if the process does not exist or is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def lock(folder: Path, timeout: float = 0.0) -> t.IO[str] | None:
    """The lock of a folder, or None if another process holds it. `timeout` (seconds) covers callers that only test the lock."""
    file = open(folder / "lock", "a", encoding="utf-8")  # noqa: SIM115 - stays open as long as the lock is held
    end = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                file.close()
                return None
            time.sleep(POLL)
        else:
            return file


def read_run(folder: Path) -> dict[str, t.Any] | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        return t.cast("dict[str, t.Any]", json.loads((folder / "run.json").read_text(encoding="utf-8")))
    return None


def running(folder: Path) -> dict[str, t.Any] | None:
    """The content of run.json if a process serves this folder."""
    if not (folder / "lock").exists():
        return None
    file = lock(folder)
    if file is not None:
        file.close()
        return None
    return read_run(folder) or {"pid": None}


def spawn(folder: Path, options: dict[str, t.Any]) -> None:
    """Start the background process, and return when all nodes respond."""
    claim(folder)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "utrust_appliance.main", str(folder), json.dumps(options), str(writer)]
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(log)
        os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            message = pipe.read()
    except KeyboardInterrupt:
        child.terminate()
        raise
    if message == "ready":
        child.returncode = 0  # avoids the warning of Popen about a running child
        return
    child.wait()
    raise OperationError(
        message or f"The simulator ended during the start. See {folder / 'log'}:\n{tail(folder / 'log')}"
    )


def tail(path: Path, lines: int = 8) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def stop(folder: Path, timeout: float = 30.0) -> bool:
    """Stop the process that serves this folder. Returns False if no process serves it. `timeout` is in seconds."""
    run = running(folder)
    if run is None:
        return False
    _not_of_many(folder)
    pid = run["pid"]
    if pid is None or start_time(pid) != run["started"]:
        raise OperationError(
            f"{folder} is locked by a process that run.json does not name. The process was not stopped."
        )
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + timeout
    while running(folder) is not None or start_time(pid) == run["started"]:
        if time.monotonic() > end:
            raise OperationError(f"Process {pid} did not end within {timeout:g} s.")
        time.sleep(POLL)
    return True


def _not_of_many(folder: Path) -> None:
    if (folder.parent / "clusters.json").exists():
        raise OperationError(
            f"{folder} is one of the clusters in {folder.parent}. Stop or remove {folder.parent} as a whole."
        )


def purge(folder: Path) -> None:
    if not folder.exists():
        return
    _not_of_many(folder)
    if not (folder / MARK).exists():
        raise OperationError(f"{folder} was not created by `utrust-appliance up`. It was not removed.")
    shutil.rmtree(folder)
