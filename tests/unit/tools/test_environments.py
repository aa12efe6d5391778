# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A gate without its environment names the command that makes the environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.mark.parametrize(
    ("command", "folder", "level"),
    [
        (["check_contract.py"], ".venv-contract", "contract"),
        (["check_import.py"], ".venv-importer", "importer"),
        (["sanity.py", "floor"], ".venv-floor", "floor"),
        (["sanity.py", "next", "--tarball"], ".venv-next", "next"),
        (["sanity.py", "newest"], ".venv", "dev"),
    ],
)
def test_gate_without_its_environment_names_the_command(
    tmp_path: Path, command: list[str], folder: str, level: str
) -> None:
    shutil.copytree(TOOLS, tmp_path / "tests/tools")
    script, *arguments = command
    path = tmp_path / "tests/tools" / script
    done = subprocess.run([sys.executable, str(path), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert f": {folder} has no program " in line
    assert line.endswith(f"Run this first: python3 tests/tools/setup_env.py {level}")
