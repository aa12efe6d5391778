# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The private directory of a run on this machine, and its guard. Private to keyops.utrust.

The guard is a process that outlives the run. It holds a lock in the directory while the run lives, and removes the directory when the run ends, also after
SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._run import guard
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import (
    ALIVE,
    TASKS,
    PrivateDirectory,
    base_directories,
    is_private,
    open_lock,
    run_name,
    try_lock,
)

if t.TYPE_CHECKING:
    import pathlib

#: Seconds to wait for another task of the same run, and between two attempts.
LOCK_TIME = 600.0
LOCK_INTERVAL = 0.05
#: Variables that a program needs to start.
GUARD_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def find_run_directory(pid: int) -> pathlib.Path | None:
    """Return the private directory of the run with the process `pid`, or None if it is missing."""
    found = (base / run_name(pid) for base in base_directories())
    return next((path for path in found if is_private(path)), None)


@contextlib.contextmanager
def lock_run_directory(pid: int) -> t.Iterator[PrivateDirectory]:
    """Create the private directory of a run, start its guard, and let one task of the run at a time into the block.

    Raises UtrustError (`run_directory_missing`, `run_directory_busy`, `guard_not_started`).
    """
    path, descriptor = _locked_directory(pid)
    try:
        os.pwrite(descriptor, str(pid).encode(), 0)  # for `_is_running`
        _ensure_guard(path, pid)
        yield PrivateDirectory(path)
    finally:
        os.close(descriptor)


def open_run_directory(pid: int) -> PrivateDirectory:
    """Return the private directory of a run, with a guard. Raises UtrustError (`run_directory_missing`, `guard_not_started`)."""
    with lock_run_directory(pid) as directory:
        return directory


def start_guard(pid: int, directory: pathlib.Path, descriptor: int) -> None:
    """Start a guard that keeps the lock of `descriptor` until the process ends or the directory is gone.

    Raises UtrustError (`guard_not_started`).
    """
    command = [sys.executable, "-I", "-S", guard.__file__, str(pid), guard.start_time(pid), str(directory)]
    try:
        subprocess.run(
            command,
            pass_fds=(descriptor,),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # The environment of the run can have a token.
            env={name: os.environ[name] for name in GUARD_ENVIRONMENT if name in os.environ},
            cwd="/",
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise UtrustError(
            f"starting the process that removes packages of a killed run: {exc}. Nothing was changed. "
            "Check that the machine has free memory and processes, then run again",
            code="guard_not_started",
        ) from exc


def _locked_directory(pid: int) -> tuple[pathlib.Path, int]:
    while True:
        path = _create(pid)
        with contextlib.suppress(FileNotFoundError):  # another run has removed the directory before it was locked
            descriptor = open_lock(path / TASKS)
            _wait_for_lock(path, descriptor)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), (path / TASKS).stat()):
                    return path, descriptor
            os.close(descriptor)


def _wait_for_lock(path: pathlib.Path, descriptor: int) -> None:
    """Wait for the task of this run that has the lock: it may wait for a claim. Raises UtrustError (`run_directory_busy`)."""
    end = time.monotonic() + LOCK_TIME
    while not try_lock(descriptor):
        if time.monotonic() > end:
            os.close(descriptor)
            raise UtrustError(
                f"locking {path}: another task of this run has had the lock for {LOCK_TIME:g} s. Nothing was changed. "
                "End this run, check its bastion, then run again",
                code="run_directory_busy",
            )
        time.sleep(LOCK_INTERVAL)


def _create(pid: int) -> pathlib.Path:
    reason = "no directory for temporary files is writable"
    for base in base_directories():
        path = base / run_name(pid)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            reason = f"another user has created {path}"
        except OSError as exc:
            reason = f"{path}: {exc.strerror or exc}"
        if is_private(path):
            return path
    raise UtrustError(
        f"creating the private directory of this run: {reason}. Nothing was changed. Set XDG_RUNTIME_DIR to a private directory",
        code="run_directory_missing",
    )


def _ensure_guard(path: pathlib.Path, pid: int) -> None:
    descriptor = open_lock(path / ALIVE)
    try:
        if try_lock(descriptor):
            start_guard(pid, path, descriptor)
    finally:
        os.close(descriptor)
