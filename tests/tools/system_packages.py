# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the Debian packages that the tests need beside Python, and print the command that installs the missing ones.

With --install or in CI (variable CI), root installs them with apt-get. Only the standard library is used, because this runs before
anything is installed.
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


def command(packages: list[Package]) -> list[str]:
    return ["apt-get", "install", "-y", "--no-install-recommends", *(package.name for package in packages)]


def install(packages: list[Package]) -> None:
    """Run apt-get. A failure is not an error here, because the check for missing packages follows."""
    print(f"system: {' '.join(command(packages))}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], command(packages)[1:]):
        subprocess.run([*APT, *arguments], env=environment, check=False)


def main(arguments: list[str]) -> int:
    packages = missing()
    allowed = "--install" in arguments or os.environ.get("CI")
    if packages and allowed and os.geteuid() == 0 and shutil.which("apt-get"):
        install(packages)
        packages = missing()
    if not packages:
        return 0
    for package in packages:
        print(f"system: {package.name} is missing. It provides {package.purpose}.", file=sys.stderr)
    print(f"system: Run `make system-packages` as root, or: {' '.join(command(packages))}", file=sys.stderr)
    print("system: `make check` and `make unit` run without these packages.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
