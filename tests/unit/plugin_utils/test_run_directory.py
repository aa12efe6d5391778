# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private directories of runs: who removes them, and who does not."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._package.store import atomic_write
from ansible_collections.keyops.utrust.plugins.module_utils._run import directory as directories
from ansible_collections.keyops.utrust.plugins.module_utils._run import guard
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import (
    LEASE_PREFIX,
    RUN_PREFIX,
    PrivateDirectory,
    base_directories,
    leased_directory,
    remove_stale,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils import _run_directory as run_directories
from ansible_collections.keyops.utrust.plugins.plugin_utils._run_directory import (
    find_run_directory,
    lock_run_directory,
    open_run_directory,
)

from tests.support.signals import default_signals
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER = "cluster-1"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only base directory."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for module in (directories, run_directories):
        monkeypatch.setattr(module, "base_directories", lambda: [folder])
    return folder


@pytest.fixture
def run() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is a run until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, preexec_fn=default_signals
    ) as process:
        yield process
        process.kill()


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.wait()


def package_in(private: PrivateDirectory) -> Path:
    package = private.new_package_directory() / "cluster.ksp"
    package.write_bytes(b"package")
    return package


def without_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard is killed, too, as by the end of a container."""
    monkeypatch.setattr(run_directories, "_ensure_guard", lambda *dummy: None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_guard_removes_what_the_run_left(
    base: Path, tmp_path: Path, run: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    """Also incomplete files beside a destination of the user, but no complete package there."""
    private = open_run_directory(run.pid)
    package_in(private)
    complete, part = tmp_path / "kept.ksp", tmp_path / ".new.ksp.0123.part"
    for path in (complete, part, Path(f"{complete}.manifest.json")):
        path.write_bytes(b"package")
    with contextlib.ExitStack() as notes:
        for path in (complete, part):
            notes.enter_context(private.note(path))
        end(run, number)
        wait_for(lambda: not list(base.iterdir()))
    assert (complete.exists(), part.exists()) == (True, False)


def test_living_run_keeps_its_directory(base: Path, run: subprocess.Popen[bytes]) -> None:
    package = package_in(open_run_directory(run.pid))
    assert remove_stale(cluster_id=CLUSTER) == []
    assert package.exists()
    assert find_run_directory(run.pid) == package.parents[1]


def test_living_run_keeps_its_directory_without_its_guard(
    base: Path, run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that is short of memory can kill the guard alone."""
    without_guard(monkeypatch)
    package = package_in(open_run_directory(run.pid))
    assert remove_stale() == []
    assert package.exists()
    end(run)
    assert remove_stale() == [str(package)]


@pytest.mark.parametrize("content", ["", "1", "-1", "0", "x", "9" * 5000])
def test_planted_pid_protects_no_directory(base: Path, run: subprocess.Popen[bytes], content: str) -> None:
    private = open_run_directory(run.pid)
    end(run)
    wait_for(lambda: not private.path.exists())
    private.path.mkdir(mode=0o700)
    (private.path / directories.TASKS).write_text(content)
    package = package_in(private)
    assert remove_stale() == [str(package)]


