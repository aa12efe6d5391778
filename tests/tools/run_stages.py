#!/usr/bin/env python3
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run make targets one after the other, say how long each took, and stop at the first that fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def say(message: str) -> None:
    print(message, flush=True)


def main(stages: list[str]) -> int:
    if not stages:
        say("usage: run_stages.py TARGET...")
        return 2
    make = os.environ.get("MAKE", "make")
    done: list[str] = []
    started = time.monotonic()
    for number, stage in enumerate(stages, start=1):
        say(f"\n=== [{number}/{len(stages)}] {stage} ===")
        begin = time.monotonic()
        status = subprocess.run([make, "--no-print-directory", stage], cwd=ROOT, check=False).returncode
        took = duration(time.monotonic() - begin)
        if status != 0:
            skipped = stages[number:]
            say(f"\nFAILED: {stage} after {took} (status {status}). To see it alone: make {stage}")
            say(f"not run: {', '.join(skipped)}" if skipped else "it was the last one")
            return 1
        say(f"=== {stage}: passed, {took} ===")
        done.append(f"  {stage:<16} {took:>12}")
    say("\n" + "\n".join(done))
    say(f"PASSED: all {len(stages)} stages, {duration(time.monotonic() - started)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("\ninterrupted")
        sys.exit(130)
