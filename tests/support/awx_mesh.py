# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs on another machine of AWX's mesh: a stream of ansible-runner in each direction."""

from __future__ import annotations

import subprocess
import typing as t

from tests.support.awx_job import RUNNER, JobResult, job_environment, read_result

if t.TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def transmit(private: Path, *arguments: str) -> bytes:
    """Return a job as a stream. `arguments` are those of ansible-playbook."""
    options = [f"--cmdline={' '.join(arguments)}"] if arguments else []
    command = [RUNNER, "transmit", str(private), "-p", "job.yml", "--ident", "1", *options]
    return subprocess.run(command, env=job_environment(private), capture_output=True, check=True).stdout


def work(command: Sequence[str], job: bytes, **options: t.Any) -> tuple[bytes, str]:
    """Run the job with a command that starts `ansible-runner worker`. Returns the stream of events, and the errors."""
    done = subprocess.run(command, input=job, capture_output=True, check=False, **options)
    return done.stdout, done.stderr.decode()


def process(folder: Path, events: bytes, shown: str = "") -> JobResult:
    """Return the result of a job from its stream of events."""
    command = [RUNNER, "process", str(folder), "--ident", "1"]
    done = subprocess.run(command, env=job_environment(folder), input=events, capture_output=True, check=False)
    return read_result(folder / "artifacts/1", shown + (done.stderr + done.stdout).decode())
