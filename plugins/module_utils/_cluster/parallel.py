# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one function for many nodes at once, with a deadline for each node. Private to keyops.utrust."""

from __future__ import annotations

import collections
import functools
import queue
import time
import typing as t
from multiprocessing.pool import ThreadPool

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

T = t.TypeVar("T")


class Job(t.NamedTuple, t.Generic[T]):
    """`run` returns a result or raises UtrustError. `abort` makes a `run` that hangs return soon; another thread calls it.

    `partial` returns what a `run` that exceeds its time has found until then, or None.
    """

    host: str
    run: t.Callable[[], T]
    abort: t.Callable[[], None]
    partial: t.Callable[[], T | None] = lambda: None


class Limits(t.NamedTuple):
    """`max_parallel` is a number of jobs, `timeout` the seconds for one job from its own start."""

    max_parallel: int
    timeout: float
    clock: t.Callable[[], float] = time.monotonic


def run_all(jobs: t.Sequence[Job[T]], limits: Limits) -> dict[str, T | UtrustError]:
    """Return the result of each job, or the error that it raised. A job that exceeds its time has its partial result, or else an error `node_read_timeout`."""
    if not jobs:
        return {}
    waiting = collections.deque(jobs)
    running: dict[str, tuple[Job[T], float]] = {}
    results: dict[str, T | UtrustError] = {}
    ended: queue.Queue[tuple[str, T | BaseException]] = queue.Queue()
    # A thread for each job, so that a thread that hangs delays no other job. Its threads are daemons: they do not keep the process alive.
    pool = ThreadPool(len(jobs))
    try:
        while waiting or running:
            while waiting and len(running) < limits.max_parallel:
                job = waiting.popleft()
                running[job.host] = job, limits.clock() + limits.timeout
                put = functools.partial(_put, ended, job.host)
                pool.apply_async(job.run, callback=put, error_callback=put)
            try:
                first = min(deadline for dummy, deadline in running.values())
                host, result = ended.get(timeout=max(0.0, first - limits.clock()))
            except queue.Empty:
                expired = _expire(running, limits)
                results |= expired
                continue
            if running.pop(host, None) is None:
                continue  # the time of this job was over before
            if isinstance(result, BaseException) and not isinstance(result, UtrustError):
                raise result
            results[host] = result
    finally:
        pool.terminate()
    return results


def _put(ended: queue.Queue[tuple[str, t.Any]], host: str, result: t.Any) -> None:
    ended.put((host, result))


def _expire(running: dict[str, tuple[Job[T], float]], limits: Limits) -> dict[str, T | UtrustError]:
    expired: dict[str, T | UtrustError] = {}
    for job, deadline in list(running.values()):
        if deadline <= limits.clock():
            del running[job.host]
            partial = job.partial()  # before the job notices that it was aborted
            job.abort()
            expired[job.host] = (
                partial
                if partial is not None
                else UtrustError(
                    f"reading {job.host}: the node did not send all of its facts within {limits.timeout:g} s. Check the node and the network",
                    code="node_read_timeout",
                )
            )
    return expired
