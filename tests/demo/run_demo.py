#!/usr/bin/env python3
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main job of keyops.utrust, shown on a cluster of reference appliances with real keys.

`make demo` runs it, `make demo-down` removes everything that it made. Every command that it shows can be typed again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from programs import Interrupted, stop_recorded
from steps import ROOT, Demo, DemoFailed, bold, say, shown
from utrust_appliance import process
from utrust_appliance.errors import OperationError

MARK = ".keyops-demo"
PASSED = """
{passed} in {seconds:.0f} s: three HSMs hold the same 11 keys, every node signs with the new one, and a second run changes nothing.
The cluster still runs. Look around, after `source {folder}/env.sh`:
  utrust-appliance status --dir {folder}/cluster
  utrust-appliance log --dir {folder}/cluster --node node2
  ansible-playbook keyops.utrust.key_sync -i {folder}/cluster/inventory.yml -e utrust_source=node1 --check --diff
Remove everything: make demo-down"""


def remove(folder: Path) -> bool:
    """End everything that a demo in this folder has started, and remove the folder; says whether there was one."""
    if not folder.exists():
        return False
    if any(folder.iterdir()) and not (folder / MARK).exists():
        raise OperationError(f"{folder} was not made by the demo; it is not touched")
    try:
        known = json.loads((folder / "programs.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = {"demo": None, "programs": []}
    demo = known["demo"]
    if demo is not None and demo["pid"] != os.getpid() and not stop_recorded(demo, patience=90.0):
        raise OperationError(f"the demo that runs as process {demo['pid']} does not end")
    for program in known["programs"]:  # of a demo that was killed; else there are none
        stop_recorded(program, patience=15.0)
    if folder.exists():  # the demo that was just stopped has removed it itself
        process.stop(folder / "cluster")
        shutil.rmtree(folder)
    return True


def down(folder: Path) -> int:
    if remove(folder):
        say(f"the demo has ended, {shown(folder)} is removed")
    else:
        say(f"there is no demo in {shown(folder)}")
    return 0


def create(folder: Path) -> None:
    """A new folder. Refuses while another demo runs there, and removes what an earlier one has left."""
    record = folder / "programs.json"
    if record.exists():
        other = json.loads(record.read_text(encoding="utf-8"))["demo"]
        if other["started"] is not None and process.start_time(other["pid"]) == other["started"]:
            raise OperationError(f"a demo runs already, as process {other['pid']}; `make demo-down` stops it")
    if remove(folder):
        say(f"an earlier demo in {shown(folder)} is removed")
    folder.mkdir(mode=0o700, parents=True)
    (folder / MARK).write_text("Made by tests/demo/run_demo.py, removed by its --down.\n", encoding="utf-8")


def up(options: argparse.Namespace) -> int:
    folder: Path = options.dir
    began = time.monotonic()
    if shutil.which("openssl") is None:
        raise OperationError("the demo verifies signatures with openssl, which is not installed")
    create(folder)
    demo = Demo(folder, options.card_timeout, not options.no_card_holders)
    demo.programs.obey_signals()
    say(bold("keyops.utrust: bring all HSMs of a cluster to the same keys, and prove it"))
    say(f"Every command can be typed again in another terminal, in {ROOT}, after `source {shown(folder / 'env.sh')}`.")
    try:
        demo.show()
    except Interrupted as exc:
        demo.programs.stop()
        remove(folder)
        say(f"\n{exc}: the demo's programs have ended, {shown(folder)} is removed")
        return 128 + exc.signum
    except DemoFailed as exc:
        say(f"\n{exc}\nThe cluster may still run, for you to look around. `make demo-down` removes everything.")
        return 1
    finally:
        demo.programs.stop()
    say(PASSED.format(seconds=time.monotonic() - began, folder=shown(folder), passed=bold("DEMO PASSED")))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--down", action="store_true", help="end everything that the demo started, and remove its folder")
    add("--dir", type=Path, default=ROOT / ".demo", metavar="D", help="the folder for everything it makes (.demo)")
    add("--card-timeout", type=float, default=120.0, metavar="S", help="seconds that a PIN pad waits for people (120)")
    add("--no-card-holders", action="store_true", help="nobody plays the card holders: you do, in another terminal")
    options = parser.parse_args()
    options.dir = options.dir.absolute()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        return down(options.dir) if options.down else up(options)
    except OperationError as exc:
        say(f"demo: {exc}")
        return 1
    except KeyboardInterrupt:  # nothing has been started yet
        return 130


if __name__ == "__main__":
    sys.exit(main())
