# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two runners to an operation, opened by Ansible as a user opens them.

`action`: the host has a local connection, so the action plugin runs the operation in Ansible's own process.
`module`: the host is reached by Ansible's real ssh connection plugin, so the module runs there, by itself. The program that stands
for `ssh` gives the command the environment of a bare login and no terminal, as a bastion would.
"""

from __future__ import annotations

import dataclasses as dc
import json
import os
import subprocess
import sys
import typing as t

from tests.support.playbook import BIN, ROOT, environment
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.control import Control

RUNNERS = ("action", "module")
SSH = """#!/bin/sh
for command; do :; done
exec env -i HOME="$HOME" PATH=/usr/bin:/bin XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR" sh -c "$command"
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


class AnsibleRunner:
    """Runs tasks through one runner.

    Starting Ansible takes longer than most tasks. So an `ansible-playbook` is kept for tasks that need no surroundings of their own: whenever it has
    run what was included, it waits for the next file to include.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._kept: subprocess.Popen[str] | None = None
        self._batches = 0
        self._seen = 0
        (folder / "runtime").mkdir(mode=0o700)
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

    def run(self, *tasks: dict[str, t.Any], **options: t.Any) -> Outcome:
        """Run the tasks one after the other; with `options`, which are those of `start`, in an Ansible of their own."""
        return self.finish(self.start(*tasks, **options)) if options else self._include(tasks)

    def start(
        self,
        *tasks: dict[str, t.Any],
        arguments: t.Sequence[str] = (),
        env: t.Mapping[str, str] | None = None,
        hosts: t.Sequence[str] = ("here",),
        before: t.Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Start an Ansible that runs the tasks. `before` is a command that executes the one which follows it, e.g. with limits set."""
        (self.folder / "results.jsonl").unlink(missing_ok=True)
        command = [*before, *self._command("play", tasks, hosts), *arguments]
        return self._popen(command, "results.jsonl", subprocess.PIPE, env or {})

    def finish(self, process: subprocess.Popen[str]) -> Outcome:
        try:
            output, dummy = process.communicate(timeout=180)
        finally:
            process.kill()
        results = self.folder / "results.jsonl"
        assert results.exists(), output
        return Outcome(process.returncode, output, [json.loads(line) for line in results.read_text().splitlines()])

    def close(self) -> None:
        """Let the Ansible that is kept come to its end."""
        if self._kept is not None:
            self._write_batch(self._batches, [])
            try:
                self._kept.wait(timeout=60)
            finally:
                self._kept.kill()
                self._kept.wait()

    def _include(self, tasks: t.Sequence[dict[str, t.Any]]) -> Outcome:
        shown, results = self.folder / "kept.txt", self.folder / "kept.jsonl"
        if self._kept is None:
            with shown.open("w") as output:
                self._kept = self._popen(
                    self._command("kept", [self._next()], ["here"]), "kept.jsonl", output.fileno(), {}
                )
        kept, printed = self._kept, shown.stat().st_size
        mark = f"batch {self._batches} has ended"
        batch = [*tasks, {"ansible.builtin.debug": {"msg": mark}}]
        self._batches += 1
        self._write_batch(self._batches - 1, [*batch, self._next()])

        def ended() -> bool:
            assert kept.poll() is None, shown.read_text()
            return results.exists() and mark in results.read_text()

        wait_for(ended, limit=180)
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        new = [line for line in lines[self._seen :] if line.get("msg") != mark]
        self._seen = len(lines)
        return Outcome(0, shown.read_text()[printed:], new)

    def _next(self) -> dict[str, t.Any]:
        path = self.folder / f"batch-{self._batches}.yml"
        # Whoever has started it may have been killed: then there is nothing to include, and it ends.
        wait = f"until [ -e '{path}' ] || ! kill -0 {os.getpid()}; do sleep 0.05; done 2>/dev/null; echo '{path}'"
        return {"ansible.builtin.include_tasks": f"{{{{ lookup('ansible.builtin.pipe', {json.dumps(wait)}) }}}}"}

    def _write_batch(self, number: int, tasks: t.Sequence[dict[str, t.Any]]) -> None:
        unfinished = self.folder / "batch.new"
        unfinished.write_text(json.dumps(tasks), encoding="utf-8")
        unfinished.replace(self.folder / f"batch-{number}.yml")

    def _command(self, name: str, tasks: t.Sequence[dict[str, t.Any]], hosts: t.Sequence[str]) -> list[str]:
        play, inventory = self.folder / f"{name}.yml", self.folder / f"{name}-inventory.yml"
        play.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]), encoding="utf-8")
        inventory.write_text(json.dumps({"all": {"hosts": dict.fromkeys(hosts, self._host)}}), encoding="utf-8")
        return [str(BIN / "ansible-playbook"), "-f", "20", "-i", str(inventory), str(play)]

    def _popen(self, command: list[str], results: str, stdout: int, env: t.Mapping[str, str]) -> subprocess.Popen[str]:
        added = {
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/support/callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "results",
            "KEYOPS_RESULTS": str(self.folder / results),
            # Packages of other tests at the same time are not removed, nor do they remove these.
            "XDG_RUNTIME_DIR": str(self.folder / "runtime"),
        }
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment(**{**added, **env}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )
