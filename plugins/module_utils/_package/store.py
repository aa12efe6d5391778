# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key Synchronization Packages on disk. Private to keyops.utrust.

A package is a copy of every CA key, encrypted under the MBK: 0600 in a 0700 directory, on tmpfs where there is one, written
under a temporary name, synced, renamed, and removed when the run ends. `always` does not run on Ctrl-C or SIGTERM, so
the directory names the run that owns it, and every run first sweeps those whose owner is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import secrets
import stat
import tempfile
import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import SUFFIX, Manifest, read_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._package.owner import process_identity

PREFIX = "keyops-utrust-ksp-"
CHUNK = 64 * 1024


def base_directories() -> list[pathlib.Path]:
    """Where run directories may be, the best first: memory if the machine offers some to this user, else the folder for temporary files."""
    names = (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm", tempfile.gettempdir())
    places = dict.fromkeys(pathlib.Path(name) for name in names if name)
    return [place for place in places if place.is_dir() and os.access(place, os.W_OK | os.X_OK)]


def new_run_directory(owner_pid: int | None, ttl: int) -> pathlib.Path:
    """A directory for one run, whose name says how long it lives.

    It lives as long as the process `owner_pid`; where that is None because the run is on another machine, for `ttl` seconds.
    """
    life = f"pid-{owner_pid}-{process_identity(owner_pid) or 12 * '0'}" if owner_pid is not None else f"lease-{ttl}"
    return pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{life}-", dir=base_directories()[0]))


def remove_stale(*, dry_run: bool = False) -> list[str]:
    """Remove this user's run directories whose run is gone; return their paths. With `dry_run` only name them."""
    removed = []
    for directory in (found for base in base_directories() for found in sorted(base.glob(PREFIX + "*"))):
        # Another run sweeps, too; and what cannot be removed must not keep a package from being exported.
        with contextlib.suppress(OSError):
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or _alive(directory.name, found.st_ctime):
                continue
            if not dry_run:
                remove_directory(directory)
            removed.append(str(directory))
    return removed


def _alive(name: str, changed: float) -> bool:
    """Whether the run that made a directory still lives; also True for a name that no run gives."""
    life = re.fullmatch(PREFIX + r"(?:pid-(\d+)-([0-9a-f]{12})|lease-(\d+))-[^-]+", name)
    if life is None:
        return True
    pid, mark, lease = life.groups()
    return time.time() - changed < int(lease) if lease else process_identity(int(pid)) == mark


def remove_directory(directory: pathlib.Path) -> None:
    for path in sorted(directory.iterdir()):
        path.unlink(missing_ok=True)
    directory.rmdir()


def exists(path: pathlib.Path) -> bool:
    """Whether anything is left of a package: itself, or its manifest."""
    return path.exists() or manifest_path(path).exists()


def remove_package(path: pathlib.Path) -> None:
    """Remove a package and its manifest, and the run directory if that is where they are."""
    path.unlink(missing_ok=True)
    manifest_path(path).unlink(missing_ok=True)
    if path.parent.name.startswith(PREFIX) and path.parent.is_dir():
        remove_directory(path.parent)


def manifest_path(package: pathlib.Path) -> pathlib.Path:
    return package.with_name(package.name + SUFFIX)


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> t.Iterator[t.BinaryIO]:
    """A new file, mode 0600, that takes the name `path` only when it is complete and synced; else it leaves nothing.

    Raises UtrustError (`package_not_written`) with what the system said, e.g. that the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with contextlib.ExitStack() as undo:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
            undo.callback(temporary.unlink, missing_ok=True)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            undo.pop_all()
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as exc:
        raise UtrustError(
            f"writing {path}: {exc.strerror or exc}; nothing was left behind. Make room, or choose another destination",
            code="package_not_written",
        ) from exc


def write_manifest(package: pathlib.Path, manifest: Manifest) -> None:
    with atomic_write(manifest_path(package)) as file:
        file.write(manifest.as_json())


def load_manifest(package: pathlib.Path) -> Manifest | None:
    """The manifest beside a package, or None. Raises UtrustError (`manifest_invalid`)."""
    path = manifest_path(package)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise UtrustError(f"reading the manifest {path}: {exc.strerror}", code="manifest_unreadable") from exc
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    return read_manifest(document, str(path))


def size_and_digest(path: pathlib.Path) -> tuple[int, str] | None:
    """Size and SHA-256 of a package, or None if there is none. Raises UtrustError (`package_unreadable`)."""
    digest = hashlib.sha256()
    size = 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                size += len(chunk)
                digest.update(chunk)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise UtrustError(f"reading the package {path}: {exc.strerror}", code="package_unreadable") from exc
    return size, "sha256:" + digest.hexdigest()
