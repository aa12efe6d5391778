# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two OpenAPI linters have no finding in the contract. Examples and limits: tests/unit/test_contract.py.

openapi-spec-validator checks the schema of OpenAPI. Redocly CLI checks its rules in tests/requirements/redocly/redocly.yaml.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import typing as t

import setup_env
import tree

if t.TYPE_CHECKING:
    from pathlib import Path

CONTRACT = tree.ROOT / "docs" / "api" / "appliance-v1.yaml"
VENV = tree.ROOT / setup_env.LEVELS["contract"].folder
SOURCE = setup_env.REQUIREMENTS / "redocly"
PACKAGES = ("package.json", "package-lock.json")
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


def install_redocly() -> Path:
    """Install what the lock file pins, without scripts of packages, and return the program. A second run does nothing."""
    folder = VENV / "redocly"
    stamp, program = folder / "installed.json", folder / "node_modules" / "@redocly" / "cli" / "bin" / "cli.js"
    expected = (SOURCE / "package-lock.json").read_bytes()
    if program.exists() and stamp.exists() and stamp.read_bytes() == expected:
        return program
    folder.mkdir(exist_ok=True)
    for name in PACKAGES:
        shutil.copyfile(SOURCE / name, folder / name)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    if run_node([setup_env.program("contract", "npm"), "ci", *options], folder).returncode != 0:
        raise setup_env.SetupError(f"npm failed to install {SOURCE / 'package-lock.json'}. Its output is above.")
    stamp.write_bytes(expected)
    return program


def run_node(command: list[str], folder: Path, *, capture: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **QUIET, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    return subprocess.run(command, cwd=folder, env=environment, check=False, text=True, capture_output=capture)


def check_specification() -> int:
    """Return the number of violations of OpenAPI. The linter prints them."""
    validator = setup_env.program("contract", "openapi-spec-validator")
    done = subprocess.run([validator, str(CONTRACT)], check=False)
    return int(done.returncode != 0)


def check_rules() -> int:
    """Print what Redocly CLI finds, one finding a line, and return the number of findings. A warning is a finding."""
    options = ["--config", str(SOURCE / "redocly.yaml"), "--format", "json", "--max-problems", "1000"]
    node = setup_env.program("contract", "node")
    done = run_node([node, str(install_redocly()), "lint", *options, str(CONTRACT)], VENV, capture=True)
    try:
        problems = json.loads(done.stdout)["problems"]
    except (ValueError, KeyError):
        print(done.stdout, done.stderr, sep="\n")
        return 1
    for problem in problems:
        place = problem["location"][0].get("pointer", "")
        print(f"{place}: {problem['message']} [{problem['ruleId']}]")
    return max(len(problems), int(done.returncode != 0))


def main() -> int:
    found = check_specification() + check_rules()
    print(f"contract: {CONTRACT.relative_to(tree.ROOT)}, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except setup_env.SetupError as problem:
        sys.exit(f"contract: {problem}")
