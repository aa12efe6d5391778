# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run tasks with `ansible-playbook`, through the action plugin or through the module.

Runner `action`: the operation runs in Ansible's own process. The variables of the host name a connection to an address where nothing listens, and become:
an action must use neither.
Runner `module`: each task has `delegate_to`, so the module runs on the host `bastion`, over Ansible's ssh connection plugin. The program that replaces `ssh`
gives the command the environment of a bare login and no terminal, as a bastion does.
"""

from __future__ import annotations

import dataclasses as dc
import hashlib
import json
import subprocess
import sys
import typing as t
from pathlib import Path

from ansible_collections.keyops.utrust.plugins.module_utils._run.guard import MANIFEST_SUFFIX

from tests.support.ansible_warnings import assert_no_warning
from tests.support.playbook import BIN, ROOT, environment

if t.TYPE_CHECKING:
    from utrust_appliance.control import Control

RUNNERS = ("action", "module")
SSH = """#!/bin/sh
for command; do :; done
exec env -i HOME="$HOME" PATH=/usr/bin:/bin XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR" sh -c "$command"
"""
#: Variables of a host that Ansible cannot connect to.
UNUSABLE: t.Final = {
    "ansible_connection": "ssh",
    "ansible_host": "127.0.0.1",
    "ansible_port": 1,
    "ansible_become": True,
    "ansible_become_method": "ansible.builtin.su",
}
Arguments = dict[str, t.Any]


@dc.dataclass(frozen=True)
class Outcome:
    """Exit status and output of a run, and one result for each task and host, in the order in which they ended."""

    status: int
    output: str
    results: list[dict[str, t.Any]]

    @property
    def result(self) -> dict[str, t.Any]:
        [only] = self.results
        return only


def task(module: str, arguments: Arguments, **keywords: t.Any) -> dict[str, t.Any]:
    """Return a task whose failure does not stop the next task."""
    return {f"keyops.utrust.{module}": arguments, "ignore_errors": True, **keywords}


def connection_args(control: Control, node: str, **changes: t.Any) -> Arguments:
    """Return the connection options of a node. A change to None omits the option."""
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


def package_args(package: str) -> Arguments:
    """Return the options of an import for a package with the manifest beside it, as it is now."""
    manifest = Path(package + MANIFEST_SUFFIX)
    content = manifest.read_bytes() if manifest.exists() else b""
    return {"src": package, "manifest_sha256": "sha256:" + hashlib.sha256(content).hexdigest()}


def node_variables(control: Control, node: str, **changes: t.Any) -> Arguments:
    """Return the variables of an inventory host for a node. A change to None omits the variable."""
    options = connection_args(control, node, expect_node=None)
    usual = {f"utrust_{name}": value for name, value in options.items()}
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


class Started(t.NamedTuple):
    """A run that has not ended, and the file with its results."""

    process: subprocess.Popen[str]
    results: Path


class AnsibleRunner:
    """Runs tasks through one runner, each time with an `ansible-playbook` of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._runs = 0
        (folder / "runtime").mkdir(mode=0o700)
        ssh = folder / "ssh"
        ssh.write_text(SSH, encoding="ascii")
        ssh.chmod(0o700)
        self.host_vars: dict[str, t.Any] = {**UNUSABLE}
        self.bastion_vars: dict[str, t.Any] = {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_ssh_executable": str(ssh),
            "ansible_ssh_transfer_method": "piped",
            "ansible_remote_tmp": str(folder / "remote"),
            # A Python without the packages of the virtual environment: a module needs none of them.
            "ansible_python_interpreter": getattr(sys, "_base_executable", sys.executable),
        }

    def run(self, *tasks: dict[str, t.Any], warnings: t.Sequence[str] = (), **options: t.Any) -> Outcome:
        """Run the tasks one after the other. `warnings` is the argument of `finish`, and `options` are the options of `start`."""
        return self.finish(self.start(*tasks, **options), warnings)

    def start(
        self,
        *tasks: dict[str, t.Any],
        arguments: t.Sequence[str] = (),
        env: t.Mapping[str, str] | None = None,
        hosts: t.Sequence[str] | t.Mapping[str, Arguments] = ("here",),
        before: t.Sequence[str] = (),
    ) -> Started:
        """Start the tasks. `hosts` can hold variables. `before` is a command that executes the command after it, for example with limits."""
        self._runs += 1
        folder = self.folder / f"run-{self._runs}"
        folder.mkdir()
        play, inventory, results = folder / "play.yml", folder / "inventory.yml", folder / "results.jsonl"
        where = {"delegate_to": "bastion"} if self.name == "module" else {}
        steps = [{**where, **step} for step in tasks]
        play.write_text(json.dumps([{"hosts": "nodes", "gather_facts": False, "tasks": steps}]), encoding="utf-8")
        inventory.write_text(json.dumps(self._inventory(hosts)), encoding="utf-8")
        process = subprocess.Popen(
            [*before, str(BIN / "ansible-playbook"), "-f", "20", "-i", str(inventory), str(play), *arguments],
            cwd=folder,
            env=environment(**{**self._environment(results), **(env or {})}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Started(process, results)

    def finish(self, started: Started, warnings: t.Sequence[str] = ()) -> Outcome:
        """Wait for the end of a run and return its results. A warning fails if it does not begin with one of `warnings`."""
        try:
            output, dummy = started.process.communicate(timeout=180)
        finally:
            started.process.kill()
        assert started.results.exists(), output
        assert_no_warning(output, warnings)
        lines = started.results.read_text(encoding="utf-8").splitlines()
        return Outcome(started.process.returncode, output, [json.loads(line) for line in lines])

    def _inventory(self, hosts: t.Sequence[str] | t.Mapping[str, Arguments]) -> dict[str, t.Any]:
        own = hosts if isinstance(hosts, dict) else {host: {} for host in hosts}
        nodes = {host: {**self.host_vars, **variables} for host, variables in own.items()}
        return {"nodes": {"hosts": nodes}, "others": {"hosts": {"bastion": self.bastion_vars}}}

    def _environment(self, results: Path) -> dict[str, str]:
        return {
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/support/callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "results",
            "KEYOPS_RESULTS": str(results),
            # A directory of this runner, so that parallel tests do not remove its packages.
            "XDG_RUNTIME_DIR": str(self.folder / "runtime"),
        }
