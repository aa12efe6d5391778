# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test connection options from host variables through both runners, and that a node that has not joined is never contacted."""

from __future__ import annotations

import json
import subprocess
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import BIN, ROOT, environment
from tests.support.runners import UNUSABLE, connection_args, node_variables, task

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.runners import AnsibleRunner, Arguments

INFO = "utrust_hsm_info"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, joined=2, restored=2, keys=1, key_mix={"ec-p256": 1}, ejbca=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Control:
    running.clear_log()
    return running


def inventory(control: Control, *nodes: str, **changes: t.Any) -> dict[str, Arguments]:
    """Return the variables of the source and of the nodes. The changes are changes of the nodes, and None omits a variable."""
    hosts = {"node1": node_variables(control, "node1", utrust_source="node1")}
    return hosts | {node: node_variables(control, node, **{"utrust_source": "node1", **changes}) for node in nodes}


@pytest.mark.parametrize(
    "changes",
    [{}, {"utrust_host": None}, {"utrust_host": "  "}, {"utrust_node": " ", "utrust_retries": ""}],
    ids=["utrust_host", "ansible_host", "blank utrust_host", "other blanks"],
)
def test_host_variables_are_the_connection_options(
    control: Control, runner: AnsibleRunner, changes: dict[str, t.Any]
) -> None:
    """The address is utrust_host, or else ansible_host."""
    changes = {"ansible_host": control.node("node2")["address"], **changes}
    ran = runner.run(task(INFO, {}), hosts=inventory(control, "node2", **changes))
    assert {result["host"]: result["node"]["name"] for result in ran.results} == {"node1": "node1", "node2": "node2"}


@pytest.mark.parametrize("source", [None, "", "  "])
def test_host_variables_without_source_are_refused(control: Control, runner: AnsibleRunner, source: str | None) -> None:
    """Nobody can tell whether such a node has joined."""
    hosts = {"node2": node_variables(control, "node2", utrust_source=source)}
    result = runner.run(task(INFO, {}), hosts=hosts).result
    assert (result["failed"], result["code"]) == (True, "source_missing")
    assert "utrust_source" in result["msg"]
    assert [control.connections(node) for node in ("node1", "node2")] == [0, 0]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (INFO, {}),
        ("ejbca_ca_info", {"ejbca": "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options('reader') }}"}),
        ("utrust_ksp_export", {}),
    ],
)
def test_node_not_joined_is_never_contacted(
    control: Control, runner: AnsibleRunner, module: str, arguments: Arguments
) -> None:
    """A node that was contacted before it joined can no longer join."""
    certificate, key = control.client()
    account = {"utrust_ejbca_reader_client_cert": str(certificate), "utrust_ejbca_reader_client_key": str(key)}
    hosts = inventory(control, "node3", **account)
    result = runner.run(
        task(module, arguments, check_mode=True), arguments=["--limit", "node3,bastion"], hosts=hosts
    ).result
    assert (result["failed"], result["code"]) == (True, "node_not_joined"), result
    assert control.connections("node3") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"expect_node": "node1"},
        {"expect_node": "node2"},
        {"members": ["node3"]},
        {"members": "node1,node3", "expect_node": "node1"},
        {"members": ["node1", "node2"], "expect_node": "node2"},
        {"port": 1, "expect_node": "node2"},
    ],
    ids=str,
)
def test_node_not_joined_whatever_the_task_states(
    control: Control, runner: AnsibleRunner, arguments: Arguments
) -> None:
    """Only the source decides which hosts have joined. Options of a task do not."""
    hosts = inventory(control, "node3")
    result = runner.run(task(INFO, arguments), arguments=["--limit", "node3,bastion"], hosts=hosts).result
    assert (result["failed"], result["code"]) == (True, "node_not_joined"), result
    assert control.connections("node3") == 0


def test_node_not_joined_with_module_defaults(control: Control, runner: AnsibleRunner) -> None:
    """Defaults of a play count as options of the task."""
    block = {
        "module_defaults": {"group/keyops.utrust.utrust": {"expect_node": "node1", "members": ["node1", "node3"]}},
        "block": [task(INFO, {})],
    }
    result = runner.run(block, arguments=["--limit", "node3,bastion"], hosts=inventory(control, "node3")).result
    assert (result["failed"], result["code"]) == (True, "node_not_joined"), result
    assert control.connections("node3") == 0


@pytest.mark.parametrize(
    ("source", "code"), [("node9", "host_unknown"), ("node1", "node_unreachable")], ids=["unknown", "unreachable"]
)
def test_source_without_response_refuses_the_node(
    control: Control, runner: AnsibleRunner, source: str, code: str
) -> None:
    """The joined nodes are unknown, so no other node is contacted."""
    hosts = {
        "node1": node_variables(control, "node1", utrust_source="node1", utrust_port=1),
        "node2": node_variables(control, "node2", utrust_source=source),
    }
    result = runner.run(task(INFO, {}), arguments=["--limit", "node2,bastion"], hosts=hosts).result
    assert (result["failed"], result["code"]) == (True, code)
    assert source in result["msg"]
    assert control.connections("node2") == 0


def test_option_host_reads_no_host_variable(control: Control, runner: AnsibleRunner) -> None:
    """With run_once the variables are those of another node."""
    other = {"node2": node_variables(control, "node2", utrust_ca_file="/nonexistent", utrust_node="another")}
    ran = runner.run(
        task(INFO, connection_args(control, "node1")),
        task(INFO, connection_args(control, "node1", port=None, connect_timeout=2)),
        task(INFO, connection_args(control, "node1", client_cert=None, client_key=None)),
        hosts=other,
    )
    assert ran.results[0]["node"]["name"] == "node1"
    assert [result.get("code") for result in ran.results] == [None, "node_unreachable", "option_invalid"]


def ad_hoc(control: Control, folder: Path, *arguments: str, hosts: dict[str, Arguments]) -> dict[str, t.Any]:
    """Return the result of a task that a person runs with the program ansible."""
    written, results = folder / "hosts.yml", folder / "results.jsonl"
    all_hosts = {host: {**UNUSABLE, **variables} for host, variables in hosts.items()}
    written.write_text(json.dumps({"all": {"hosts": all_hosts}}), encoding="utf-8")
    callback = {
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/support/callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "results",
        "KEYOPS_RESULTS": str(results),
    }
    subprocess.run(
        [str(BIN / "ansible"), "-i", str(written), *arguments], cwd=folder, env=environment(**callback), check=False
    )
    [line] = results.read_text(encoding="utf-8").splitlines()
    return t.cast("dict[str, t.Any]", json.loads(line))


def test_ad_hoc_command_needs_only_host_variables(control: Control, tmp_path: Path) -> None:
    """`ansible node2 -m keyops.utrust.utrust_hsm_info` reads the node, whatever the connection of the host is."""
    hosts = inventory(control, "node2", utrust_host=None, ansible_host=control.node("node2")["address"])
    result = ad_hoc(control, tmp_path, "node2", "-m", f"keyops.utrust.{INFO}", hosts=hosts)
    assert result["node"]["name"] == "node2", result
