# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key Synchronization Packages on disk. Private to keyops.utrust.

A package is a copy of all CA keys, encrypted under the MBK. Its mode is 0600, in a directory with mode 0700, on tmpfs if available.
The run removes its package at the end. Blocks with `always` do not run after Ctrl-C or SIGTERM.
Therefore the name of the directory contains its owner, and every run first removes directories of ended runs.
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
#: Directories with the token of a claim. They have owners, too, but they never hold a package.
CLAIM_PREFIX = "keyops-utrust-claim-"
CHUNK = 64 * 1024


def base_directories() -> list[pathlib.Path]:
    """Return the possible parents of run directories. Directories in memory come before the directory for temporary files."""
    names = (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm", tempfile.gettempdir())
    paths = dict.fromkeys(pathlib.Path(name) for name in names if name)
    return [path for path in paths if path.is_dir() and os.access(path, os.W_OK | os.X_OK)]


def new_run_directory(owner_pid: int | None, ttl: int) -> pathlib.Path:
    """Create a directory for one run. Its name contains its owner.

    The owner is the process `owner_pid`. Without `owner_pid` the run is on another machine, and the directory is valid for `ttl` seconds.
    """
    owner = _owner(owner_pid) if owner_pid is not None else f"lease-{ttl}"
    return pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owner}-", dir=base_directories()[0]))


def _owner(pid: int) -> str:
    return f"pid-{pid}-{process_identity(pid) or 12 * '0'}"


def claim_directory(owner_pid: int, *, create: bool = False) -> pathlib.Path | None:
    """Return the directory with the claims of the run `owner_pid`, or None if it is missing. All tasks of the run share this directory.

    Raises UtrustError (`claim_not_stored`) if it cannot be created.
    """
    reason = "no directory for temporary files is writable"
    for base in base_directories():
        path = base / f"{CLAIM_PREFIX}{_owner(owner_pid)}-run"
        try:
            if create:
                path.mkdir(mode=0o700, exist_ok=True)
            status = path.lstat()
        except FileNotFoundError:
            continue
        except OSError as exc:
            reason = f"{path}: {exc.strerror or exc}"
            continue
        # Another user could create a directory with this name first.
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return path
    if create:
        raise UtrustError(
            f"claiming the cluster: the token cannot be stored: {reason}. Nothing was changed. Set XDG_RUNTIME_DIR to a private directory",
            code="claim_not_stored",
        )
    return None


def remove_stale(*, dry_run: bool = False) -> list[str]:
    """Remove run directories of this user whose run has ended, and return the paths of those with a package. `dry_run` only returns the paths."""
    if not dry_run:
        remove_stale_claims()
    return _remove_ended(PREFIX, dry_run)


def remove_stale_claims() -> None:
    """Remove the tokens of this user whose run has ended. Their claims end by themselves."""
    _remove_ended(CLAIM_PREFIX, False)


def _remove_ended(prefix: str, dry_run: bool) -> list[str]:
    removed = []
    for directory in (path for base in base_directories() for path in sorted(base.glob(prefix + "*"))):
        # Another run may remove the same directory, and a directory that cannot be removed must not prevent an export.
        with contextlib.suppress(OSError):
            status = directory.lstat()
            if (
                not stat.S_ISDIR(status.st_mode)
                or status.st_uid != os.getuid()
                or _alive(directory.name, status.st_ctime)
            ):
                continue
            if not dry_run:
                remove_directory(directory)
            removed.append(str(directory))
    return removed


def _alive(name: str, changed: float) -> bool:
    """Return whether the owner of a directory still exists. A name of another format counts as owned."""
    match = re.fullmatch(f"(?:{PREFIX}|{CLAIM_PREFIX})" + r"(?:pid-(\d+)-([0-9a-f]{12})|lease-(\d+))-[^-]+", name)
    if match is None:
        return True
    pid, identity, lease = match.groups()
    return time.time() - changed < int(lease) if lease else process_identity(int(pid)) == identity


def remove_directory(directory: pathlib.Path) -> None:
    for path in sorted(directory.iterdir()):
        path.unlink(missing_ok=True)
    directory.rmdir()


def exists(path: pathlib.Path) -> bool:
    """Return whether the package or its manifest exists."""
    return path.exists() or manifest_path(path).exists()


def remove_package(path: pathlib.Path) -> None:
    """Remove a package and its manifest, and also their run directory."""
    path.unlink(missing_ok=True)
    manifest_path(path).unlink(missing_ok=True)
    if path.parent.name.startswith(PREFIX) and path.parent.is_dir():
        remove_directory(path.parent)


def manifest_path(package: pathlib.Path) -> pathlib.Path:
    return package.with_name(package.name + SUFFIX)


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> t.Iterator[t.BinaryIO]:
    """Open a new file with mode 0600. The file gets the name `path` when it is complete and synced, and is deleted after an error.

    Raises UtrustError (`package_not_written`), for example if the disk is full.
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
            f"writing {path}: {exc.strerror or exc}. The incomplete file was deleted. Free disk space, or choose another destination",
            code="package_not_written",
        ) from exc


def write_manifest(package: pathlib.Path, manifest: Manifest) -> None:
    with atomic_write(manifest_path(package)) as file:
        file.write(manifest.as_json())


def load_manifest(package: pathlib.Path) -> Manifest | None:
    """Return the manifest of a package, or None if it is missing. Raises UtrustError (`manifest_invalid`, `manifest_unreadable`)."""
    path = manifest_path(package)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise UtrustError(
            f"reading the manifest {path}: {exc.strerror}. Make the file readable, then run again",
            code="manifest_unreadable",
        ) from exc
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    return read_manifest(document, str(path))


def size_and_digest(path: pathlib.Path) -> tuple[int, str] | None:
    """Return size and SHA-256 of a package, or None if the file is missing. Raises UtrustError (`package_unreadable`)."""
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
        raise UtrustError(
            f"reading the package {path}: {exc.strerror}. Make the file readable, then run again",
            code="package_unreadable",
        ) from exc
    return size, "sha256:" + digest.hexdigest()
