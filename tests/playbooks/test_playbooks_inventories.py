# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connection, become and bastion of an inventory: the nodes are read the same way, and no connection of Ansible is opened."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.playbook import changing_methods, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

READING = ("keyops.utrust.status", "keyops.utrust.preflight", "keyops.utrust.report", "keyops.utrust.key_sync")


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Control:
    running.clear_log()
    return running


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """Return a program in place of `ssh` and `sudo` that records that it was started."""
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/contacted\nexit 255\n")
    program.chmod(0o755)
    return program


def inventory(control: Control, folder: Path, *, group: dict[str, t.Any], everyone: dict[str, t.Any]) -> Path:
    """Write the inventory with more variables of the group, and of all hosts, localhost and bastion included."""
    content = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    content["utrust"]["vars"] = group
    content["all"] = {"vars": {**everyone, "key_report_page": str(folder / "report.html")}, "hosts": {"bastion": {}}}
    path = folder / "inventory.yml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("level", ["group", "all", "extra"])
@pytest.mark.parametrize("playbook", READING)
def test_connection_and_become_do_no_harm(
    control: Control, tmp_path: Path, ssh: Path, playbook: str, level: str
) -> None:
    """Extra variables win over everything, also for localhost."""
    variables = {
        "ansible_connection": "ssh",
        "ansible_ssh_executable": str(ssh),
        "ansible_become": True,
        "ansible_become_exe": str(ssh),
        "ansible_port": 1,
        "ansible_timeout": 2,
    }
    path = inventory(
        control,
        tmp_path,
        group=variables if level == "group" else {},
        everyone=variables if level == "all" else {},
    )
    extra = ["-e", json.dumps(variables)] if level == "extra" else []
    run = play(playbook, control, *extra, inventory=path)
    assert run.status == 0, run.output
    assert not (tmp_path / "contacted").exists()
    assert changing_methods(control) == set()


@pytest.mark.parametrize("blank", ["", " ", "\t", None], ids=repr)
@pytest.mark.parametrize("playbook", READING)
def test_blank_bastion_is_not_set(control: Control, tmp_path: Path, playbook: str, blank: str | None) -> None:
    """A survey sends a blank for a bastion that is not set."""
    path = inventory(control, tmp_path, group={}, everyone={})
    run = play(playbook, control, "-e", json.dumps({"utrust_bastion": blank}), inventory=path)
    assert run.status == 0, run.output
    assert "->" not in run.output, "no task was delegated"
    assert changing_methods(control) == set()


@pytest.mark.parametrize("playbook", READING)
def test_unreachable_bastion_fails_without_contact(control: Control, tmp_path: Path, ssh: Path, playbook: str) -> None:
    """The run never falls back to a connection from the controller."""
    path = inventory(
        control,
        tmp_path,
        group={"utrust_bastion": "bastion", "ignore_unreachable": True},
        everyone={"ansible_ssh_executable": str(ssh), "ansible_host": "127.0.0.1", "ansible_port": 1},
    )
    run = play(playbook, control, inventory=path, warnings=["Found variable using reserved name"])
    assert run.status != 0, run.output
    assert (tmp_path / "contacted").exists()
    assert [control.connections(node) for node in ("node1", "node2", "node3")] == [0, 0, 0]
    assert "UNREACHABLE" in run.output
