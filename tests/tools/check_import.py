# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run galaxy-importer on the collection's tarball, with the settings of Automation Hub and without a network.

The importer is the check of Galaxy and Automation Hub. It reports some errors and all findings of ansible-lint only in its log.
Therefore this gate rejects every line of the log that starts with ERROR or WARNING.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import setup_env
from tarball import build, clean_environment

SUCCESS = "Importer processing completed successfully"
# ansible-test runs in gates of its own, with the oldest and the newest ansible-core.
SETTINGS = """[galaxy-importer]
check_required_tags = true
require_v1_or_greater = true
run_ansible_test = false
"""


def main() -> int:
    python = setup_env.program("importer", "python")
    with tempfile.TemporaryDirectory(prefix="keyops-importer-") as folder:
        work = Path(folder)
        (work / "galaxy-importer.cfg").write_text(SETTINGS, encoding="utf-8")
        environment = clean_environment(
            ANSIBLE_HOME=str(work / "ansible"),
            ANSIBLE_NOCOLOR="1",
            GALAXY_IMPORTER_ANSIBLE_LOCAL_TMP=str(work / "tmp"),
            GALAXY_IMPORTER_CONFIG=str(work / "galaxy-importer.cfg"),
            PATH=f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
        )
        tarball = build(work, environment)
        command = [python, "-m", "galaxy_importer.main", str(tarball)]
        done = subprocess.run(
            command, cwd=work, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    print(done.stdout, end="")
    rejected = [line for line in done.stdout.splitlines() if line.startswith(("ERROR:", "WARNING:"))]
    if done.returncode != 0 or SUCCESS not in done.stdout:
        print(f"galaxy-importer: the import of {tarball.name} failed")
        return 1
    print(f"galaxy-importer: {tarball.name} is imported, {len(rejected)} errors and warnings")
    return 1 if rejected else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except setup_env.SetupError as problem:
        sys.exit(f"galaxy-importer: {problem}")
