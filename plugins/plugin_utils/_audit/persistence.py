# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detection of audit files that a reboot or the end of a container deletes. Private to keyops.utrust."""

from __future__ import annotations

import pathlib
import typing as t

IN_MEMORY: t.Final = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
CONTAINER_LAYERS: t.Final = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs", "unionfs"})
#: The system deletes these at boot, or AWX and ansible-runner delete them after the job.
SCRATCH: t.Final = ("/tmp", "/var/run", "/run", "/runner")


def why_not_persistent(path: str, mounts: str | None, environment: t.Mapping[str, str]) -> str:
    """The reason why a file at this absolute path without links does not persist, or an empty text.

    `mounts` is the text of /proc/self/mounts, or None if the file is missing.
    """
    scratch = [*SCRATCH, *(environment[name] for name in ("AWX_PRIVATE_DATA_DIR", "TMPDIR") if environment.get(name))]
    for folder in scratch:
        if _within(path, folder):
            return f"{path} is in {folder}, which is emptied at the next boot or after the job"
    if mounts is None:
        return f"the callback cannot detect whether {path} persists, because /proc/self/mounts is missing"
    point, kind = mount_of(path, mounts)
    if kind in IN_MEMORY:
        return f"{path} is in memory ({kind} at {point})"
    if kind in CONTAINER_LAYERS:
        return f"{path} is in the writable layer of a container ({kind} at {point}) and is deleted with the container"
    return ""


def mount_of(path: str, mounts: str) -> tuple[str, str]:
    """Return mount point and kind of the file system of an absolute path without links, or two empty texts."""
    point, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        # A later mount covers an earlier mount at the same place. Blanks and similar characters are octal escapes.
        if len(fields) > 2 and _within(path, _unescape(fields[1])) and len(_unescape(fields[1])) >= len(point):
            point, kind = _unescape(fields[1]), fields[2]
    return point, kind


def mounts() -> str | None:
    try:
        return pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def _within(path: str, folder: str) -> bool:
    return pathlib.PurePosixPath(path).is_relative_to(folder)


def _unescape(text: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text
