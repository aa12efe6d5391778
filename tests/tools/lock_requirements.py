# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write tests/requirements/*.txt: every package of the environments with its version and hashes, for every supported Python.

Sources are tests/requirements/*.in and the appliance simulator. Versions stay as they are while they fit to the sources.
With the argument --upgrade, all versions become the newest ones. Only wheels are accepted, because pip builds other packages
with tools that nobody has pinned.
"""

from __future__ import annotations

import os
import sys
import typing as t

import setup_env

HEADER = """# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Made by `make lock`; do not edit. Source: {sources}.
"""
OPTIONS = ("--universal", "--generate-hashes", "--only-binary", ":all:", "--no-annotate", "--no-header", "--quiet")
# The demo comes last, because it takes its versions from dev.
LEVELS = ("lock", "floor", "next", "importer", "contract", "awx", "dev", "demo")
# Only this package is downloaded, see awx_collection.py.
WITHOUT_DEPENDENCIES = {"awx"}


def lock(name: str, arguments: t.Sequence[str]) -> None:
    level = setup_env.LEVELS.get(name)
    path = setup_env.REQUIREMENTS / f"{name}.txt"
    sources = [f"{name}.in"]
    command = [str(setup_env.ROOT / setup_env.LEVELS["lock"].folder / "bin" / "uv"), "pip", "compile", *OPTIONS]
    command += [
        "--python-version",
        f"{setup_env.OLDEST[0]}.{setup_env.OLDEST[1]}",
        "--output-file",
        path.name,
        *arguments,
    ]
    if name in WITHOUT_DEPENDENCIES:
        command.append("--no-deps")
    if level and level.appliance:
        sources.append(os.path.relpath(setup_env.APPLIANCE / "pyproject.toml", setup_env.REQUIREMENTS))
        command += [word for extra in level.extras for word in ("--extra", extra)]
    if name == "demo":
        command += ["--constraint", "dev.txt"]
    setup_env.run([*command, *sources], "uv", cwd=setup_env.REQUIREMENTS)
    text = HEADER.format(sources=" and ".join(sources)) + path.read_text(encoding="utf-8").removeprefix(
        HEADER.format(sources=" and ".join(sources))
    )
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {text.count('==')} packages", flush=True)


def main(arguments: list[str]) -> int:
    for name in LEVELS:
        lock(name, arguments)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except setup_env.SetupError as problem:
        print(f"lock: {problem}", file=sys.stderr)
        sys.exit(1)
