# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process whose run has ended: it changes nothing more, and ends."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._run import guard, life
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import (
    RunEndedError,
    require_run,
    run_has_ended,
    stop_on_signals,
    watch_output,
)

from tests.support.signals import default_signals
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _unwatched() -> Iterator[None]:
    """A process without a watched run, and with the signal handlers of a process that no nohup has started."""
    before = {number: signal.getsignal(number) for number in life.SIGNALS}
    default_signals()
    yield
    life._ended.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


def _orphan(file: str) -> None:
    life.watch_parent()
    before = run_has_ended()
    os.kill(os.getppid(), signal.SIGKILL)
    while os.getppid() == life.run_pid():
        time.sleep(0.01)
    with open(file, "w", encoding="utf-8") as output:
        output.write(f"{before} {run_has_ended()}")
        output.flush()
    life.end_orphan()
    Path(file).unlink()


def _run(file: str) -> None:
    multiprocessing.get_context("fork").Process(target=_orphan, args=(file,)).start()
    signal.pause()


def test_worker_detects_the_end_of_its_parent(tmp_path: Path) -> None:
    file = tmp_path / "seen"
    run = multiprocessing.get_context("fork").Process(target=_run, args=(str(file),))
    run.start()
    run.join()
    wait_for(lambda: file.exists() and file.read_text() == "False True")


def test_process_that_is_not_a_worker_is_its_own_run() -> None:
    life.watch_parent()
    assert life.run_pid() == os.getpid()
    assert not run_has_ended()
    life.end_orphan()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_module_detects_the_end_of_its_reader(kind: str) -> None:
    """sshd gives a module a pipe or a socket."""

    if kind == "pipe":
        reader, writer = os.pipe()
    else:
        ends = socket.socketpair()
        reader, writer = (end.detach() for end in ends)
    watch_output(writer)
    require_run()
    os.close(reader)
    assert run_has_ended()
    with pytest.raises(RunEndedError) as caught:
        require_run()
    assert caught.value.code == "run_ended"
    os.close(writer)


def test_output_to_a_file_never_ends(tmp_path: Path) -> None:
    with open(tmp_path / "output", "wb") as file:
        watch_output(file.fileno())
        assert not run_has_ended()


@pytest.mark.parametrize("number", life.SIGNALS)
def test_first_signal_raises_and_later_ones_are_ignored(number: signal.Signals) -> None:
    """The block has time to discard what it has staged."""
    before = [signal.getsignal(each) for each in life.SIGNALS]
    cleaned: list[str] = []

    def operation() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            for each in life.SIGNALS:
                os.kill(os.getpid(), each)
            with pytest.raises(RunEndedError) as again:
                require_run()
            cleaned.append(again.value.code)

    with pytest.raises(RunEndedError) as caught, stop_on_signals():
        operation()
    assert cleaned == [caught.value.code] == ["task_interrupted"]
    assert signal.Signals(number).name in str(caught.value)
    assert [signal.getsignal(each) for each in life.SIGNALS] == before
    require_run()


def test_block_in_other_thread_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    inside: list[t.Any] = []

    def enter() -> None:
        with stop_on_signals():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert inside == [before]


def test_upload_ends_between_two_chunks() -> None:

    body = life.watched("POST", io.BytesIO(b"package"))
    assert body is not None
    assert not isinstance(body, bytes)
    assert body.read(3) == b"pac"
    life._ended.append(lambda: True)
    with pytest.raises(RunEndedError):
        body.read(3)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT", "X"])
def test_orphan_only_discards(method: str) -> None:
    """Nobody reads what it would find."""
    life._ended.append(lambda: True)
    with contextlib.nullcontext() if method == "DELETE" else pytest.raises(RunEndedError):
        life.watched(method, b"{}")


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT", "X"])
def test_interrupted_task_still_reads(method: str) -> None:
    """The run lives, and shows what is true."""
    life._signals.append(signal.SIGTERM)
    try:
        with contextlib.nullcontext() if method in ("GET", "DELETE") else pytest.raises(RunEndedError):
            life.watched(method, b"{}")
    finally:
        life._signals.clear()


def test_program_without_collection_imports() -> None:
    """The guard starts in isolated mode, in which the collection cannot be imported."""

    command = [sys.executable, "-I", "-S", guard.__file__, "1", "never", "/nonexistent"]
    assert subprocess.run(command, check=False, timeout=30).returncode == 0


def test_ignored_signal_stays_ignored() -> None:
    """After nohup, the end of the terminal must not end the task."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(RunEndedError):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_run_whose_output_lost_its_reader_is_not_read(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    reader, output = os.pipe() if kind == "pipe" else pty.openpty()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=output) as process:
        monkeypatch.setattr(life, "run_pid", lambda: process.pid)
        assert life.run_is_read()
        os.close(output)
        assert life.run_is_read()
        os.close(reader)
        assert not life.run_is_read()
        process.communicate(b"\n")
    assert life.run_is_read(), "unknown, because the process has ended"


@pytest.mark.parametrize("name", ["/dev/null", "file"])
def test_run_with_output_to_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with (
        open(tmp_path / name, "wb") as file,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=file) as process,
    ):
        monkeypatch.setattr(life, "run_pid", lambda: process.pid)
        assert life.run_is_read()
        process.communicate(b"\n")
