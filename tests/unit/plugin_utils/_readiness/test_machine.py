# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a package on this machine can reach a disk."""

from __future__ import annotations

import resource
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.machine import (
    Machine,
    machine_rows,
    read_machine,
)

if t.TYPE_CHECKING:
    from pathlib import Path

HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
SAFE = Machine(0, "core\n", HEAD, "tmpfs /run/user/1000 tmpfs rw 0 0\n/dev/sda / ext4 rw 0 0\n", "/run/user/1000")


def rows(machine: Machine, **confirmed: str) -> dict[str, tuple[str, str]]:
    return {row.step: (row.state, row.code) for row in machine_rows(machine, confirmed)}


def test_machine_that_writes_nothing_to_disk_is_observed() -> None:
    assert rows(SAFE) == dict.fromkeys(("core_dumps", "swap", "package_directory"), ("observed", ""))


@pytest.mark.parametrize(
    ("change", "step", "expected"),
    [
        ({"core_limit": -1}, "core_dumps", ("refused", "core_dumps_on")),
        ({"core_limit": 4096}, "core_dumps", ("refused", "core_dumps_on")),
        ({"core_pattern": "|/usr/lib/systemd/systemd-coredump %P\n"}, "core_dumps", ("refused", "core_dumps_on")),
        ({"core_pattern": None}, "core_dumps", ("not checked", "")),
        ({"swaps": HEAD + "/dev/sda2  partition 1 0 -2\n"}, "swap", ("refused", "swap_on")),
        ({"swaps": HEAD + "/dev/zram0 partition 1 0 100\n"}, "swap", ("observed", "")),
        ({"swaps": HEAD + "/dev/zram0 partition 1 0 100\n/swap file 1 0 -2\n"}, "swap", ("refused", "swap_on")),
        ({"swaps": None}, "swap", ("not checked", "")),
        ({"directory": "/tmp"}, "package_directory", ("refused", "package_directory_on_disk")),
        ({"directory": ""}, "package_directory", ("not checked", "")),
        ({"mounts": None}, "package_directory", ("not checked", "")),
    ],
    ids=str,
)
def test_fact_of_this_machine_has_a_state(change: dict[str, t.Any], step: str, expected: tuple[str, str]) -> None:
    found = rows(SAFE._replace(**change))
    assert found[step] == expected
    assert {state for name, (state, dummy) in found.items() if name != step} == {"observed"}


def test_confirmed_fact_is_declared_with_its_name() -> None:
    swapping = SAFE._replace(swaps=HEAD + "/dev/dm-1 partition 1 0 -2\n")
    [row] = [
        row
        for row in machine_rows(swapping, {"swap": "Ada confirms: dm-crypt", "core_dumps": "x"})
        if row.step == "swap"
    ]
    assert (row.state, row.code) == ("declared", "")
    assert "/dev/dm-1" in row.text
    assert "Ada confirms: dm-crypt" in row.text
    assert rows(swapping, swap="x")["core_dumps"] == ("observed", "")


def test_facts_come_from_the_directory_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/core_pattern").write_text("|/bin/x\n", encoding="ascii")
    (tmp_path / "swaps").write_bytes(HEAD.encode() + b"/dev/\xff partition 1 0 -2\n")

    machine = read_machine(str(tmp_path))

    assert machine.core_limit == resource.getrlimit(resource.RLIMIT_CORE)[0]
    assert machine.mounts is None
    found = rows(machine)
    assert (found["core_dumps"], found["swap"]) == (("refused", "core_dumps_on"), ("refused", "swap_on"))
