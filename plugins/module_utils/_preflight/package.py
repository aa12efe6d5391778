# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a package file. Private to keyops.utrust."""

from __future__ import annotations

import os
import pathlib
import shutil
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import base_directories

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest

#: Bytes. A wrapped RSA-4096 key with its public objects needs less.
SPACE_FOR_KEY = 4 * 1024
SPACE_FOR_PACKAGE = 256 * 1024
#: Bytes. File systems allow 255, and an incomplete manifest has a longer name than its package.
MAX_NAME = 200


def check_package(measured: tuple[int, str] | None, manifest: Manifest, path: str) -> list[Problem]:
    """Check size and digest of a package file. `measured` holds both (None for a missing file)."""
    code, text = "", ""
    if measured is None:
        code, text = "package_missing", f"the package {path} is missing"
    elif manifest.size is not None and measured[0] < manifest.size:
        code, text = "package_truncated", f"{path} has {measured[0]} of {manifest.size} bytes"
    elif measured[1] != manifest.sha256:
        code = "package_digest_mismatch"
        text = f"the digest of {path} is {measured[1]}, but its manifest has {manifest.sha256}"
    return [Problem(code, manifest.source, text, "export the package again")] if code else []


def check_directory(node: str, dest: str | None) -> list[Problem]:
    """Check that only this user can read the directory: a package is a copy of every CA key."""
    if dest is None:
        return []
    folder = pathlib.Path(dest).parent
    if not folder.is_dir():
        text = f"directory {folder} of option dest is missing"
        return [
            Problem("directory_missing", node, text, "create a directory with mode 0700, and set dest to a file in it")
        ]
    status = folder.stat()
    mode = status.st_mode & 0o777
    text = ""
    if status.st_uid != os.geteuid():
        text = f"directory {folder} belongs to another user, who can read each file in it"
    elif mode & 0o077:
        text = f"other users have access to directory {folder} (mode {mode:04o})"
    if text:
        remedy = "create a directory with mode 0700, and set dest to a file in it"
        return [Problem("directory_not_private", node, text, remedy)]
    reason = _why_not_writable(pathlib.Path(dest), folder)
    if reason:
        return [Problem("package_not_written", node, f"{dest}: {reason}", "set dest to another file")]
    return []


def _why_not_writable(dest: pathlib.Path, folder: pathlib.Path) -> str:
    """Return why the package cannot have this path, or an empty text. The last step of an export must not be the first to find out."""
    if dest.is_dir():
        return "this is a directory"
    if len(os.fsencode(dest.name)) > MAX_NAME:
        return f"the name of the file has more than {MAX_NAME} bytes"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "the directory is not writable"
    return ""


def check_space(node: str, key_count: int, dest: str | None) -> list[Problem]:
    """Check the free space against an estimate. The size of a package is unknown until the node has made the package."""
    folder = pathlib.Path(dest).parent if dest is not None else base_directories()[0]
    required = SPACE_FOR_PACKAGE + SPACE_FOR_KEY * key_count
    if not folder.is_dir() or (free := shutil.disk_usage(folder).free) >= required:
        return []
    text = f"{folder} has {free} bytes free, a package of {key_count} key(s) can need {required} bytes"
    remedy = f"free space in {folder}, or choose another directory with dest or XDG_RUNTIME_DIR"
    return [Problem("disk_space_low", node, text, remedy)]
