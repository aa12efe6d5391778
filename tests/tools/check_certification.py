# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-lint as the certification checker does: in a plain clone, and in the unpacked tarball.

The checker has no environment of this checkout. In the clone, ansible-lint installs the collection itself from galaxy.yml, so the
settings of the clone must not forbid that. The tarball has no settings, so the defaults apply to all of its files.
The other parts of the checker are the gates `sanity` and `galaxy-importer`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import tree
from tarball import build, clean_environment, unpack

# The checker runs `ansible-lint --profile=production -x sanity`. Here a warning is a finding, too.
COMMAND = ("ansible-lint", "--strict", "--profile=production", "-x", "sanity")


def lint(folder: Path, *options: str, environment: t.Mapping[str, str]) -> str:
    """Run ansible-lint in a folder, and return its output if it has a finding."""
    done = subprocess.run(
        [*COMMAND, *options],
        cwd=folder,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return "" if done.returncode == 0 and "Passed" in done.stdout else done.stdout or "ansible-lint printed nothing"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="keyops-certification-") as name:
        work = Path(name)
        clean = clean_environment(HOME=str(work / "home"), NO_COLOR="1")
        clone, unpacked = work / "clone", work / "collections" / "ansible_collections" / "keyops" / "utrust"
        tree.copy(clone, lambda dummy_name: True)
        for command in (("git", "init", "--quiet"), ("git", "add", "--all")):
            subprocess.run(command, cwd=clone, check=True)
        unpack(build(work, clean), unpacked)
        # Without a network, ansible-lint only misses newer versions of its schemas.
        results = {
            "clone": lint(clone, environment=clean),
            "unpacked tarball": lint(
                unpacked, "--offline", environment={**clean, "ANSIBLE_COLLECTIONS_PATH": str(work / "collections")}
            ),
        }
    for place, findings in results.items():
        print(f"certification: {place}: {findings or 'no findings'}")
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    os.environ.pop("GIT_DIR", None)  # a hook of git sets it
    sys.exit(main())
