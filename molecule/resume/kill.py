# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts a playbook, waits until a node works on the operation, and kills the controller."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from utrust_appliance.control import Control

INVENTORY = Path(__file__).resolve().parents[1] / "inventory.py"
LIMIT = 120.0  # seconds


def is_in_progress(control: Control, playbook: str) -> bool:
    if playbook == "key_sync":
        return control.node("node2")["running"] is not None
    restore = control.pin_pad("node3")["restore"]
    return restore is not None and restore["state"] == "waiting_for_card"


def main() -> int:
    control, playbook = Control(sys.argv[1]), sys.argv[2]
    if playbook == "key_sync":
        control.fault("hold_apply", node="node2")
    process = subprocess.Popen(
        ["ansible-playbook", f"keyops.utrust.{playbook}", "-i", str(INVENTORY)], stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + LIMIT
    try:
        while not is_in_progress(control, playbook):
            if process.poll() is not None or time.monotonic() > end:
                print(
                    f"{playbook} ended or exceeded the time limit before the operation started on the node",
                    file=sys.stderr,
                )
                return 1
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
        control.clear_faults()
    return 0


if __name__ == "__main__":
    sys.exit(main())
