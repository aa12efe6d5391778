# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`ansible-playbook keyops.utrust.status` as a user runs it."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.playbook import methods, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

STATUS = "keyops.utrust.status"


def inventory_with(control: Control, folder: Path, variables: dict[str, t.Any]) -> Path:
    """Write the inventory of the cluster with more variables of the group."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    inventory["utrust"].setdefault("vars", {}).update(variables)
    for host in inventory["utrust"]["hosts"].values():
        for name in variables:
            (host or {}).pop(name, None)
    path = folder / "inventory.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """Node2 lacks a key and has an extra key, and node3 is in Factory Reset Mode."""
    with cluster(nodes=3, restored=2, faults=True) as control:
        control.generate_key("node1", "onlyOnNode1")
        control.generate_key("node2", "onlyOnNode2")
        control.generate_key("node1", "sameLabel")
        control.generate_key("node2", "sameLabel")
        yield control


@pytest.mark.parametrize("hosts", [["node1", "node2"], "node1,node2", "", None])
def test_utrust_hosts_is_a_list_a_pattern_or_blank(control: Control, hosts: list[str] | str | None) -> None:
    run = play(STATUS, control, "-e", json.dumps({"utrust_hosts": hosts}))

    assert run.status == 0, run.output
    assert "DRIFT: node2 against node1: " in run.text


@pytest.mark.parametrize("arguments", [[], ["--check"], ["--check", "--diff"]], ids=["run", "check", "diff"])
def test_table_shows_drift_and_no_node_changes(control: Control, arguments: list[str]) -> None:
    """The table shows missing and extra keys, and the playbook sends only GET requests."""
    control.clear_log()

    run = play(STATUS, control, *arguments)

    assert run.status == 0, run.output
    assert run.changed == 0
    assert methods(control) == {"GET"}
    rows = {
        label: line for line in run.output.splitlines() for label in ("onlyOnNode1", "onlyOnNode2") if label in line
    }
    assert rows["onlyOnNode1"].split()[-3:] == ["yes", "MISSING", "MISSING"]
    assert rows["onlyOnNode2"].split()[-3:] == ["-", "EXTRA", "-"]
    assert "node2 against node1: 1 missing, 1 extra, 1 mismatched" in run.text
    assert "node3 against node1: 12 missing" in run.text
    assert "Factory Reset Mode" in run.text


def test_fail_on_drift_fails(control: Control) -> None:
    """With key_status_fail_on_drift, drift is an error."""
    run = play(STATUS, control, "-e", "key_status_fail_on_drift=true")

    assert run.status != 0
    assert "differ from those of node1. See the lines DRIFT [keys_differ]" in run.text


def test_fail_on_drift_works_in_the_inventory(control: Control, tmp_path: Path) -> None:
    """Options of a role can be group variables, as text, too."""
    for value in (True, "yes", "maybe"):
        inventory = inventory_with(control, tmp_path, {"key_status_fail_on_drift": value})
        run = play(STATUS, control, inventory=inventory)
        assert run.status != 0, run.output
        assert "[keys_differ]" in run.text


@pytest.mark.parametrize("playbook", [STATUS, "keyops.utrust.preflight", "keyops.utrust.report"])
def test_connection_of_the_inventory_is_not_used(control: Control, tmp_path: Path, playbook: str) -> None:
    """Connection and become of the hosts are for other playbooks. No connection is opened."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {tmp_path}/contacted\nexit 255\n")
    ssh.chmod(0o755)
    inventory = inventory_with(
        control,
        tmp_path,
        {
            "ansible_connection": "ssh",
            "ansible_ssh_executable": str(ssh),
            "ansible_become": True,
            "ansible_become_method": "sudo",
            "ansible_become_exe": str(ssh),
            "ansible_python_interpreter": "/nonexistent/python",
            "key_report_page": str(tmp_path / "report.html"),
        },
    )
    run = play(playbook, control, inventory=inventory)
    # Node3 is in Factory Reset Mode, which is the only problem.
    assert run.status == (2 if playbook.endswith("preflight") else 0), run.output
    assert not (tmp_path / "contacted").exists()
    assert run.recap["node1"]["unreachable"] == 0
    assert "hsm_not_operational" in run.output or "DRIFT" in run.output


def test_blank_values_of_a_survey_count_as_not_set(control: Control) -> None:
    blanks = ("select", "only_drift", "fail_on_drift", "max_parallel", "node_timeout")
    for blank in ("", None):
        survey = {f"key_status_{name}": blank for name in blanks}
        run = play(STATUS, control, "-e", json.dumps(survey))
        assert run.status == 0, run.output
        assert "node2 against node1: 1 missing, 1 extra, 1 mismatched" in run.text


def test_text_values_of_a_survey_are_converted(control: Control) -> None:
    survey = {"only_drift": "true", "fail_on_drift": "false", "max_parallel": "1", "node_timeout": "20"}
    run = play(STATUS, control, "-e", json.dumps({f"key_status_{name}": value for name, value in survey.items()}))
    assert run.status == 0, run.output
    assert "yes    yes" not in run.text


