#!/usr/bin/env python3
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run `ansible-test sanity` on a real copy of the collection: newest (.venv) or floor (.venv-floor).

A copy, because ansible-test accepts no symbolic link; with a home folder of its own inside .ansible, because it
keeps its virtual environments and our pip bootstrap there. Ignore files are refused.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tree

VENVS = {"newest": ".venv", "floor": ".venv-floor"}
SHIPPED = ("changelogs/", "docs/", "extensions/", "meta/", "playbooks/", "plugins/", "roles/", "tests/unit/")
SINGLE = ("COPYING", "CHANGELOG.md", "README.md", "galaxy.yml", "tests/config.yml")
BOOTSTRAPS = ("get_pip_24_2.py", "get_pip_25_2.py")  # ansible-core up to 2.19, and from 2.20 on


def selected(name: str) -> bool:
    return name.startswith((*SHIPPED, "tests/sanity/")) or name in SINGLE


def prepare_home(home: Path) -> None:
    """A home folder with the bootstrap, and with the user's own pip configuration."""
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in BOOTSTRAPS:
        shutil.copyfile(Path(__file__).with_name("pip_bootstrap.py"), cache / name)
    for name in (".config/pip", ".pip"):
        theirs, ours = Path.home() / name, home / name
        if theirs.is_dir() and not ours.exists():
            ours.parent.mkdir(parents=True, exist_ok=True)
            ours.symlink_to(theirs)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("which", choices=list(VENVS))
    parser.add_argument("arguments", nargs="*", help="passed on, e.g. -- --test validate-modules")
    options = parser.parse_args()

    binaries = tree.ROOT / VENVS[options.which] / "bin"
    version = subprocess.run(
        [binaries / "ansible-test", "--version"], check=True, capture_output=True, text=True
    ).stdout
    python = subprocess.run(
        [binaries / "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    print(f"{version.strip()}, Python {python}", flush=True)
    if options.which == "floor" and os.environ.get("CI"):
        floor = re.search(
            r"^requires_ansible: \">=(\d+\.\d+)\.", (tree.ROOT / "meta/runtime.yml").read_text(), re.MULTILINE
        )
        if floor is None or f" {floor[1]}." not in version:
            print("this is not the floor that meta/runtime.yml names", file=sys.stderr)
            return 1
    ignored = [name for name in tree.files() if name.startswith("tests/sanity/ignore")]
    if ignored:
        print(f"ignore files are not allowed: {', '.join(ignored)}", file=sys.stderr)
        return 1

    home = tree.ROOT / ".ansible" / "test-home"
    prepare_home(home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    environment.update(HOME=str(home), PATH=f"{binaries}{os.pathsep}{os.environ['PATH']}")
    with tempfile.TemporaryDirectory(prefix="keyops-sanity-") as folder:
        copy = Path(folder) / "ansible_collections" / "keyops" / "utrust"
        print(f"{tree.copy(copy, selected)} files copied to {copy}", flush=True)
        command = [
            str(binaries / "ansible-test"),
            "sanity",
            "--local",
            "--python",
            python,
            "--color",
            "no",
            *options.arguments,
        ]
        return subprocess.run(command, cwd=copy, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
