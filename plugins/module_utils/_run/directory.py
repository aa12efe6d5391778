# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private directories of runs: packages, tokens and notes. Private to keyops.utrust.

A package is a copy of all CA keys, encrypted under the MBK. Its directory has mode 0700, in memory if available.
A run on this machine has one directory, which `plugin_utils/_run_directory` creates. Its guard holds a lock in it.
The lock shows to other runs that this run lives, also in another PID namespace. Every run removes directories without a living run.
A run on another machine has a directory for each package, which expires.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import fcntl
import hashlib
import os
import pathlib
import re
import secrets
import stat
import tempfile
import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._printable import make_printable
from ansible_collections.keyops.utrust.plugins.module_utils._run import guard

PREFIX = "keyops-utrust-"
RUN_PREFIX = PREFIX + "run-"
LEASE_PREFIX = PREFIX + "lease-"
PACKAGE_PREFIX = "package-"
ALIVE = "alive"
TASKS = "tasks"


def base_directories() -> list[pathlib.Path]:
    """Return the possible parents of private directories. Directories in memory come before directories for temporary files.

    A runtime directory of another user, as after sudo, is not used: that user could remove the package, and this user would not find it again.
    """
    names = (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}")
    paths = (pathlib.Path(name) for name in names if name)
    own = [path for path in paths if path.is_absolute() and _belongs_to_user(path)]
    shared = [pathlib.Path(name) for name in ("/dev/shm", "/tmp", tempfile.gettempdir())]
    return [path for path in dict.fromkeys([*own, *shared]) if path.is_dir() and os.access(path, os.W_OK | os.X_OK)]


def _belongs_to_user(path: pathlib.Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid()
    except OSError:
        return False


@dc.dataclass(frozen=True)
class PrivateDirectory:
    """A directory with mode 0700 that is removed at the end of the run."""

    path: pathlib.Path

    def new_package_directory(self) -> pathlib.Path:
        return pathlib.Path(tempfile.mkdtemp(prefix=PACKAGE_PREFIX, dir=self.path))

    @contextlib.contextmanager
    def note(self, path: pathlib.Path) -> t.Iterator[None]:
        """Let the end of the run remove the incomplete file `path`, unless this block ends before. Raises UtrustError (`package_not_written`)."""
        file = self.path / (secrets.token_hex(8) + guard.NOTE_SUFFIX)
        with _coded("package_not_written", f"writing {path}"):
            file.write_bytes(os.fsencode(path.absolute()))
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def leased_directory(ttl: int, cluster_id: str) -> t.Iterator[PrivateDirectory]:
    """Create a directory of a run on another machine. It expires after `ttl` seconds.

    Another run that has claimed the same cluster removes the directory before. The directory is removed after the block if it is empty.
    """
    cluster = hashlib.sha256(cluster_id.encode()).hexdigest()[:12]
    path = pathlib.Path(tempfile.mkdtemp(prefix=f"{LEASE_PREFIX}{ttl}-{cluster}-", dir=base_directories()[0]))
    try:
        yield PrivateDirectory(path)
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()


def remove_stale(*, cluster_id: str | None = None) -> list[str]:
    """Remove private directories of this user without a living run. Return the paths of the packages and incomplete files.

    With `cluster_id`, the caller has claimed this cluster, so every directory of a run on another machine for the same cluster is stale.
    """
    removed: list[str] = []
    for path in (path for base in base_directories() for path in sorted(base.glob(PREFIX + "*"))):
        # Another run may remove the same directory, and a directory that cannot be removed must not prevent a run.
        with contextlib.suppress(OSError):
            if is_private(path):
                removed += _remove_run(path) if path.name.startswith(RUN_PREFIX) else _remove_lease(path, cluster_id)
    return removed


def removed_line(path: str) -> str:
    """Return a result of `remove_stale` as a line for people."""
    return f"removed a package that a killed run had left: {make_printable(path)}"


def remove_package_directory(path: pathlib.Path) -> None:
    """Remove a directory of `new_package_directory`, and its parent if the parent is for this package only."""
    with contextlib.suppress(FileNotFoundError):
        for file in path.iterdir():
            file.unlink(missing_ok=True)
        path.rmdir()
    if path.parent.name.startswith(LEASE_PREFIX):
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def is_package_directory(path: pathlib.Path) -> bool:
    return path.name.startswith(PACKAGE_PREFIX) and path.parent.name.startswith((RUN_PREFIX, LEASE_PREFIX))


def try_lock(descriptor: int) -> bool:
    """Lock an open file without waiting. Return whether nobody else has the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def process_mark(pid: int) -> str:
    """Return a short identity of a process, which no other process on this kernel has, also in another PID namespace."""
    facts = (boot_id(), pid_namespace(), str(pid), guard.start_time(pid))
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:16]


def boot_id() -> str:
    """Return the identity of the last boot, or an empty text if the system has none."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """Return the PID namespace of this process, or an empty text if the system has none."""
    try:
        return str(pathlib.Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def run_name(pid: int) -> str:
    return RUN_PREFIX + process_mark(pid)


def is_private(path: pathlib.Path) -> bool:
    """Whether the path is a directory that only this user can access. Another user could create a directory with its name first."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def open_lock(path: pathlib.Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_running(path: pathlib.Path) -> bool:
    """Whether the process of a run lives, although its guard may have been killed. In another PID namespace, only the lock shows this."""
    try:
        return run_name(int((path / TASKS).read_bytes())) == path.name
    except (OSError, ValueError):
        return False


def _remove_run(path: pathlib.Path) -> list[str]:
    if _is_running(path):
        return []
    with contextlib.ExitStack() as undo:
        for name in (TASKS, ALIVE):
            descriptor = open_lock(path / name)
            undo.callback(os.close, descriptor)
            if not try_lock(descriptor):
                return []
        return guard.remove_directory(path)


def _remove_lease(path: pathlib.Path, cluster_id: str | None) -> list[str]:
    match = re.fullmatch(LEASE_PREFIX + r"(\d+)-([0-9a-f]{12})-[^-]+", path.name)
    if match is None:
        return []
    same = cluster_id is not None and hashlib.sha256(cluster_id.encode()).hexdigest()[:12] == match[2]
    if not same and time.time() - path.stat().st_ctime < int(match[1]):
        return []
    return guard.remove_directory(path)


@contextlib.contextmanager
def _coded(code: str, action: str) -> t.Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise UtrustError(
            f"{action}: {exc.strerror or exc}. Free disk space, or choose another directory", code=code
        ) from exc
