#!/usr/bin/env python3
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pin what the pinned tools bring along, in tests/requirements/constraints.txt, importer-constraints.txt and contract-constraints.txt.

Every supported Python is asked, because not every release runs on each; the newest stands for those after it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import typing as t

import setup_env

PYTHONS = ((3, 11), (3, 12), (3, 13))
LEVELS = ("dev", "importer", "contract")
HEADER = """# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Made by `make lock`; do not edit. Pins the dependencies of {sources}.
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned_directly(level: setup_env.Level) -> set[str]:
    text = "".join((setup_env.REQUIREMENTS / name).read_text(encoding="utf-8") for name in level.files)
    return {normal(name) for name in re.findall(r"^([A-Za-z0-9_.-]+)==", text, re.MULTILINE)}


def resolve(level: setup_env.Level, python: str) -> dict[str, str]:
    """Install everything into a fresh environment and return what came along."""
    with tempfile.TemporaryDirectory(prefix="keyops-lock-") as folder:
        setup_env.run([python, "-m", "venv", folder], "making a virtual environment")
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        sources = ["--requirement", str(setup_env.REQUIREMENTS / level.files[-1])]
        sources += ["--editable", level.appliance] if level.appliance else []
        setup_env.run([*pip, "install", "--quiet", *sources], "pip install")
        frozen = subprocess.run(
            [*pip, "freeze", "--exclude-editable"], check=True, capture_output=True, text=True
        ).stdout
    found = dict(re.findall(r"^([^=\s]+)==(\S+)$", frozen, re.MULTILINE))
    direct = pinned_directly(level)
    return {normal(name): version for name, version in found.items() if normal(name) not in direct}


def marker(version: tuple[int, int]) -> str:
    compare = ">=" if version == PYTHONS[-1] else "=="
    return f'python_version {compare} "{version[0]}.{version[1]}"'


def lines(resolved: dict[tuple[int, int], dict[str, str]]) -> t.Iterator[str]:
    for name in sorted({name for packages in resolved.values() for name in packages}):
        versions = {python: packages[name] for python, packages in resolved.items() if name in packages}
        if len(set(versions.values())) == 1:
            yield f"{name}=={next(iter(versions.values()))}"
        else:
            yield from (f"{name}=={version} ; {marker(python)}" for python, version in versions.items())


def lock(level: setup_env.Level, pythons: dict[tuple[int, int], str]) -> None:
    resolved = {}
    for version in PYTHONS:
        print(f"asking {pythons[version]}", flush=True)
        resolved[version] = resolve(level, pythons[version])
    files = [*level.files, *(["tests/appliance"] if level.appliance else [])]
    header = HEADER.format(sources=" and ".join(filter(None, (", ".join(files[:-1]), files[-1]))))
    text = header + "".join(f"{line}\n" for line in lines(resolved))
    path = setup_env.REQUIREMENTS / str(level.constraints)
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {len(text.splitlines())} lines")


def main(names: list[str]) -> int:
    pythons = setup_env.interpreters()
    missing = [f"{major}.{minor}" for major, minor in PYTHONS if (major, minor) not in pythons]
    if missing:
        raise setup_env.SetupError(f"not found, but needed for the pins: Python {', '.join(missing)}")
    for name in names or LEVELS:
        lock(setup_env.LEVELS[name], pythons)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except setup_env.SetupError as problem:
        print(f"lock: {problem}", file=sys.stderr)
        sys.exit(1)
