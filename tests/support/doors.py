# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two doors to an operation, opened by Ansible as a user opens them.

`action`: the host has a local connection, so the action plugin runs the operation in Ansible's own process.
`module`: the host is reached by Ansible's real ssh connection plugin, so the module runs there, by itself. The program that stands
for `ssh` gives the command an empty environment and no terminal, as a bastion would.
"""

from __future__ import annotations

import dataclasses as dc
import json
import subprocess
import sys
import typing as t

from tests.support.playbook import BIN, ROOT, environment

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.control import Control

DOORS = ("action", "module")
SSH = """#!/bin/sh
for command; do :; done
exec env -i HOME="$HOME" PATH=/usr/bin:/bin sh -c "$command"
"""
Arguments = dict[str, t.Any]


@dc.dataclass(frozen=True)
class Outcome:
    """What a run printed, its exit status, and one result a task (and host), in the order in which they ended."""

    status: int
    output: str
    results: list[dict[str, t.Any]]

    @property
    def result(self) -> dict[str, t.Any]:
        [only] = self.results
        return only


def task(module: str, arguments: Arguments, **keywords: t.Any) -> dict[str, t.Any]:
    """A task that lets the next one run, whatever comes of it."""
    return {f"keyops.utrust.{module}": arguments, "ignore_errors": True, **keywords}


def reach(control: Control, node: str, **changes: t.Any) -> Arguments:
    """Connection options for a node; a change to None leaves the option out."""
    facts = control.node(node)
    certificate, key = control.client("operator")
    usual = {
        "host": facts["address"],
        "port": facts["port"],
        "client_cert": str(certificate),
        "client_key": str(key),
        "tls_fingerprint": [facts["tls_fingerprint"]],
        "expect_node": node,
        "retries": 0,
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


class Door:
    """Runs tasks through one door."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        ssh = folder / "ssh"
        ssh.write_text(SSH, encoding="ascii")
        ssh.chmod(0o700)
        self._host: dict[str, t.Any] = {"ansible_connection": "local"}
        if name == "module":
            self._host = {
                "ansible_connection": "ssh",
                "ansible_host": "127.0.0.1",
                "ansible_ssh_executable": str(ssh),
                "ansible_ssh_transfer_method": "piped",
                "ansible_remote_tmp": str(folder / "remote"),
                # A Python without the tools of this checkout: a module must not need them.
                "ansible_python_interpreter": getattr(sys, "_base_executable", sys.executable),
            }

    def command(self, tasks: t.Sequence[dict[str, t.Any]], *arguments: str, hosts: t.Sequence[str]) -> list[str]:
        play = {"hosts": "all", "gather_facts": False, "tasks": list(tasks)}
        inventory = {"all": {"hosts": dict.fromkeys(hosts, self._host)}}
        (self.folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
        (self.folder / "inventory.yml").write_text(json.dumps(inventory), encoding="utf-8")
        where = ["-i", str(self.folder / "inventory.yml"), str(self.folder / "play.yml")]
        return [str(BIN / "ansible-playbook"), "-f", "20", *arguments, *where]

    def start(
        self,
        *tasks: dict[str, t.Any],
        arguments: t.Sequence[str] = (),
        env: t.Mapping[str, str] | None = None,
        hosts: t.Sequence[str] = ("here",),
        before: t.Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """`before` is a command that executes the command which follows it, e.g. with limits set."""
        (self.folder / "results.jsonl").unlink(missing_ok=True)
        added = {
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/support/callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "results",
            "KEYOPS_RESULTS": str(self.folder / "results.jsonl"),
        }
        return subprocess.Popen(
            [*before, *self.command(tasks, *arguments, hosts=hosts)],
            cwd=self.folder,
            env=environment(**{**added, **(env or {})}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Outcome:
        try:
            output, dummy = process.communicate(timeout=180)
        finally:
            process.kill()
        results = self.folder / "results.jsonl"
        assert results.exists(), output
        return Outcome(process.returncode, output, [json.loads(line) for line in results.read_text().splitlines()])

    def run(self, *tasks: dict[str, t.Any], **options: t.Any) -> Outcome:
        """Run the tasks one after the other in one play."""
        return self.finish(self.start(*tasks, **options))
