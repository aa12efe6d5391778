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
    """SHA-256 of the sorted list of all files that can run, in the format of sha256sum.

    An installed collection lists its files in FILES.json. Other files beside them, such as a backup of an editor, do not change the digest.
    """
    lines = [f"{_sha256(root / name)}  {name}\n" for name in sorted(_listed(root) or _found(root))]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def _listed(root: pathlib.Path) -> list[str]:
    """Return the files that FILES.json lists, or nothing in a checkout."""
    try:
        entries = json.loads((root / "FILES.json").read_bytes())["files"]
    except FileNotFoundError:
        return []
    names = [str(entry["name"]) for entry in entries if entry["ftype"] == "file"]
    return [name for name in names if name.partition("/")[0] in FOLDERS]


def _found(root: pathlib.Path) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for folder in FOLDERS
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
