# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run `ansible-test sanity` on a plain clone, or on the unpacked tarball.

The ansible-core is newest (.venv), floor (.venv-floor) or next (.venv-next). The clone is a copy of all files that git tracks
or would track, because ansible-test accepts no symbolic link. The home folder is inside .ansible, because ansible-test keeps its
virtual environments and our pip bootstrap there. Ignore files are refused.
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

import setup_env
import tree
from tarball import build, clean_environment, unpack

LEVELS = {"newest": "dev", "floor": "floor", "next": "next"}
BOOTSTRAPS = ("get_pip_24_2.py", "get_pip_25_2.py")  # ansible-core up to 2.19, and from 2.20 on


def unpack_tarball(destination: Path, work: Path) -> int:
    """Build the tarball, unpack it and return the number of its files."""
    return unpack(build(work, clean_environment(ANSIBLE_HOME=str(work / "home"))), destination)


def not_on_the_index(binaries: Path) -> dict[str, str]:
    """Return the sanity tests with a tool that ansible-core takes from an URL, and these tools. A pre-release can have them."""
    folder = next(binaries.parent.glob("lib/python*/site-packages/ansible_test/_data/requirements"))
    return {
        path.name.removeprefix("sanity.").removesuffix(".txt"): line
        for path in sorted(folder.glob("sanity.*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if " @ " in line
    }


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
    parser.add_argument("which", choices=list(LEVELS))
    parser.add_argument("--tarball", action="store_true", help="the unpacked tarball instead of the clone")
    parser.add_argument("arguments", nargs="*", help="passed on, e.g. -- --test validate-modules")
    options = parser.parse_args()

    binaries = Path(setup_env.program(LEVELS[options.which], "ansible-test")).parent
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

    skipped = {} if options.arguments else not_on_the_index(binaries)
    for test, tool in skipped.items():
        print(f"sanity: {test} is not run, because its tool is not on the package index: {tool}", flush=True)
    home = tree.ROOT / ".ansible" / "test-home"
    prepare_home(home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    environment.update(HOME=str(home), PATH=f"{binaries}{os.pathsep}{os.environ['PATH']}")
    with tempfile.TemporaryDirectory(prefix="keyops-sanity-") as folder:
        copy = Path(folder) / "ansible_collections" / "keyops" / "utrust"
        copied = unpack_tarball(copy, Path(folder)) if options.tarball else tree.copy(copy, lambda dummy_name: True)
        print(f"{copied} files of the {'tarball' if options.tarball else 'clone'} in {copy}", flush=True)
        command = [
            str(binaries / "ansible-test"),
            "sanity",
            "--local",
            "--python",
            python,
            "--color",
            "no",
            *(word for test in skipped for word in ("--skip-test", test)),
            *options.arguments,
        ]
        return subprocess.run(command, cwd=copy, env=environment, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except setup_env.SetupError as problem:
        sys.exit(f"sanity: {problem}")
