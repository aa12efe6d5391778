# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key Synchronization Packages on disk. Private to keyops.utrust.

A package is a copy of all CA keys, encrypted under the MBK. Its mode is 0600, in a directory with mode 0700.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _json
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest, read_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import (
    PrivateDirectory,
    is_package_directory,
    remove_package_directory,
)
from ansible_collections.keyops.utrust.plugins.module_utils._run.guard import MANIFEST_SUFFIX

if t.TYPE_CHECKING:
    import pathlib

CHUNK = 64 * 1024


def exists(path: pathlib.Path) -> bool:
    """Return whether the package or its manifest exists."""
    return path.exists() or manifest_path(path).exists()


def remove_package(path: pathlib.Path) -> None:
    """Remove a package and its manifest, and also their private directory."""
    path.unlink(missing_ok=True)
    manifest_path(path).unlink(missing_ok=True)
    if is_package_directory(path.parent):
        remove_package_directory(path.parent)


def manifest_path(package: pathlib.Path) -> pathlib.Path:
    return package.with_name(package.name + MANIFEST_SUFFIX)


@contextlib.contextmanager
def atomic_write(path: pathlib.Path, private: PrivateDirectory | None = None) -> t.Iterator[t.BinaryIO]:
    """Open a new file with mode 0600. The file gets the name `path` when it is complete and synced, and is deleted after an error.

    If the process is killed, the end of its run deletes the file by a note in the directory `private`. A file inside of a private directory needs no note.
    Raises UtrustError (`package_not_written`), for example if the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with contextlib.ExitStack() as undo:
            if private is not None:
                undo.enter_context(private.note(temporary))
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
            undo.callback(temporary.unlink, missing_ok=True)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
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


def write_manifest(package: pathlib.Path, manifest: Manifest, private: PrivateDirectory | None = None) -> None:
    with atomic_write(manifest_path(package), private) as file:
        file.write(manifest.as_json())


def load_manifest(package: pathlib.Path, *, sha256: str | None = None) -> Manifest | None:
    """Return the manifest of a package, or None if it is missing. With `sha256`, only this manifest is accepted.

    Raises UtrustError (`manifest_mismatch`, `manifest_invalid`, `manifest_unreadable`).
    """
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
    actual = "sha256:" + hashlib.sha256(text).hexdigest()
    if sha256 not in (None, actual):
        raise UtrustError(
            f"reading the manifest {path}: its digest is {actual}, but the export returned {escape_unprintable(str(sha256))[:80]}. "
            "The manifest was edited, or is of another export. Nothing was changed. Export the package again",
            code="manifest_mismatch",
        )
    try:
        document = _json.decode(text)
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
