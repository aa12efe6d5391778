# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs of the demo, with live output.

Signals are stored and handled while the demo waits, so that every started program is recorded. The record has the start time of each program, for
`--down` after a kill of the demo.
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

POLL_INTERVAL = 0.1  # seconds between checks for signals
STOP_TIMEOUT = 15.0  # seconds until a program must end after SIGTERM


class InterruptedRunError(Exception):
    """A signal ends the demo."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.strsignal(signum) or f"signal {signum}")
        self.signum = signum


class ProgramTimeoutError(Exception):
    """A program did not end within its timeout."""


class Ended(t.NamedTuple):
    """The exit status and the output lines of a program."""

    status: int
    lines: list[str]


class Program:
    """A program in its own process group, so that Ctrl-C reaches only the demo, which then stops the program."""

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
        """Whether the output ends within some seconds."""
        self._reader.join(within)
        return not self._reader.is_alive()

    def result(self) -> Ended:
        status = self.child.wait(STOP_TIMEOUT)
        t.cast("t.IO[str]", self.child.stdout).close()
        return Ended(status, self.lines)

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
                self.child.wait(STOP_TIMEOUT)
        self._reader.join(STOP_TIMEOUT)
        t.cast("t.IO[str]", self.child.stdout).close()


class Programs:
    """All programs of the demo. `record` is the file with the running programs."""

    def __init__(self, record: Path, *, cwd: Path, env: dict[str, str]) -> None:
        self._record = record
        self._cwd = cwd
        self._env = env
        self._running: list[Program] = []
        self._signal: int | None = None
        self._write()

    def handle_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not set under nohup
            signal.signal(signal.SIGHUP, self._on_signal)

    def _on_signal(self, signum: int, dummy_frame: t.Any) -> None:
        self._signal = self._signal or signum

    def start(self, command: list[str], show: t.Callable[[str], None]) -> Program:
        program = Program(command, cwd=self._cwd, env=self._env, show=show)
        self._running.append(program)
        self._write()
        return program

    def wait(self, program: Program, limit: float, *, interruptible: bool = True) -> Ended:
        """Wait for a program. `limit` is in seconds. Raises InterruptedRunError or ProgramTimeoutError. `stop` stops the program."""
        end = time.monotonic() + limit
        while not program.ended(within=POLL_INTERVAL):
            if interruptible:
                self.check()
            if time.monotonic() > end:
                raise ProgramTimeoutError(f"`{shlex.join(program.command)}` did not end within {limit:g} s")
        self._running.remove(program)
        self._write()
        self.check()
        return program.result()

    def check(self) -> None:
        if self._signal is not None:
            raise InterruptedRunError(self._signal)

    def stop(self) -> None:
        """Stop all running programs."""
        while self._running:
            self._running.pop().stop()

    def _write(self) -> None:
        demo = {"pid": os.getpid(), "started": process.start_time(os.getpid())}
        others = [{"pid": program.child.pid, "started": program.started} for program in self._running]
        temporary = self._record.with_suffix(".new")
        temporary.write_text(json.dumps({"demo": demo, "programs": others}) + "\n", encoding="utf-8")
        temporary.replace(self._record)


def stop_recorded(record: dict[str, t.Any], timeout: float) -> bool:
    """Stop a recorded process if it is still the same process. Returns whether it has ended. `timeout` is in seconds."""
    pid, started = record["pid"], record["started"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            if started is None or process.start_time(pid) != started:
                return True
            os.kill(pid, number)
        end = time.monotonic() + timeout
        while process.start_time(pid) == started and time.monotonic() < end:
            time.sleep(process.POLL)
    return process.start_time(pid) != started
