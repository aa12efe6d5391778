# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the collection's tarball, for the gates beside this file."""

from __future__ import annotations

import os
import subprocess
import tarfile
import typing as t

import tree

if t.TYPE_CHECKING:
    from pathlib import Path


def clean_environment(**variables: str) -> dict[str, str]:
    """Return the environment without settings of Ansible and of the importer, and with these variables."""
    ours = ("ANSIBLE_", "GALAXY_IMPORTER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | variables


def call(*command: str, cwd: Path, environment: t.Mapping[str, str]) -> str:
    """Run a command and return its output; end the program with the output if the command fails."""
    done = subprocess.run(command, cwd=cwd, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"failed with status {done.returncode}: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path, environment: t.Mapping[str, str]) -> Path:
    """Build the tarball into the folder and return its path."""
    call("ansible-galaxy", "collection", "build", "--output-path", str(folder), cwd=tree.ROOT, environment=environment)
    (tarball,) = folder.glob("keyops-utrust-*.tar.gz")
    return tarball


def unpack(tarball: Path, destination: Path) -> int:
    """Unpack a tarball that `build` has made, and return the number of its files."""
    # Python before 3.11.4 has no filters.
    options: dict[str, t.Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(tarball) as archive:
        archive.extractall(destination, **options)
        return sum(member.isfile() for member in archive.getmembers())
