# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detection of audit files that would not outlive a reboot or a container. Private to keyops.utrust."""

from __future__ import annotations

import pathlib
import typing as t

IN_MEMORY: t.Final = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})


LAYERS: t.Final = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs", "unionfs"})


#: Emptied at boot; or thrown away with the job, by AWX and ansible-runner.
SCRATCH: t.Final = ("/tmp", "/var/run", "/run", "/runner")


def why_not_persistent(path: str, mounts: str | None, environment: t.Mapping[str, str]) -> str:
    """Why a file at this absolute path (without links) would not outlive a reboot or the container; empty if nothing speaks for that.

    `mounts` is the text of /proc/self/mounts, or None where there is none.
    """
    scratch = [*SCRATCH, *(environment[name] for name in ("AWX_PRIVATE_DATA_DIR", "TMPDIR") if environment.get(name))]
    for folder in scratch:
        if _within(path, folder):
            return f"{path} is in {folder}, which is emptied at the next boot or with the job"
    if mounts is None:
        return f"nobody can tell whether {path} persists, because this system has no /proc/self/mounts"
    point, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        # A later mount covers an earlier one at the same place. Blanks and such are octal escapes.
        if len(fields) > 2 and _within(path, _unescaped(fields[1])) and len(_unescaped(fields[1])) >= len(point):
            point, kind = _unescaped(fields[1]), fields[2]
    if kind in IN_MEMORY:
        return f"{path} is in memory ({kind} at {point})"
    if kind in LAYERS:
        return f"{path} is in the writable layer of a container ({kind} at {point}), which goes with it"
    return ""


def mounts() -> str | None:
    try:
        return pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def _within(path: str, folder: str) -> bool:
    return pathlib.PurePosixPath(path).is_relative_to(folder)


def _unescaped(text: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text
