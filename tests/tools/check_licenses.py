# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every source file states its license in its first lines; a file of unknown kind is an error, not an exception."""

from __future__ import annotations

import sys
from pathlib import Path

import tree

LINES = (
    "Copyright (c) 2026, The keyops.utrust authors",
    "GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "SPDX-License-Identifier: GPL-3.0-or-later",
)
WITH_HEADER = {".py", ".yml", ".yaml", ".toml", ".cfg", ".ini", ".txt", ".in", ".j2", ".sh", ".html", ".css", ".js"}
WITH_HEADER_BY_NAME = {
    "Makefile",
    ".ci/run",
    ".git-blame-ignore-revs",
    ".editorconfig",
    ".gitignore",
    ".yamllint",
    ".gitattributes",
    "bindep.txt",
}
# Prose, pictures and data cannot carry a header or would show it to the reader: they are under the same license.
WITHOUT = {".md", ".rst", ".svg", ".png", ".json", ".cast", ".typed"}
WITHOUT_BY_PATH = (
    "LICENSES/",
    "COPYING",
    "changelogs/fragments/",
    "changelogs/changelog.yaml",
    "changelogs/.plugin-cache.yaml",
)


def problem(name: str) -> str | None:
    suffix = Path(name).suffix
    if name.startswith(WITHOUT_BY_PATH) or suffix in WITHOUT:
        return None
    if suffix not in WITH_HEADER and name not in WITH_HEADER_BY_NAME and Path(name).name not in WITH_HEADER_BY_NAME:
        return "unknown kind of file: name it in tests/tools/check_licenses.py"
    content = (tree.ROOT / name).read_text(encoding="utf-8")
    head = content[:800]
    if not content.strip() and Path(name).name == "__init__.py":
        return None
    missing = [line for line in LINES if line not in head]
    return f"missing in the first lines: {missing[0]}" if missing else None


def main() -> int:
    names = tree.files()
    found = [(name, text) for name in names if (text := problem(name))]
    for name, text in found:
        print(f"{name}: {text}")
    print(f"licenses: {len(names)} files looked at, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
