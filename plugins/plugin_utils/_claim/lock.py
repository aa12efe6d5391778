# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lock for runs on a cluster whose nodes offer no claim. Private to keyops.utrust.

The lock is a locked file in a directory that the runs share. A guard keeps the lock, so it ends with the run, also after SIGKILL.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import hashlib
import json
import os
import pathlib
import stat
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_TEXT
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import process_mark, try_lock
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import in_controller_job, is_blank
from ansible_collections.keyops.utrust.plugins.plugin_utils._run_directory import start_guard

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

MAX_CONTENT = 4096
#: Seconds that a guard needs to notice a release.
RELEASE_TIME = 10.0
#: Seconds between two progress lines of a run that waits.
PROGRESS_INTERVAL = 30.0
SHARED_DIRECTORIES = tuple(map(pathlib.Path, ("/run/lock", "/dev/shm", "/tmp")))

Show = t.Callable[[str], None]


@dc.dataclass(frozen=True)
class ClusterLock:
    """The lock of one cluster in a directory, for the run with the process `pid` and its private directory `private`."""

    directory: pathlib.Path
    cluster_id: str
    pid: int
    private: pathlib.Path

    @property
    def path(self) -> pathlib.Path:
        """The locked file. The cluster id is text of a node, so it is not part of the name."""
        return self.directory / f"keyops-utrust-{hashlib.sha256(self.cluster_id.encode()).hexdigest()[:16]}.lock"

    @property
    def marker(self) -> pathlib.Path:
        """The guard keeps the lock while this directory exists."""
        return self.private / ("lock-" + self.path.stem)

    def take(self, holder: str, patience: WaitOptions, show: Show) -> bool:
        """Take the lock, and return whether it is new. Raises UtrustError (`cluster_claimed`, `lock_not_available`, `guard_not_started`)."""
        with _opened(self.path) as descriptor:
            if not self._wait(descriptor, patience, show):
                return False
            content = json.dumps({"run": process_mark(self.pid), "holder": holder[:MAX_TEXT]}).encode()
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
            self.marker.mkdir(mode=0o700, exist_ok=True)
            start_guard(self.pid, self.marker, descriptor)
        return True

    def _wait(self, descriptor: int, patience: WaitOptions, show: Show) -> bool:
        """Return True as soon as this process has the lock, or False if a guard of this run has it. Raises UtrustError (`cluster_claimed`)."""
        started, shown = patience.clock(), None
        while not try_lock(descriptor):
            content = _content(descriptor)
            if content.get("run") == process_mark(self.pid) and self.marker.is_dir():
                return False
            waited = patience.clock() - started
            reason = f"{_holder(content)} has locked the cluster with {self.path}"
            if waited + patience.interval > patience.timeout:
                raise UtrustError(
                    f"claiming the cluster: {reason}. Nothing was changed after {waited:.0f} s of waiting. Wait until that run has ended, then run again",
                    code="cluster_claimed",
                )
            if shown is None or waited - shown >= PROGRESS_INTERVAL:
                shown = waited
                show(f"waiting at most {patience.timeout - waited:.0f} s: {reason}")
            patience.sleep(patience.interval)
        return True

    def other_holder(self) -> str | None:
        """Return who else has the lock, as text for people, or None. Raises UtrustError (`lock_not_available`)."""
        if not self.path.exists():
            return None
        with _opened(self.path) as descriptor:
            if try_lock(descriptor):
                return None
            content = _content(descriptor)
        return None if content.get("run") == process_mark(self.pid) else _holder(content)

    def release(self, patience: WaitOptions) -> None:
        """Release the lock of this run, and wait until its guard has noticed this."""
        with contextlib.suppress(FileNotFoundError):
            self.marker.rmdir()
        with _opened(self.path) as descriptor:
            started = patience.clock()
            while not try_lock(descriptor):
                if patience.clock() - started > patience.timeout or _content(descriptor).get("run") != process_mark(
                    self.pid
                ):
                    return
                patience.sleep(patience.interval)


def lock_directory(variables: t.Mapping[str, t.Any]) -> pathlib.Path:
    """Return the directory of the variable `utrust_lock_dir`, or a directory that all users of this machine share.

    Raises UtrustError (`claim_not_shared`) for a job of AWX without the variable, because jobs run on several machines and in containers,
    and UtrustError (`lock_not_available`).
    """
    named = variables.get("utrust_lock_dir")
    if not is_blank(named):
        return pathlib.Path(str(named).strip()).expanduser()
    if in_controller_job(variables):
        raise UtrustError(
            "claiming the cluster: its nodes offer no claim, and jobs of a controller can run on different machines. Nothing was changed. "
            "Set the variable utrust_lock_dir to a directory that all jobs for this cluster share",
            code="claim_not_shared",
        )
    shared = next((path for path in SHARED_DIRECTORIES if _is_shared(path)), None)
    if shared is None:
        raise UtrustError(
            "claiming the cluster: its nodes offer no claim, and this machine has no directory that all users share. Nothing was changed. "
            "Set the variable utrust_lock_dir to a directory in which every user of the collection can write",
            code="lock_not_available",
        )
    return shared


def _is_shared(path: pathlib.Path) -> bool:
    """Whether every user can write in the directory. In another directory, two users would have two locks: some systems let only root use /run/lock."""
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_mode & 0o1777 == 0o1777


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> t.Iterator[int]:
    """Open the file of a lock, which another user may have created. Raises UtrustError (`lock_not_available`)."""
    try:
        descriptor = _open(path)
    except OSError as exc:
        raise UtrustError(
            f"opening the lock {path}: {exc.strerror or exc}. Nothing was changed. "
            "Set the variable utrust_lock_dir to a directory in which every user of the collection can write",
            code="lock_not_available",
        ) from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: pathlib.Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(descriptor, 0o666)  # other users must be able to lock the file, too. It has no secret
            return descriptor


def _content(descriptor: int) -> dict[str, t.Any]:
    try:
        found = json.loads(os.pread(descriptor, MAX_CONTENT, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _holder(content: t.Mapping[str, t.Any]) -> str:
    return escape_unprintable(str(content.get("holder") or "another run"))[:MAX_TEXT]
