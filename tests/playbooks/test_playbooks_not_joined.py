# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node that the source does not list as joined gets no TCP connection: not to its API, not to its EJBCA, not over ssh."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, TOKEN
from tests.support.matrix import covering
from tests.support.playbook import play
from tests.support.runners import SSH

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

READY = {"nodes": 4, "joined": 3, "restored": 3, "keys": 1, "key_mix": {"ec-p256": 1}, "ejbca": True}
EJBCA = "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options('operator') }}"
RENEWAL = {
    "renew_ca_name": CA,
    "renew_ca_crypto_token": TOKEN,
    "renew_ca_alias": "signKey-2031",
    "renew_ca_key_alg": "EC",
    "renew_ca_key_spec": "P-256",
    "renew_ca_manual_confirmations": [],
    "renew_ca_proof_ca": "Gate",
    "renew_ca_proof_certificates": True,
    "renew_ca_switch_tasks": "{{ inventory_dir }}/switch.yml",
}
GATE = {"key_gate_source": "node1", "key_gate_keys": [{"label": "key-0001"}], "key_gate_crypto_token": TOKEN}
#: Name of a run: its playbook or tasks, and arguments.
RUNS: t.Final[dict[str, tuple[t.Any, tuple[str, ...]]]] = {
    "status": ("keyops.utrust.status", ()),
    "report": ("keyops.utrust.report", ("-e", "key_report_page={{ inventory_dir }}/report.html")),
    "preflight": ("keyops.utrust.preflight", ()),
    "initial_sync": ("keyops.utrust.initial_sync", ("-e", "guided_restore_confirm_serial=false")),
    "initial_sync --check": ("keyops.utrust.initial_sync", ("--check",)),
    "cancel_restore": ("keyops.utrust.cancel_restore", ()),
    "key_sync": ("keyops.utrust.key_sync", ()),
    "key_sync --check": ("keyops.utrust.key_sync", ("--check", "--diff")),
    "key_sync, ignored": ("keyops.utrust.key_sync", ("-e", '{"key_sync_ignore_members": ["node4"]}')),
    "renew_ca": ("keyops.utrust.renew_ca", ("-e", json.dumps(RENEWAL))),
    "renew_ca --check": ("keyops.utrust.renew_ca", ("-e", json.dumps(RENEWAL), "--check")),
    "key_gate": ([{"ansible.builtin.include_role": {"name": "keyops.utrust.key_gate"}}], ("-e", json.dumps(GATE))),
    "ejbca_ca_info": ([{"keyops.utrust.ejbca_ca_info": {"ejbca": EJBCA}}], ()),
    "ejbca_key": (
        [
            {
                "keyops.utrust.ejbca_key": {
                    "ejbca": EJBCA,
                    "crypto_token": TOKEN,
                    "alias": "x",
                    "key_alg": "EC",
                    "key_spec": "P-256",
                }
            }
        ],
        (),
    ),
    "key_proof": (
        [
            {
                "keyops.utrust.utrust_key_proof": {
                    "ejbca": EJBCA,
                    "hsm_keys": [{"label": "x", "slot": 0, "fingerprint": "kcv:f29000"}],
                }
            }
        ],
        (),
    ),
}


#: Texts of a run that reached node4, or that needs more hosts than node4.
EXPECTED: t.Final = (
    "node_not_joined",
    "no_matching_host",
    "The keys of node4 are unknown",
    "node4 was not read",
    "must be a host of this play",
    "member_not_in_play",
)


class Listener:
    """A port that counts the connections which it accepts."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.count += 1

    def close(self) -> None:
        # Without a shutdown, the thread would wait for a connection for ever.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Outsider(t.NamedTuple):
    """A cluster, and the ports of node4: its EJBCA and its ssh."""

    control: Control
    ejbca: Listener
    ssh: Listener

    def connections(self) -> tuple[int, int, int]:
        return self.control.connections("node4"), self.ejbca.count, self.ssh.count


@pytest.fixture(scope="module")
def outsider() -> Iterator[Outsider]:
    with cluster(**t.cast("t.Any", READY)) as control:
        control.generate_key("node1", "newCaKey")
        listeners = Listener(), Listener()
        yield Outsider(control, *listeners)
        for listener in listeners:
            listener.close()


def write(outsider: Outsider, folder: Path, way: str) -> Path:
    """Write an inventory. Each host says that Ansible reaches it over ssh, at a port of node4."""
    inventory = yaml.safe_load(outsider.control.inventory_file.read_text(encoding="utf-8"))
    [group] = [one for one in inventory.values() if "node4" in (one.get("hosts") or {})] or [
        inventory["all"]["children"]["utrust"]
    ]
    known = group["hosts"]
    known["node4"] |= {name: value for name, value in known["node2"].items() if name.startswith("utrust_ejbca")}
    known["node4"] |= {"utrust_ejbca_host": "127.0.0.1", "utrust_ejbca_port": outsider.ejbca.port}
    for variables in known.values():
        variables |= {"ansible_connection": "ssh", "ansible_port": outsider.ssh.port, "ansible_ssh_retries": 0}
        variables |= {"ansible_become": True, "ansible_ssh_common_args": "-o BatchMode=yes"}
    if way == "bastion":
        ssh = folder / "ssh"
        ssh.write_text(SSH, encoding="ascii")
        ssh.chmod(0o700)
        group.setdefault("vars", {})["utrust_bastion"] = "bastion"
        inventory["bastions"] = {
            "hosts": {
                "bastion": {
                    "ansible_connection": "ssh",
                    "ansible_host": "127.0.0.1",
                    "ansible_ssh_executable": str(ssh),
                    "ansible_ssh_transfer_method": "piped",
                    "ansible_remote_tmp": str(folder / "remote"),
                    "ansible_python_interpreter": sys.executable,
                }
            }
        }
    path = folder / "inventory.yml"
    path.write_text(json.dumps(inventory), encoding="utf-8")
    (folder / "switch.yml").write_text("[]", encoding="ascii")
    return path


@pytest.mark.parametrize(("name", "way"), covering(list(RUNS), ["all", "limit", "pattern", "bastion"], strength=1))
def test_node_that_has_not_joined_gets_no_connection(outsider: Outsider, tmp_path: Path, name: str, way: str) -> None:
    """Not even if it is the only host of the run, or if the bastion executes the modules."""
    playbook, arguments = RUNS[name]
    patterns = {"pattern": "node4:node1", "limit": "node*"}
    if isinstance(playbook, list):
        tasks, playbook = playbook, str(tmp_path / "play.yml")
        bastion = {"delegate_to": "bastion"} if way == "bastion" and name != "key_gate" else {}
        plays = [
            {
                "hosts": patterns.get(way, "utrust"),
                "gather_facts": False,
                "tasks": [{**one, **bastion} for one in tasks],
            }
        ]
        (tmp_path / "play.yml").write_text(json.dumps(plays), encoding="utf-8")
    elif way in patterns:
        arguments = (*arguments, "-e", f"utrust_hosts={patterns[way]}")
    if way == "limit":
        arguments = (*arguments, "--limit", "node4")
    inventory = write(outsider, tmp_path, way)
    outsider.control.clear_log("node4")
    warnings = [f"node{number} holds the MBK of node1 but not the same keys" for number in (2, 3)]
    run = play(playbook, outsider.control, *arguments, inventory=inventory, warnings=warnings)
    assert "UNREACHABLE" not in run.output, run.output
    assert outsider.connections() == (0, 0, 0), run.output
    # Another failure would hide what the run does with the node.
    assert run.status == 0 or any(text in run.text for text in EXPECTED), run.output