def test_run_in_other_pid_namespace_keeps_its_directory(base: Path) -> None:
    """Its process is unknown here, but the lock is not. Two containers can share /dev/shm."""
    script = f"""if True:
        import os, pathlib
        from ansible_collections.keyops.utrust.plugins.plugin_utils import _run_directory as directory
        directory.base_directories = lambda: [pathlib.Path({str(base)!r})]
        package = directory.open_run_directory(os.getpid()).new_package_directory() / "cluster.ksp"
        package.write_bytes(b"package")
        print(package, os.getpid(), flush=True)
        input()
    """
    command = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", sys.executable]
    with subprocess.Popen(
        [*command, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        name, pid = other.stdout.readline().split()
        assert int(pid) < 10, "the process has its own PID namespace"
        assert remove_stale() == []
        assert Path(name).exists()
        other.communicate("\n")
    # The end of the namespace kills the guard, too.
    wait_for(lambda: not Path(name).exists() or remove_stale() == [name])
    assert list(base.iterdir()) == []


def test_next_run_removes_what_neither_run_nor_guard_removed(
    base: Path, tmp_path: Path, run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_guard(monkeypatch)
    private = open_run_directory(run.pid)
    package = package_in(private)
    part = tmp_path / ".cluster.ksp.0123.part"
    part.write_bytes(b"half a package")
    with private.note(part):
        end(run)
        assert remove_stale() == [str(package), str(part)]
    assert (list(base.iterdir()), part.exists()) == ([], False)
    assert remove_stale() == []


@pytest.mark.parametrize("note", ["", "/", "a\0b", "\n", "x" * 5000])
def test_note_without_a_path_stops_no_removal(base: Path, run: subprocess.Popen[bytes], note: str) -> None:
    """A full file system leaves an empty note."""
    private = open_run_directory(run.pid)
    package_in(private)
    (private.path / ("0123" + guard.NOTE_SUFFIX)).write_text(note)
    end(run)
    wait_for(lambda: not list(base.iterdir()))


def test_next_run_ignores_a_note_without_a_path(
    base: Path, run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_guard(monkeypatch)
    private = open_run_directory(run.pid)
    package = package_in(private)
    (private.path / ("0123" + guard.NOTE_SUFFIX)).touch()
    end(run)
    assert remove_stale() == [str(package)]
    assert list(base.iterdir()) == []


def guards_of(private: PrivateDirectory) -> list[Path]:
    """The entries in /proc of the guards of a private directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().split(b"\0")[-2:-1] == [os.fsencode(private.path)]:
                found.append(path.parent)
    return found


def test_guard_removes_what_a_stopped_service_left(base: Path, run: subprocess.Popen[bytes]) -> None:
    """The end of a service or of a login session sends SIGTERM to all processes."""
    private = open_run_directory(run.pid)
    package_in(private)
    [process] = guards_of(private)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(int(process.name), number)
    end(run, signal.SIGTERM)
    wait_for(lambda: not list(base.iterdir()))


def test_note_ends_with_its_block(base: Path, tmp_path: Path, run: subprocess.Popen[bytes]) -> None:
    """A complete file that a user has moved to the place of an incomplete file must stay."""
    private = open_run_directory(run.pid)
    with atomic_write(tmp_path / "mine", private) as file:
        [note] = private.path.glob("*" + guard.NOTE_SUFFIX)
        [part] = tmp_path.glob(".mine.*.part")
        assert note.read_text() == str(part)
        file.write(b"complete")
    assert list(private.path.glob("*" + guard.NOTE_SUFFIX)) == []
    end(run)
    wait_for(lambda: not list(base.iterdir()))
    assert (tmp_path / "mine").read_bytes() == b"complete"


def test_orphan_cannot_write_after_the_end_of_its_run(base: Path, tmp_path: Path, run: subprocess.Popen[bytes]) -> None:
    private = open_run_directory(run.pid)
    end(run)
    wait_for(lambda: not private.path.exists())
    with pytest.raises(UtrustError) as caught, atomic_write(tmp_path / "package", private):
        pass
    assert caught.value.code == "package_not_written"
    assert list(tmp_path.iterdir()) == [base]


def test_tasks_of_one_run_share_directory_and_guard(
    base: Path, run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    original = run_directories.start_guard

    def counted(pid: int, path: Path, descriptor: int) -> None:
        started.append(path)
        original(pid, path, descriptor)

    monkeypatch.setattr(run_directories, "start_guard", counted)
    tasks = [threading.Thread(target=open_run_directory, args=(run.pid,)) for dummy in range(4)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
    assert started == list(base.iterdir())
    assert stat.S_IMODE(started[0].stat().st_mode) == 0o700


def test_task_waits_for_other_task_of_the_run(base: Path, run: subprocess.Popen[bytes]) -> None:
    entered = threading.Event()

    def other() -> None:
        with lock_run_directory(run.pid):
            entered.set()

    with lock_run_directory(run.pid):
        task = threading.Thread(target=other)
        task.start()
        assert not entered.wait(0.2)
    task.join()
    assert entered.is_set()


def test_wait_for_other_task_has_a_deadline(
    base: Path, run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module on a bastion that hangs must not block its run for ever."""
    monkeypatch.setattr(run_directories, "LOCK_TIME", 0.2)
    with lock_run_directory(run.pid), pytest.raises(UtrustError) as caught:
        open_run_directory(run.pid)
    assert caught.value.code == "run_directory_busy"
    open_run_directory(run.pid)


def test_guard_ends_when_its_directory_is_gone(base: Path, run: subprocess.Popen[bytes]) -> None:
    """Somebody who has removed the directory by hand does not need to end the guard."""
    private = open_run_directory(run.pid)
    descriptor = os.open(private.path / directories.ALIVE, os.O_RDWR)
    guard.remove_directory(private.path)
    wait_for(lambda: directories.try_lock(descriptor))
    os.close(descriptor)
    assert run.poll() is None


def test_guard_of_ended_run_ends(base: Path, run: subprocess.Popen[bytes]) -> None:
    """An orphan can be the first task that needs a guard."""
    end(run)
    open_run_directory(run.pid)
    wait_for(lambda: not list(base.iterdir()))


def test_guard_has_no_secret(base: Path, run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives as long as the run, and the environment of the run can have a token."""
    monkeypatch.setenv("UTRUST_BEARER_TOKEN", "secret-of-this-test")
    private = open_run_directory(run.pid)
    guards = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(private.path).encode() in path.read_bytes():
                guards.append(path.with_name("environ").read_bytes())
    assert len(guards) == 1
    assert b"secret-of-this-test" not in guards[0]


def test_guard_that_cannot_start_is_reported(
    base: Path, run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(UtrustError) as caught:
        open_run_directory(run.pid)
    assert caught.value.code == "guard_not_started"
    assert "Nothing was changed" in str(caught.value)


def test_reused_pid_is_another_run(run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    before = directories.process_mark(run.pid)
    monkeypatch.setattr(guard, "start_time", lambda dummy: "another time")
    assert directories.process_mark(run.pid) != before


def test_start_time_of_zombie_is_empty() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert guard.start_time(process.pid) == ""
    process.wait()


def test_directory_on_bastion_expires(base: Path) -> None:
    with leased_directory(3600, CLUSTER) as lasting, leased_directory(0, CLUSTER) as expired:
        kept, over = package_in(lasting), package_in(expired)
    assert remove_stale() == [str(over)]
    assert kept.exists()


@pytest.mark.parametrize(("cluster", "removed"), [(CLUSTER, True), ("cluster-2", False), (None, False)])
def test_claim_ends_earlier_packages_on_bastion(base: Path, cluster: str | None, removed: bool) -> None:
    """A run that has claimed the cluster is the only one, so the package of an earlier run is stale."""
    with leased_directory(3600, CLUSTER) as private:
        package = package_in(private)
    assert (remove_stale(cluster_id=cluster) == [str(package)]) is removed
    assert package.exists() is not removed


def test_empty_directory_on_bastion_is_removed(base: Path, tmp_path: Path) -> None:
    with leased_directory(3600, CLUSTER) as private, atomic_write(tmp_path / "kept", private) as file:
        file.write(b"package")
    assert list(base.iterdir()) == []


def test_directory_of_other_user_is_neither_used_nor_removed(
    base: Path, run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_guard(monkeypatch)
    package = package_in(open_run_directory(run.pid))
    end(run)
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert remove_stale() == []
    assert package.exists()
    assert find_run_directory(os.getpid()) is None


def test_planted_directory_is_refused(base: Path, run: subprocess.Popen[bytes]) -> None:
    """Another user can create a directory with the expected name first."""
    planted = base / f"{RUN_PREFIX}{directories.process_mark(run.pid)}"
    planted.mkdir()
    planted.chmod(0o755)
    with pytest.raises(UtrustError) as caught:
        open_run_directory(run.pid)
    assert caught.value.code == "run_directory_missing"
    assert remove_stale() == []


@pytest.mark.parametrize("name", [RUN_PREFIX + "0123456789abcdef", LEASE_PREFIX + "0-0123456789ab-abcdefgh"])
def test_links_are_not_followed(base: Path, tmp_path: Path, name: str) -> None:
    """Neither a link with the name of a directory nor a link inside of a directory."""
    unrelated = tmp_path / "unrelated"
    unrelated.mkdir(mode=0o700)
    (unrelated / "file").write_bytes(b"unrelated")
    (base / name).symlink_to(unrelated)
    inner = base / (RUN_PREFIX + "fedcba9876543210")
    inner.mkdir(mode=0o700)
    (inner / "package-x").symlink_to(unrelated)
    remove_stale()
    assert (unrelated / "file").read_bytes() == b"unrelated"
    assert not inner.exists()


@pytest.mark.parametrize("name", ["notes", "lease--1", "lease-soon-abc", "lease-1-2-3-4", "lease-0-xyz-abc", "run"])
def test_unknown_names_stay(base: Path, name: str) -> None:
    (base / (directories.PREFIX + name)).mkdir(mode=0o700)
    assert remove_stale() == []
    assert (base / (directories.PREFIX + name)).is_dir()


def test_locked_directory_does_not_stop_the_removal_of_others(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_guard(monkeypatch)
    for name in ("a", "b"):
        (base / f"{RUN_PREFIX}{name}" / "package-1").mkdir(parents=True, mode=0o700)
        (base / f"{RUN_PREFIX}{name}").chmod(0o700)
        (base / f"{RUN_PREFIX}{name}" / "package-1" / "cluster.ksp").write_bytes(b"")
    with open(base / f"{RUN_PREFIX}a" / directories.ALIVE, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert remove_stale() == [str(base / f"{RUN_PREFIX}b" / "package-1" / "cluster.ksp")]


def test_base_directories_prefer_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert base_directories()[0] == tmp_path
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert tmp_path / "missing" not in base_directories()
    assert Path("/dev/shm") in base_directories()


def test_runtime_directory_of_other_user_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After sudo, the variable can name the directory of the user before."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert tmp_path not in base_directories()


def test_relative_runtime_directory_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The guard and later runs have another working directory."""
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "run")
    assert all(path.is_absolute() for path in base_directories())


def test_every_base_directory_is_searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An earlier run may have used another base directory."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with leased_directory(0, CLUSTER) as private:
        package = package_in(private)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", None)
    assert str(package) in remove_stale()
