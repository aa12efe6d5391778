# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a package that lies on this machine can reach a disk: core dumps, swap, the directory of the run. Private to keyops.utrust."""

from __future__ import annotations

import pathlib
import resource
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_PEM_BYTES
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import base_directories
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.persistence import IN_MEMORY, mount_of
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.rows import (
    DECLARED,
    NOT_CHECKED,
    OBSERVED,
    Row,
    refused,
)

#: Name of this machine in the rows.
MACHINE: t.Final = "this machine"
CORE_DUMPS, SWAP, PACKAGE_DIRECTORY = "core_dumps", "swap", "package_directory"
#: Swap in compressed memory never reaches a disk.
_IN_MEMORY_SWAP: t.Final = "/dev/zram"


class Machine(t.NamedTuple):
    """Facts of this machine. None stands for a text of the kernel that cannot be read. `core_limit` is in bytes, and -1 without a limit."""

    core_limit: int
    core_pattern: str | None
    swaps: str | None
    mounts: str | None
    directory: str


def read_machine(proc: str) -> Machine:
    """Return the facts of this machine. `proc` is the directory of the kernel, usually /proc."""
    directories = base_directories()
    return Machine(
        resource.getrlimit(resource.RLIMIT_CORE)[0],
        _read(proc, "sys/kernel/core_pattern"),
        _read(proc, "swaps"),
        _read(proc, "self/mounts"),
        str(directories[0].resolve()) if directories else "",
    )


def _read(proc: str, name: str) -> str | None:
    try:
        with (pathlib.Path(proc) / name).open(encoding="utf-8", errors="surrogateescape") as file:
            return file.read(MAX_PEM_BYTES)
    except OSError:
        return None


def machine_rows(machine: Machine, confirmed: t.Mapping[str, str]) -> list[Row]:
    """Return a row for each fact. `confirmed` has the text of the confirmation of each step that a person accepts."""
    rows = [_core_dumps(machine), _swap(machine.swaps), _directory(machine)]
    return [
        Row(row.node, row.step, DECLARED, f"{row.text}. {confirmed[row.step]}")
        if row.step in confirmed and row.state != OBSERVED
        else row
        for row in rows
    ]


def _core_dumps(machine: Machine) -> Row:
    pattern = machine.core_pattern
    if pattern is None:
        return _unknown(CORE_DUMPS, "the kernel does not show the pattern of core dumps")
    program = pattern.strip()
    if not program.startswith("|") and machine.core_limit == 0:
        return Row(MACHINE, CORE_DUMPS, OBSERVED, "core dumps are off")
    text = "a crash writes the memory of a run to a file (RLIMIT_CORE is not 0)"
    remedy = "set ulimit -c 0, or LimitCORE=0 for the service that starts the run"
    if program.startswith("|"):  # the kernel hands a core dump to a program also with a limit of 0
        text = f"a crash hands the memory of a run to the program {program[1:].split(' ')[0]!r:.80}"
        remedy = "set kernel.core_pattern to a file name, and LimitCORE=0 or ulimit -c 0"
    return refused(MACHINE, CORE_DUMPS, Problem("core_dumps_on", MACHINE, text, remedy))


def _swap(swaps: str | None) -> Row:
    if swaps is None:
        return _unknown(SWAP, "the kernel does not show its swap devices")
    devices = [line.split()[0] for line in swaps.splitlines()[1:] if line.strip()]
    on_disk = [device for device in devices if not device.startswith(_IN_MEMORY_SWAP)]
    if not on_disk:
        return Row(MACHINE, SWAP, OBSERVED, "swap is in compressed memory only" if devices else "swap is off")
    text = f"swap is on ({', '.join(on_disk)!s:.160}), so a package in memory can reach a disk"
    remedy = "turn swap off (swapoff -a), or encrypt it with a random key and confirm that"
    return refused(MACHINE, SWAP, Problem("swap_on", MACHINE, text, remedy))


def _directory(machine: Machine) -> Row:
    if machine.mounts is None or not machine.directory:
        return _unknown(PACKAGE_DIRECTORY, "the file system of the package is unknown")
    kind = mount_of(machine.directory, machine.mounts)[1]
    if kind in IN_MEMORY:
        return Row(MACHINE, PACKAGE_DIRECTORY, OBSERVED, f"packages lie in {machine.directory}, in memory ({kind})")
    text = f"packages lie in {machine.directory}, on a disk ({kind or 'unknown'})"
    remedy = "set XDG_RUNTIME_DIR to a directory on tmpfs with mode 0700, or mount /dev/shm"
    return refused(MACHINE, PACKAGE_DIRECTORY, Problem("package_directory_on_disk", MACHINE, text, remedy))


def _unknown(step: str, text: str) -> Row:
    return Row(MACHINE, step, NOT_CHECKED, text, "check this on the machine, and confirm it")
