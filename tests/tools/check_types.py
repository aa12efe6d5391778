# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""mypy over the collection under its real name, the appliance simulator, the tools and the tests."""

from __future__ import annotations

import subprocess
import sys

import tree

# Through the collection path, so that a plugin is known to mypy by the name that others import it by.
COLLECTION = ".ansible/collections/ansible_collections/keyops/utrust"
GROUPS = (
    (f"{COLLECTION}/plugins",),
    (f"{COLLECTION}/extensions/eda/plugins",),
    ("tests/appliance/src",),
    ("tests/appliance/tests",),
    ("tests/tools",),
    ("tests/support",),
    ("tests/unit",),
    ("tests/conformance",),
    ("tests/modules",),
    ("tests/playbooks",),
    ("tests/awx",),
    ("tests/image",),
    ("tests/browser",),
    ("tests/demo",),
    ("tests/bench",),
)


def main() -> int:
    status = 0
    for group in GROUPS:
        present = [name for name in group if next((tree.ROOT / name).rglob("*.py"), None)]
        if not present:
            continue
        print(f"mypy {' '.join(present)}", flush=True)
        status |= subprocess.run([sys.executable, "-m", "mypy", *present], cwd=tree.ROOT, check=False).returncode
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
