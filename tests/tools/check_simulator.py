# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the wheel of the appliance simulator as a user does, and use it outside of the checkout, with the collection from the tarball.

The wheel is built from the folder, and from the URL of a Git repository with the last commit. It serves a user's own playbook, and the
Molecule scenario that the README of the simulator shows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import setup_env
import tree
from tarball import build, call, clean_environment

PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation")
#: Steps of the scenario in the README.
STEPS = ("create", "converge", "idempotence", "verify", "destroy")
PLAYBOOK: list[dict[str, t.Any]] = [
    {
        "name": "Scenario of a user",
        "hosts": "utrust",
        "gather_facts": False,
        "roles": ["keyops.utrust.key_sync"],
    }
]


def build_wheel(source: str, folder: Path) -> Path:
    """Build the wheel without a download and return its path."""
    folder.mkdir()
    call(
        sys.executable, *PIP, "wheel", *OFFLINE, "--wheel-dir", str(folder), source, cwd=folder, environment=os.environ
    )
    (wheel,) = folder.glob("utrust_appliance-*.whl")
    print(f"simulator-wheel: {wheel.name} from {source}", flush=True)
    return wheel


def changed(recap: str) -> int:
    return sum(map(int, re.findall(r"changed=(\d+)", recap)))


def use(work: Path, environment: dict[str, str]) -> None:
    """Run the playbook of the user against two nodes: one import, then no change."""
    cluster = work / "cluster"
    call(
        "utrust-appliance",
        "up",
        "--nodes",
        "2",
        "--restored",
        "2",
        "--dir",
        str(cluster),
        cwd=work,
        environment=environment,
    )
    try:
        key = ("--node", "node1", "--label", "userKey", "--type", "ec-p256", "--dir", str(cluster))
        call("utrust-appliance", "key", "generate", *key, cwd=work, environment=environment)
        (work / "site.yml").write_text(json.dumps(PLAYBOOK), encoding="utf-8")
        options = ("-e", "utrust_source=node1", "-e", "key_sync_allow_outage=true")
        site = ("ansible-playbook", "site.yml", "-i", str(cluster / "inventory.yml"), *options)
        found = [changed(call(*site, cwd=work, environment=environment)) for dummy in range(2)]
    finally:
        call("utrust-appliance", "down", "--dir", str(cluster), "--purge", cwd=work, environment=environment)
    if found != [1, 0]:
        raise SystemExit(f"expected one change and then none, found {found}")


def write_scenario(folder: Path) -> int:
    """Write the files of the README, whose first line is a comment with their path. Returns how many."""
    text = (setup_env.APPLIANCE / "README.md").read_text(encoding="utf-8")
    files = re.findall(r"^```yaml\n# (molecule/\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return len(files)


def run_scenario(work: Path, environment: dict[str, str]) -> None:
    project = work / "project"
    count = write_scenario(project)
    done = subprocess.run(
        ["molecule", "test"],
        cwd=project,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    shown = re.sub(
        r"\x1b\[[0-9;]*m", "", done.stdout
    )  # Molecule uses colors where a variable of the environment says so
    ran = [step for step in STEPS if re.search(rf"default \S {step}: Executed: Successful", shown)]
    if done.returncode != 0 or not count or ran != list(STEPS):
        raise SystemExit(f"{shown}\nthe Molecule scenario of the README has {count} files, and these steps ran: {ran}")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="keyops-simulator-") as folder:
        work = Path(folder)
        # A copy, because a build writes into its folder.
        tree.copy(work / "clone", lambda name: name.startswith("tests/appliance/"))
        wheel = build_wheel(str(work / "clone" / "tests" / "appliance"), work / "path")
        build_wheel(f"git+file://{tree.ROOT}#subdirectory=tests/appliance", work / "url")
        venv = work / "venv"
        call(sys.executable, "-m", "venv", str(venv), cwd=work, environment=os.environ)
        python = str(venv / "bin" / "python")
        # With the packages of the tests, because they include Molecule.
        locked = ("--require-hashes", "--only-binary", ":all:", "-r", str(setup_env.REQUIREMENTS / "dev.txt"))
        call(python, *PIP, "install", *locked, cwd=work, environment=os.environ)
        call(python, *PIP, "install", "--no-index", "--no-deps", str(wheel), cwd=work, environment=os.environ)
        call(python, "-m", "pip", "check", cwd=work, environment=os.environ)
        collections = work / "collections"
        environment = clean_environment(
            ANSIBLE_COLLECTIONS_PATH=str(collections),
            ANSIBLE_HOME=str(work / "home"),
            ANSIBLE_NOCOLOR="1",
            PATH=f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        )
        install = ("ansible-galaxy", "collection", "install", str(build(work, environment)), "--offline")
        call(*install, "--collections-path", str(collections), cwd=work, environment=environment)
        use(work, environment)
        run_scenario(work, environment)
    print("simulator-wheel: a playbook and a Molecule scenario of a user synchronize two simulated nodes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
