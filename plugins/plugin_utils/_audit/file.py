# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Appending to the audit file under a lock, with a signed head. Private to keyops.utrust.

Several runs may append to one file at the same time. The collection never removes or rewrites a record.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import stat
import time
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.signed_head import (
    Signer,
    check_signed_head,
    check_unsigned,
    write_signed_head,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.tail import count_line_feeds, read_tail, recover_tail

LOCK_TIMEOUT: t.Final = 30.0


class AuditFile:
    """Appends records to one file. Each call opens the file again, so that no lock is held while a run waits for people."""

    def __init__(self, path: str, signer: Signer | None = None, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        """`lock_timeout` is in seconds."""
        self.path = os.path.realpath(path)
        self._signer = signer
        self._lock_timeout = lock_timeout

    def append(self, record: chain.Record) -> chain.Head:
        """Write one record to disk, and before it a record about the fragments of a killed writer. Raises AuditError."""
        try:
            with self._locked() as descriptor:
                return self._append(descriptor, record)
        except chain.ChainError as exc:
            raise AuditError(
                "audit_broken",
                f"appending to {self.path} failed. Its last line is broken: {exc}. Nothing was written. "
                "Verify the file, keep it unchanged, and configure another file",
            ) from exc
        except OSError as exc:
            raise AuditError(
                "audit_not_written", f"appending to {self.path} failed: {exc}. Make the file writable, then run again"
            ) from exc

    @contextlib.contextmanager
    def _locked(self) -> t.Iterator[int]:
        _check_directory(pathlib.Path(self.path).parent)
        end = time.monotonic() + self._lock_timeout
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                while not _try_lock(descriptor):
                    if time.monotonic() > end:
                        raise AuditError(
                            "audit_locked",
                            f"locking {self.path} failed. Another process holds the lock for {self._lock_timeout:g} s. Wait for the other run, then run again",
                        )
                    time.sleep(0.01)
                if _is_still_at(self.path, descriptor):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)  # This also releases the lock.

    def _append(self, descriptor: int, record: chain.Record) -> chain.Head:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022 or status.st_uid != os.geteuid():
            raise AuditError(
                "audit_not_private",
                f"{self.path} is not a regular file that belongs to you and that only you can write. Set its owner, and its mode to 0600",
            )
        tail = read_tail(descriptor, status.st_size)
        head = tail.head
        if self._signer is None:
            check_unsigned(self.path, tail.record)
        else:
            check_signed_head(self.path, self._signer, head)
        lines: list[bytes] = []
        if tail.rest or tail.marked:
            start, found, head = recover_tail(tail, count_line_feeds(descriptor, status.st_size))
            lines.append(start)
            line, head = self._next({**_context(record), **found}, head)
            lines.append(line + b"\n")
        line, head = self._next(record, head)
        _write(descriptor, b"".join([*lines, line + b"\n"]))
        os.fsync(descriptor)
        if status.st_size == 0:
            _sync_directory(pathlib.Path(self.path).parent)
        if self._signer is not None:
            write_signed_head(self.path, self._signer, head)
        return head

    def _next(self, record: chain.Record, head: chain.Head) -> tuple[bytes, chain.Head]:
        if self._signer is None:
            return chain.append_record(record, head)
        return chain.append_record({**record, "signing_key": self._signer.name}, head, self._signer.signature)


def _context(record: chain.Record) -> chain.Record:
    return {name: record[name] for name in ("time", "job") if name in record}


def _check_directory(path: pathlib.Path) -> None:
    """The owner of a directory can replace every file in it. Raises AuditError."""
    if path.stat().st_uid not in (os.geteuid(), 0):
        raise AuditError(
            "audit_not_private", f"the directory {path} belongs to another user. Choose a directory of your own"
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still_at(path: str, descriptor: int) -> bool:
    """Whether the path still names the open file, because a process may move the file during the wait for the lock."""
    opened = os.fstat(descriptor)
    try:
        current = pathlib.Path(path).stat()
    except FileNotFoundError:
        return False
    return (opened.st_dev, opened.st_ino) == (current.st_dev, current.st_ino)


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _sync_directory(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
