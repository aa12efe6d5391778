# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs that the demo starts: their output appears live, and none of them is left behind.

A signal is only noted when it comes, and obeyed where the demo waits; so there is no moment at which a program has been
started and nobody knows it. Each program is written down with its start time, for `--down` after the demo was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import threading
import time
import typing as t

from utrust_appliance import process

if t.TYPE_CHECKING:
    from pathlib import Path

GLANCE = 0.1  # seconds between two looks at whether a signal came
PATIENCE = 15.0  # seconds that a program has to end after SIGTERM


class Interrupted(Exception):
    """Somebody wants the demo to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.strsignal(signum) or f"signal {signum}")
        self.signum = signum


class Overdue(Exception):
    """A program did not end within its time limit."""


class Ended(t.NamedTuple):
    """What a program left: its exit status and the lines that it printed."""

    status: int
    lines: list[str]


class Program:
    """One program, in a process group of its own, so that Ctrl-C reaches the demo alone, which then ends the others."""

    def __init__(self, command: list[str], *, cwd: Path, env: dict[str, str], show: t.Callable[[str], None]) -> None:
        self.command = command
        self.lines: list[str] = []
        self._show = show
        self.child = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self.started = process.start_time(self.child.pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in t.cast("t.IO[str]", self.child.stdout):
            self.lines.append(line.rstrip())
            self._show(line.rstrip())

    def ended(self, within: float) -> bool:
        """Whether it has printed its last line within so many seconds."""
        self._reader.join(within)
        return not self._reader.is_alive()

    def result(self) -> Ended:
        status = self.child.wait(PATIENCE)
        t.cast("t.IO[str]", self.child.stdout).close()
        return Ended(status, self.lines)

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
                self.child.wait(PATIENCE)
        self._reader.join(PATIENCE)
        t.cast("t.IO[str]", self.child.stdout).close()


class Programs:
    """All of them. `record` is the file in which they are written down."""

    def __init__(self, record: Path, *, cwd: Path, env: dict[str, str]) -> None:
        self._record = record
        self._cwd = cwd
        self._env = env
        self._running: list[Program] = []
        self._signal: int | None = None
        self._write()

    def obey_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else it runs under nohup
            signal.signal(signal.SIGHUP, self._on_signal)

    def _on_signal(self, signum: int, dummy_frame: t.Any) -> None:
        self._signal = self._signal or signum

    def start(self, command: list[str], show: t.Callable[[str], None]) -> Program:
        program = Program(command, cwd=self._cwd, env=self._env, show=show)
        self._running.append(program)
        self._write()
        return program

    def wait(self, program: Program, limit: float, *, interruptible: bool = True) -> Ended:
        """Its result. Raises Interrupted or Overdue; the program is stopped by `stop`."""
        end = time.monotonic() + limit
        while not program.ended(within=GLANCE):
            if interruptible:
                self.check()
            if time.monotonic() > end:
                raise Overdue(f"no end of `{shlex.join(program.command)}` within {limit:g} s")
        self._running.remove(program)
        self._write()
        self.check()
        return program.result()

    def check(self) -> None:
        if self._signal is not None:
            raise Interrupted(self._signal)

    def stop(self) -> None:
        """End those that still run."""
        while self._running:
            self._running.pop().stop()

    def _write(self) -> None:
        demo = {"pid": os.getpid(), "started": process.start_time(os.getpid())}
        others = [{"pid": program.child.pid, "started": program.started} for program in self._running]
        temporary = self._record.with_suffix(".new")
        temporary.write_text(json.dumps({"demo": demo, "programs": others}) + "\n", encoding="utf-8")
        temporary.replace(self._record)


def stop_recorded(record: dict[str, t.Any], patience: float) -> bool:
    """End a process that was written down, if it is still that one. Says whether it is gone."""
    pid, started = record["pid"], record["started"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            if started is None or process.start_time(pid) != started:
                return True
            os.kill(pid, number)
        end = time.monotonic() + patience
        while process.start_time(pid) == started and time.monotonic() < end:
            time.sleep(process.POLL)
    return process.start_time(pid) != started
