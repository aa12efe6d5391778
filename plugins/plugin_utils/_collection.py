# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Version and digest of the installed collection. Private to keyops.utrust."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Folders with files that can run. Other files, such as documentation, do not change the behavior.
FOLDERS = ("meta", "plugins", "roles", "playbooks", "extensions")


def collection_version(root: pathlib.Path = ROOT) -> str:
    """The version of the installed collection (MANIFEST.json) or of a checkout (galaxy.yml)."""
    try:
        return str(json.loads((root / "MANIFEST.json").read_bytes())["collection_info"]["version"])
    except FileNotFoundError:
        found = re.search(r"^version:\s*(\S+)", (root / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE)
        return found[1] if found else "unknown"


def collection_digest(root: pathlib.Path = ROOT) -> str:
    """SHA-256 of the sorted list of all files that can run, in the format of sha256sum."""
    files = sorted(
        path.relative_to(root).as_posix()
        for folder in FOLDERS
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    lines = [f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in files]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
