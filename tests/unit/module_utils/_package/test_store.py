# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packages on disk: file modes and atomic writes."""

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
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import RUN_PREFIX, PrivateDirectory

from tests.support.factories import fingerprint, key, node

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = (key(),)
MANIFEST = make_manifest(node(*KEYS), KEYS, sha256=fingerprint("package"), size=7)


@pytest.fixture
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("careless_umask")
def test_files_are_private_with_any_umask(tmp_path: Path) -> None:
    directory = PrivateDirectory(tmp_path).new_package_directory()
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


def test_remove_package_removes_manifest_and_directory(tmp_path: Path) -> None:
    private = PrivateDirectory(tmp_path / (RUN_PREFIX + "0123456789abcdef"))
    private.path.mkdir()
    (tmp_path / "mine").mkdir()
    for directory in (private.new_package_directory(), tmp_path / "mine"):
        package = directory / "cluster.ksp"
        package.write_bytes(b"package")
        store.write_manifest(package, MANIFEST)
        assert store.exists(package)
        store.remove_package(package)
        assert not store.exists(package)
        store.remove_package(package)
    assert list(private.path.iterdir()) == []
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
