# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Durable private files: written to a temporary file, synced, then renamed."""

from __future__ import annotations

import json
import os
import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file atomically. Only its owner can read it, unless `mode` permits more."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, content: t.Any) -> None:
    write_private(path, json.dumps(content, indent=1).encode() + b"\n")


def destroy(path: Path) -> None:
    """Remove a file durably. A missing file is not an error."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)
