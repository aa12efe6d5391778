# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packages on disk: file modes, atomic writes, and removal of stale directories."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import textwrap
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import make_manifest

from tests.support.factories import fingerprint, key, node

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = (key(),)
MANIFEST = make_manifest(node(*KEYS), KEYS, sha256=fingerprint("package"), size=7)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only base directory for run directories."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    monkeypatch.setattr(store, "base_directories", lambda: [folder])
    return folder


@pytest.fixture
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run_directory_of_a_dead_run(base: Path) -> Path:
    """Create the run directory of a killed run, with a package."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        directory = store.new_run_directory(process.pid, 0)
        assert store.remove_stale() == []
        process.communicate(b"\n")
    (directory / "cluster.ksp").write_bytes(b"package")
    assert directory.parent == base
    return directory


@pytest.mark.usefixtures("careless_umask")
def test_files_are_private_with_any_umask(base: Path) -> None:
    directory = store.new_run_directory(os.getpid(), 0)
    package = directory / "cluster.ksp"
    with store.atomic_write(package) as file:
        assert [mode(path) for path in directory.iterdir()] == [0o600]
        file.write(b"package")
    store.write_manifest(package, MANIFEST)
    assert mode(directory) == 0o700
    assert {path.name: mode(path) for path in directory.iterdir()} == {
        "cluster.ksp": 0o600,
        "cluster.ksp.manifest.json": 0o600,
    }


def test_atomic_write_interrupted_keeps_old_file(tmp_path: Path) -> None:
    package = tmp_path / "cluster.ksp"
    package.write_bytes(b"old")

    def write_half() -> None:
        with store.atomic_write(package) as file:
            file.write(b"new, but not all of it")
            file.flush()
            assert package.read_bytes() == b"old"
            raise InterruptedError

    with pytest.raises(UtrustError):
        write_half()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"cluster.ksp": b"old"}


def test_atomic_write_replaces_old_file(tmp_path: Path) -> None:
    package = tmp_path / "cluster.ksp"
    package.write_bytes(b"old")
    with store.atomic_write(package) as file:
        file.write(b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_atomic_write_replaces_link_at_destination(tmp_path: Path) -> None:
    """The target of the link stays unchanged."""
    elsewhere, package = tmp_path / "elsewhere", tmp_path / "cluster.ksp"
    elsewhere.write_bytes(b"untouched")
    package.symlink_to(elsewhere)
    with store.atomic_write(package) as file:
        file.write(b"new")
    assert elsewhere.read_bytes() == b"untouched"
    assert (package.read_bytes(), package.is_symlink()) == (b"new", False)


def test_atomic_write_does_not_follow_temporary_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    monkeypatch.setattr("secrets.token_hex", lambda dummy: "guessed")
    (tmp_path / ".cluster.ksp.guessed.part").symlink_to(elsewhere)
    with pytest.raises(UtrustError, match="File exists"), store.atomic_write(tmp_path / "cluster.ksp") as file:
        file.write(b"package")
    assert elsewhere.read_bytes() == b"untouched"


def test_atomic_write_on_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(dummy: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(UtrustError, match="No space left on device") as caught,
        store.atomic_write(tmp_path / "a") as file,
    ):
        file.write(b"package")
    assert caught.value.code == "package_not_written"
    assert "The incomplete file was deleted" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_over_size_limit_leaves_no_file(tmp_path: Path) -> None:
    """The limit is RLIMIT_FSIZE of another process."""
    script = """
        import pathlib, resource, sys
        from ansible_collections.keyops.utrust.plugins.module_utils._package import store
        from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with store.atomic_write(pathlib.Path(sys.argv[1]) / "cluster.ksp") as file:
                for dummy in range(10):
                    file.write(bytes(64 * 1024))
        except UtrustError as exc:
            print(exc.code)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "package_not_written"
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_names_missing_directory(tmp_path: Path) -> None:
    with (
        pytest.raises(UtrustError, match="No such file or directory") as caught,
        store.atomic_write(tmp_path / "a" / "b"),
    ):
        pass
    assert str(tmp_path / "a" / "b") in str(caught.value)


def test_remove_stale_removes_directory_of_dead_run(base: Path) -> None:
    directory = run_directory_of_a_dead_run(base)
    assert store.remove_stale(dry_run=True) == [str(directory)]
    assert (directory / "cluster.ksp").exists()
    assert store.remove_stale() == [str(directory)]
    assert list(base.iterdir()) == []
    assert store.remove_stale() == []


