#!/usr/bin/env python3
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Install the Debian packages that the tests need beside Python; where that is not possible, say in one line what to install.

Installs as root where there is apt-get. Only the standard library is used, because this runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

APT = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]


class Package(t.NamedTuple):
    """A Debian package, a command that shows whether it is there, and what it is for."""

    name: str
    command: str
    purpose: str


PACKAGES = (
    Package("softhsm2", "softhsm2-util", "the HSM backend pkcs11"),
    Package("opensc", "pkcs11-tool", "a third party's client of that HSM"),
    Package("chromium", "chromium", "the browser tests"),
    Package("postgresql", "initdb", "the application's shared database"),
)


def missing() -> list[Package]:
    # Debian keeps some commands in folders that are not on everybody's PATH.
    path = os.pathsep.join(
        [os.environ.get("PATH", os.defpath), "/usr/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    )
    return [package for package in PACKAGES if not shutil.which(package.command, path=path)]


def install(packages: list[Package]) -> None:
    """As root, with apt-get. It may fail; what is missing afterwards is what counts."""
    if not packages or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    names = [package.name for package in packages]
    print(f"system: installing {' '.join(names)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *names]):
        subprocess.run([*APT, *arguments], env=environment, check=False)


def main() -> int:
    install(missing())
    left = missing()
    if not left:
        return 0
    names = " ".join(package.name for package in left)
    purposes = ", ".join(package.purpose for package in left)
    print(f"system: missing for {purposes}; install them as root: apt-get install {names}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
