# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run make targets alone or two at a time, print how long each took, and stop at the first failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def say(message: str) -> None:
    print(message, flush=True)


def run(stage: str, *, alone: bool) -> tuple[int, str, float]:
    """Return the status, the output and the duration in seconds. A stage that runs alone writes its output itself."""
    begin = time.monotonic()
    command = [os.environ.get("MAKE", "make"), "--no-print-directory", stage]
    output = None if alone else subprocess.PIPE
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=output, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout or "", time.monotonic() - begin


def run_group(stages: list[str]) -> t.Iterator[tuple[str, int, float]]:
    """Run one stage alone, or several stages two at a time. The first failure ends the group: no other stage starts."""
    if len(stages) == 1:
        say(f"\n=== {stages[0]} ===")
        status, dummy, took = run(stages[0], alone=True)
        yield stages[0], status, took
        return
    with ThreadPoolExecutor(2) as pool:
        running = {pool.submit(run, stage, alone=False): stage for stage in stages}
        for future in as_completed(running):
            status, output, took = future.result()
            say(f"\n=== {running[future]} ===\n{output.rstrip()}")
            yield running[future], status, took
            if status != 0:
                pool.shutdown(cancel_futures=True)
                return


def main(groups: list[str]) -> int:
    """Run groups of stages. The stages of a group have commas between them, and do not use the files of each other."""
    if not groups:
        say("usage: run_stages.py TARGET[,TARGET...]...")
        return 2
    every = [stage for group in groups for stage in group.split(",")]
    done: list[str] = []
    started = time.monotonic()
    for group in groups:
        for stage, status, seconds in run_group(group.split(",")):
            took = duration(seconds)
            if status != 0:
                names = [line.split()[0] for line in done]
                not_run = [name for name in every if name not in names and name != stage]
                say(f"\nFAILED: {stage} after {took} (status {status}). To see it alone: make {stage}")
                say(f"not finished: {', '.join(not_run)}" if not_run else "it was the last one")
                return 1
            done.append(f"  {stage:<18} {took:>12}")
            say(f"=== {stage}: passed, {took} ({len(done)} of {len(every)}) ===")
    say("\n" + "\n".join(done))
    say(f"PASSED: all {len(every)} stages, {duration(time.monotonic() - started)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("\ninterrupted")
        sys.exit(130)
