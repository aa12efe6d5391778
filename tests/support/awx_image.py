# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The build context of the execution environment, as docs/awx.md makes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

from tests.support.playbook import BIN, ROOT, environment

DEFINITION: t.Final = ROOT / "awx/execution-environment.yml"


def _call(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def build_tarball(folder: Path) -> Path:
    """Build the tarball of the collection into the folder, and return its path."""
    _call(str(BIN / "ansible-galaxy"), "collection", "build", "--output-path", str(folder), cwd=ROOT)
    (tarball,) = folder.glob("*.tar.gz")
    return tarball


def build_context(folder: Path) -> tuple[Path, str]:
    """Return the build context for a definition in the folder, and the output of ansible-builder."""
    shutil.copy(DEFINITION, folder)
    builder = str(Path(sys.executable).with_name("ansible-builder"))
    output = _call(builder, "create", "--file", DEFINITION.name, "--output-filename", "Containerfile", cwd=folder)
    return folder / "context", output
