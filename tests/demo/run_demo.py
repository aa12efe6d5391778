# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Demo of keyops.utrust on a simulated cluster with real keys.

`make demo` runs the demo, and `make demo-down` removes all its files. All shown commands can be repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from programs import InterruptedRunError, stop_recorded
from steps import ROOT, Demo, DemoError, bold, say, shown
from utrust_appliance import process
from utrust_appliance.errors import OperationError

MARK = ".keyops-demo"
PASSED = """
{passed} in {seconds:.0f} s: three HSMs hold the same 11 keys, every node signs with the new key, and a second run changes nothing.
The cluster is still running. To explore it, run `source {folder}/env.sh` and then:
  utrust-appliance status --dir {folder}/cluster
  utrust-appliance log --dir {folder}/cluster --node node2
  ansible-playbook keyops.utrust.key_sync -i {folder}/cluster/inventory.yml -e utrust_source=node1 --check --diff
Remove everything: make demo-down"""


def remove(folder: Path) -> bool:
    """Stop all programs of a demo in this folder, and remove the folder. Returns whether the folder existed."""
    if not folder.exists():
        return False
    if any(folder.iterdir()) and not (folder / MARK).exists():
        raise OperationError(f"{folder} was not created by the demo. It was not removed.")
    try:
        known = json.loads((folder / "programs.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = {"demo": None, "programs": []}
    demo = known["demo"]
    if demo is not None and demo["pid"] != os.getpid() and not stop_recorded(demo, timeout=90.0):
        raise OperationError(f"The demo with process {demo['pid']} does not end.")
    for program in known["programs"]:  # programs of a killed demo
        stop_recorded(program, timeout=15.0)
    if folder.exists():  # a stopped demo removes its folder
        process.stop(folder / "cluster")
        shutil.rmtree(folder)
    return True


def down(folder: Path) -> int:
    if remove(folder):
        say(f"The demo has ended. {shown(folder)} was removed.")
    else:
        say(f"No demo was found in {shown(folder)}.")
    return 0


def create(folder: Path) -> None:
    """Create the folder, and remove an earlier demo. Raises OperationError if a demo is running there."""
    record = folder / "programs.json"
    if record.exists():
        other = json.loads(record.read_text(encoding="utf-8"))["demo"]
        if other["started"] is not None and process.start_time(other["pid"]) == other["started"]:
            raise OperationError(
                f"A demo is already running with process {other['pid']}. Run `make demo-down` to stop it."
            )
    if remove(folder):
        say(f"An earlier demo in {shown(folder)} was removed.")
    folder.mkdir(mode=0o700, parents=True)
    (folder / MARK).write_text("Created by tests/demo/run_demo.py, removed by its option --down.\n", encoding="utf-8")


def up(options: argparse.Namespace) -> int:
    folder: Path = options.dir
    began = time.monotonic()
    if shutil.which("openssl") is None:
        raise OperationError("openssl is missing. Install openssl to verify signatures.")
    create(folder)
    demo = Demo(folder, options.card_timeout, not options.no_card_holders)
    demo.programs.handle_signals()
    say(bold("keyops.utrust: synchronize and verify the keys of all HSMs of a cluster"))
    say(f"To repeat a command, open another terminal in {ROOT} and run `source {shown(folder / 'env.sh')}` first.")
    try:
        demo.show()
    except InterruptedRunError as exc:
        demo.programs.stop()
        remove(folder)
        say(f"\n{exc}: the programs of the demo have ended. {shown(folder)} was removed.")
        return 128 + exc.signum
    except DemoError as exc:
        say(f"\n{exc}\nThe cluster can still be running for inspection. Run `make demo-down` to remove everything.")
        return 1
    finally:
        demo.programs.stop()
    say(PASSED.format(seconds=time.monotonic() - began, folder=shown(folder), passed=bold("DEMO PASSED")))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--down", action="store_true", help="stop all programs of the demo and remove its folder")
    add("--dir", type=Path, default=ROOT / ".demo", metavar="D", help="folder for all files of the demo (.demo)")
    add("--card-timeout", type=float, default=120.0, metavar="S", help="seconds that a PIN pad waits for input (120)")
    add(
        "--no-card-holders",
        action="store_true",
        help="do not simulate card holders; use the PIN pads in another terminal",
    )
    options = parser.parse_args()
    options.dir = options.dir.absolute()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        return down(options.dir) if options.down else up(options)
    except OperationError as exc:
        say(f"demo: {exc}")
        return 1
    except KeyboardInterrupt:  # no program was started
        return 130


if __name__ == "__main__":
    sys.exit(main())
