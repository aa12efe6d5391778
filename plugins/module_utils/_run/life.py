# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the run that started this process still lives. Private to keyops.utrust.

Ansible forks a worker for each task. If the main process is killed, the worker goes on alone, and nobody reads its result.
A worker or module therefore checks its run before each request that changes something, and while it waits.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import select
import signal
import stat
import threading
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

#: Signals that end a task in order.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STDOUT = 1
#: Method of requests that discard what a run has left. A process sends them also after the end of its run.
#: An operation that discards anything else calls `require_run` first.
DISCARD = "DELETE"
#: Method of requests that only read. A process that a signal ends must still read what is true.
READ = "GET"

if t.TYPE_CHECKING:
    from types import FrameType


class RunEndedError(UtrustError):
    """The run of this process has ended, or a signal ends this task. Nothing more is changed."""


_ended: list[t.Callable[[], bool]] = []
_signals: list[int] = []


def run_pid() -> int:
    """Return the process of the run: the parent of the worker, as it was before the fork, or this process if it is not a worker."""
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid


def watch_parent() -> None:
    """Let the run of this process be its parent, if this process is a worker."""
    pid = run_pid()
    _ended[:] = [] if pid == os.getpid() else [lambda: os.getppid() != pid]


def watch_output(descriptor: int = STDOUT) -> None:
    """Let the run of this process be the reader of its output. A module on another machine has no other sign of its run."""
    _ended[:] = [lambda: _has_lost_reader(descriptor)]


def run_has_ended() -> bool:
    return any(ended() for ended in _ended)


def run_is_read() -> bool:
    """Whether somebody can read the standard error of the run: a pipe or a terminal can lose its reader. True if unknown.

    Ansible ends its thread for results when a line of a worker cannot be written, and then waits for ever.
    """
    path = f"/proc/{run_pid()}/fd/2"
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - the link names no path
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            return True
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        return exc.errno not in (errno.ENXIO, errno.EIO)
    try:
        return not _has_lost_reader(descriptor)
    finally:
        os.close(descriptor)


def _has_lost_reader(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and the end of the reader are always reported
    return bool(poll.poll(0))


def require_run() -> None:
    """Raise RunEndedError (`run_ended`, `task_interrupted`) if nobody waits for the result of this process any more."""
    if run_has_ended():
        raise RunEndedError("the run of this task has ended. Nothing more is changed. Run again", code="run_ended")
    if _signals:
        raise _interruption(_signals[0])


class _WatchedBody:
    """A body that can only be read while the run of this process lives."""

    def __init__(self, body: t.BinaryIO) -> None:
        self._body = body

    def read(self, size: int = -1) -> bytes:
        require_run()
        return self._body.read(size)


def watched(method: str, body: bytes | t.BinaryIO | None) -> bytes | _WatchedBody | None:
    """Return the body of a request that is sent next. Raises RunEndedError now or between two chunks if nobody waits for its result any more."""
    if method not in (DISCARD, READ) or (method == READ and run_has_ended()):
        require_run()
    return body if body is None or isinstance(body, bytes) else _WatchedBody(body)


@contextlib.contextmanager
def stop_on_signals() -> t.Iterator[None]:
    """Let the first signal in this block raise RunEndedError, so that the operation discards what it has staged. Later signals are ignored.

    A signal that the process ignores stays ignored, as SIGHUP after nohup.
    Only the main thread of a process can handle signals. In another thread the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _signals.clear()


def _stop(number: int, dummy: FrameType | None) -> None:
    _signals.append(number)
    if len(_signals) == 1:
        raise _interruption(number)


def _interruption(number: int) -> RunEndedError:
    name = signal.Signals(number).name
    return RunEndedError(
        f"signal {name} has ended this task. Nothing more is changed. Read the node with playbook status, then run again",
        code="task_interrupted",
    )


def end_orphan() -> None:
    """End this process without a result if its run has ended. A result that nobody reads would block the process for ever."""
    if run_has_ended():
        os._exit(1)