@pytest.mark.parametrize("expression", ["[?", "usable", "[0]", "no_such(@)", "length(@)", "[?label=='x'"])
def test_invalid_select_fails_before_the_reading(control: Control, expression: str) -> None:
    control.clear_log()
    run = play(STATUS, control, "-e", json.dumps({"key_status_select": expression}))
    assert run.status != 0
    assert "[option_invalid]" in run.text
    assert methods(control) == set()


def test_select_narrows_table_and_verdict(control: Control) -> None:
    """key_status_select narrows the table and the verdict, and fails if no key matches."""
    selected = ("-e", "key_status_select=[?label=='onlyOnNode1']", "-e", "key_status_fail_on_drift=true")
    run = play(STATUS, control, *selected)

    assert "node2 against node1: 1 missing" in run.text
    assert "onlyOnNode2" not in run.text
    assert run.status != 0

    slip = play(STATUS, control, "-e", "key_status_select=[?label=='OnlyOnNode1']")
    assert slip.status != 0
    assert "no node holds a key that" in slip.text


def test_keys_are_read_only_from_nodes_that_differ() -> None:
    """The playbook reads the keys of the source, and of nodes with another digest or unusable keys."""
    with cluster(nodes=3, restored=3) as control:
        control.damage_key("node2", control.keys("node2")[0]["label"])
        control.clear_log()

        run = play(STATUS, control)

        assert "DRIFT: node2 against node1: 1 unusable" in run.text
        assert "node3 against" not in run.text
        paths = {
            name: [one["path"].partition("?")[0] for one in control.requests(name)]
            for name in ("node1", "node2", "node3")
        }
        node, inventory = "/api/v1/node", "/api/v1/hsm/keys"
        assert paths == {"node1": [node, inventory], "node2": [node, inventory], "node3": [node]}


def test_unreachable_node_is_reported_and_others_are_shown(control: Control) -> None:
    """The playbook shows the readable nodes, and fails with the name of the unreachable node."""
    control.fault("node_down", node="node3")

    run = play(STATUS, control, env={"UTRUST_RETRIES": "0"})

    control.clear_faults()
    assert run.status != 0
    assert "node3 UNKNOWN: GET /api/v1/node" in run.text
    assert "node2 against node1: 1 missing, 1 extra, 1 mismatched" in run.text
    assert "UNKNOWN: node3: GET /api/v1/node" in run.text
    assert "The keys of node3 are unknown. See the lines UNKNOWN [keys_unknown]" in run.text


def test_limit_compares_the_node_with_the_source(control: Control) -> None:
    """With --limit, the table still has the source."""
    run = play(STATUS, control, "--limit", "node2")

    assert run.status == 0, run.output
    assert "node2 against node1" in run.text
    assert "node3 against" not in run.text


def test_two_hosts_of_one_node_are_named(tmp_path: Path) -> None:
    """A second host of a node is not another node that is in sync."""
    with cluster(nodes=3, restored=3, keys=1, key_mix={"ec-p256": 1}) as control:
        inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
        hosts = inventory["utrust"]["hosts"]
        hosts["node2.example.com"] = {**hosts["node2"], "utrust_node": "node2"}
        hosts["node4"] = {**hosts["node3"], "utrust_node": "node2"}
        path = tmp_path / "inventory.yml"
        path.write_text(yaml.safe_dump(inventory), encoding="utf-8")

        run = play(STATUS, control, inventory=path)

        assert (
            "the hosts node2 and node2.example.com are the same node node2 with HSM UT000002 [node_duplicate]"
            in run.text
        )
        # The reason of a node that was not read is one line.
        assert "UNKNOWN: the node at this address is node3, not node2" in run.text


@pytest.mark.parametrize("form", ["role", "import", "include"])
@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("key_status", "DRIFT: node3 against node1"),
        ("preflight", "preflight for key_sync: "),
        ("key_report", "DRIFT: would be written to"),
    ],
)
def test_condition_that_skips_the_first_host_skips_no_check(
    control: Control, tmp_path: Path, role: str, words: str, form: str
) -> None:
    """Every task of the role that runs once follows a host that the condition selects."""
    name, condition = f"keyops.utrust.{role}", {"when": "inventory_hostname != utrust_source"}
    callers: dict[str, dict[str, t.Any]] = {
        "role": {"roles": [{"role": name, **condition}]},
        "import": {"tasks": [{"ansible.builtin.import_role": {"name": name}, **condition}]},
        "include": {"tasks": [{"ansible.builtin.include_role": {"name": name}, **condition}]},
    }
    playbook = tmp_path / "own.yml"
    playbook.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, **callers[form]}]), encoding="utf-8")
    control.generate_key("node1", "onlyOnNode1Again")

    run = play(str(playbook), control, "--check", "-e", f"key_report_page={tmp_path / 'page.html'}")

    assert words in run.text