def test_remove_stale_keeps_directory_of_living_run(base: Path) -> None:
    directory = store.new_run_directory(os.getpid(), 0)
    assert store.remove_stale() == []
    assert directory.is_dir()


def test_remove_stale_detects_reused_pid(base: Path) -> None:
    stale = base / f"{store.PREFIX}pid-{os.getpid()}-000000000000-abcdefgh"
    stale.mkdir()
    assert store.remove_stale() == [str(stale)]


def test_process_identity_of_zombie_is_none(base: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert store.process_identity(process.pid) is None
    process.wait()


def test_remove_stale_respects_lease(base: Path) -> None:
    """A run on another machine owns its directory for the time of the lease."""
    kept, over = store.new_run_directory(None, 3600), store.new_run_directory(None, 0)
    assert store.remove_stale() == [str(over)]
    assert kept.is_dir()


def test_remove_stale_skips_other_users(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = run_directory_of_a_dead_run(base)
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert store.remove_stale() == []
    assert (directory / "cluster.ksp").exists()


def test_remove_stale_does_not_follow_links(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "unrelated"
    target.mkdir()
    (target / "file").write_bytes(b"unrelated")
    (base / f"{store.PREFIX}lease-0-abcdefgh").symlink_to(target)
    assert store.remove_stale() == []
    assert (target / "file").read_bytes() == b"unrelated"


def test_remove_stale_removes_inner_link_only(base: Path, tmp_path: Path) -> None:
    """The target of a link inside the directory stays unchanged."""
    unrelated = tmp_path / "unrelated"
    unrelated.write_bytes(b"unrelated")
    directory = store.new_run_directory(None, 0)
    (directory / "cluster.ksp").symlink_to(unrelated)
    assert store.remove_stale() == [str(directory)]
    assert unrelated.read_bytes() == b"unrelated"


@pytest.mark.parametrize("name", ["notes", "pid-1", "pid-x-y-z", "lease--1", "lease-soon-abc", "pid-1-2-3-4"])
def test_remove_stale_skips_unknown_names(base: Path, name: str) -> None:
    (base / (store.PREFIX + name)).mkdir()
    assert store.remove_stale() == []
    assert (base / (store.PREFIX + name)).is_dir()


def test_remove_stale_continues_after_error(base: Path) -> None:
    (base / f"{store.PREFIX}lease-0-aaaaaaaa" / "not" / "ours").mkdir(parents=True)
    directory = store.new_run_directory(None, 0)
    assert store.remove_stale() == [str(directory)]


def test_base_directories_prefer_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert store.base_directories()[0] == tmp_path
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert tmp_path / "missing" not in store.base_directories()
    assert store.base_directories()


def test_remove_stale_checks_all_base_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An earlier run may have used another base directory."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    directory = store.new_run_directory(None, 0)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", None)
    assert str(directory) in store.remove_stale(dry_run=True)


def test_remove_package_removes_manifest_and_directory(base: Path, tmp_path: Path) -> None:
    for directory in (store.new_run_directory(os.getpid(), 0), tmp_path / "mine"):
        directory.mkdir(exist_ok=True)
        package = directory / "cluster.ksp"
        package.write_bytes(b"package")
        store.write_manifest(package, MANIFEST)
        assert store.exists(package)
        store.remove_package(package)
        assert not store.exists(package)
        store.remove_package(package)
    assert list(base.iterdir()) == []
    assert list((tmp_path / "mine").iterdir()) == []


def test_load_manifest_returns_written_manifest(tmp_path: Path) -> None:
    package = tmp_path / "cluster.ksp"
    assert store.load_manifest(package) is None
    store.write_manifest(package, MANIFEST)
    assert store.load_manifest(package) == MANIFEST


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00"])
def test_load_manifest_names_invalid_file(tmp_path: Path, content: bytes) -> None:
    package = tmp_path / "cluster.ksp"
    store.manifest_path(package).write_bytes(content)
    with pytest.raises(UtrustError, match=re.escape("cluster.ksp.manifest.json")) as caught:
        store.load_manifest(package)
    assert caught.value.code == "manifest_invalid"


def test_size_and_digest_of_package(tmp_path: Path) -> None:
    package = tmp_path / "cluster.ksp"
    assert store.size_and_digest(package) is None
    package.write_bytes(b"package")
    assert store.size_and_digest(package) == (7, fingerprint("package"))


def test_size_and_digest_of_unreadable_package_raises(tmp_path: Path) -> None:
    with pytest.raises(UtrustError, match="Is a directory") as caught:
        store.size_and_digest(tmp_path)
    assert caught.value.code == "package_unreadable"
