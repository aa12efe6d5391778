# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files belong to the checkout, for the gates beside this file."""

from __future__ import annotations

import shutil
import subprocess
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files() -> list[str]:
    """Return every file of the checkout that git tracks or would track, sorted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = sorted(name for name in set(listed.split("\0")) if name and (ROOT / name).is_file())
    if not found:
        raise SystemExit(f"git lists no file in {ROOT}: nothing was checked")
    return found


def copy(destination: Path, selected: t.Callable[[str], bool]) -> int:
    """Copy those files of the checkout; return how many."""
    names = [name for name in files() if selected(name)]
    for name in names:
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, destination / name)
    return len(names)
