# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`ansible-playbook keyops.utrust.preflight`, and the same checks in playbooks that change nodes."""

from __future__ import annotations

import json
import re
import textwrap
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.playbook import card_holders, changing_methods, methods, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

PREFLIGHT = "keyops.utrust.preflight"


def problem_lines(run: Run) -> list[str]:
    """Return the list of problems, which the output shows as YAML."""
    (found,) = re.findall(r"^( +)problems:\n((?:\1-? .*\n)+)", run.output, re.MULTILINE)
    return t.cast("list[str]", yaml.safe_load(textwrap.dedent(found[1])))


@pytest.fixture
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=2, faults=True) as control:
        yield control


def test_healthy_cluster_passes_and_is_only_read(control: Control) -> None:
    """A healthy cluster passes, and the playbook sends only GET requests."""
    run = play(PREFLIGHT, control)

    assert run.status == 0
    assert run.changed == 0
    assert methods(control) == {"GET"}


def test_all_problems_of_all_nodes_are_in_one_list(control: Control) -> None:
    """The playbook lists the problems of all nodes at once."""
    control.fault("clock_skew", node="node2")
    control.fault("fips", node="node2")
    control.fault("alarm", node="node3", reason="tamper sensor")
    control.set_slot("node3", 0, activation="manual")

    run = play(PREFLIGHT, control)

    assert run.status != 0
    assert "preflight for key_sync: " in run.text
    assert "problem(s) on node2, node3. Nothing was changed" in run.text
    for node, code in (
        ("node2", "clock_skew"),
        ("node2", "fips_mode_mismatch"),
        ("node3", "hsm_alarm"),
        ("node3", "slot_mismatch"),
    ):
        assert [line for line in problem_lines(run) if line.startswith(f"{node}: {code}: ") and "Fix: " in line]
    assert methods(control) == {"GET"}


def test_output_ends_with_the_problems_or_names_the_nodes(control: Control) -> None:
    """Facts of the nodes do not hide the problems, and a cluster that is ready is reported."""
    ready = play(PREFLIGHT, control)
    assert ready.status == 0, ready.output
    assert "preflight for key_sync: no problems found on node1, node2, node3" in ready.text

    failed = play(PREFLIGHT, control, "-e", "preflight_max_backup_hours=1")
    assert len(problem_lines(failed)) == 3
    assert "cluster_id" not in failed.output


def test_options_of_the_inventory_are_used(control: Control, tmp_path: Path) -> None:
    """Options of the role can be group variables."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    inventory["utrust"]["vars"] = {"preflight_max_backup_hours": 24, "preflight_min_certificate_days": 1e6}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    run = play(PREFLIGHT, control, inventory=tmp_path / "inventory.yml")
    assert run.status != 0
    assert "backup_unknown" in run.text


def test_blank_and_text_values_of_a_survey(control: Control) -> None:
    """Blank answers count as not set, and text is converted. Zero cards is an answer."""
    names = "operation max_clock_skew min_certificate_days max_backup_hours manual_confirmations cards_available"
    names += " allow_outage ignore_members max_parallel node_timeout"
    for blank in ("", None):
        survey = {f"preflight_{name}": blank for name in names.split()}
        run = play(PREFLIGHT, control, "-e", json.dumps(survey))
        assert run.status == 0
    text = {"operation": "initial_sync", "max_clock_skew": "30", "cards_available": "2", "allow_outage": "false"}
    run = play(PREFLIGHT, control, "-e", json.dumps({f"preflight_{name}": value for name, value in text.items()}))
    assert run.status == 0
    few = play(
        PREFLIGHT, control, "-e", json.dumps({"preflight_operation": "initial_sync", "preflight_cards_available": "0"})
    )
    assert few.status != 0
    for wrong in ({"operation": "sync"}, {"max_clock_skew": "-1"}, {"cards_available": "two"}):
        run = play(PREFLIGHT, control, "-e", json.dumps({f"preflight_{name}": value for name, value in wrong.items()}))
        assert run.status != 0, wrong


def test_member_missing_from_inventory_is_listed(control: Control, tmp_path: Path) -> None:
    """A joined member outside of the inventory is a problem, unless the member is ignored."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    del inventory["utrust"]["hosts"]["node3"]
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

    def preflight(*arguments: str) -> Run:
        return play(PREFLIGHT, control, *arguments, inventory=tmp_path / "inventory.yml")

    run = preflight()
    assert run.status != 0
    assert "node3: member_not_in_inventory: " in run.text
    assert "preflight for key_sync: 1 problem(s) on node3" in run.text
    assert preflight("-e", "preflight_ignore_members=node2,node3").status == 0
    assert "node3: member_not_in_inventory: " in preflight("-e", "preflight_ignore_members=node33").text


@pytest.mark.parametrize(
    "other",
    [
        {"utrust_source": "east1", "utrust_node": "node3"},
        {"utrust_source": " east1 ", "utrust_node": " node3"},
        {"utrust_source": "node1", "utrust_node": "NODE3"},
    ],
    ids=["other cluster", "blanks", "other case"],
)
@pytest.mark.parametrize("name", ["node3", "east3"])
@pytest.mark.parametrize("playbook", [PREFLIGHT, "keyops.utrust.key_sync"])
def test_member_is_not_hidden_by_a_host_of_its_name(
    control: Control, tmp_path: Path, playbook: str, name: str, other: dict[str, str]
) -> None:
    """Inventory and play have two clusters, and node3 of the first cluster is not in the inventory."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    hosts = inventory["utrust"]["hosts"]
    del hosts["node3"]
    for host in hosts.values():
        host["utrust_source"] = "node1"
    hosts[name] = {**hosts["node2"], "utrust_host": "127.9.9.9", **other}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

    run = play(
        playbook,
        control,
        *("--limit", "node1,node2", "-e", "comment='utrust_source is a host variable'"),
        inventory=tmp_path / "inventory.yml",
    )

    assert run.status != 0
    assert "node3: member_not_in_inventory: " in run.text
    assert changing_methods(control) == set()


def test_backups_are_read_or_confirmed(control: Control) -> None:
    limits = {"preflight_max_backup_hours": 24}
    assert "backup_unknown" in play(PREFLIGHT, control, "-e", json.dumps(limits)).text
    for node in ("node1", "node2"):
        control.backup(node)
    confirmed = [
        {"subject": "backup", "node": "node3", "confirmed_by": "Ada", "reason": "made by hand this morning, tape 17"}
    ]

    run = play(PREFLIGHT, control, "-e", json.dumps({**limits, "preflight_manual_confirmations": confirmed}))

    assert run.status == 0
    nameless = [{**confirmed[0], "reason": ""}]
    assert (
        play(PREFLIGHT, control, "-e", json.dumps({**limits, "preflight_manual_confirmations": nameless})).status != 0
    )


def test_key_sync_runs_the_checks_again(control: Control) -> None:
    control.generate_key("node1", "newKey")
    control.set_slot("node3", 0, activation="manual")

    run = play("keyops.utrust.key_sync", control)

    assert run.status != 0
    assert "node3: slot_mismatch: " in run.text
    assert changing_methods(control) == set()


def test_key_sync_lists_the_problems_of_all_nodes(tmp_path: Path) -> None:
    """A key, a slot, an alarm and a member outside of the inventory are in one list."""
    with cluster(nodes=5, restored=5, keys=2, faults=True) as control:
        control.generate_key("node2", "onlyHere")
        control.set_slot("node3", 0, activation="manual")
        control.fault("alarm", node="node4", reason="tamper sensor")
        inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
        del inventory["utrust"]["hosts"]["node5"]
        (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

        run = play("keyops.utrust.key_sync", control, inventory=tmp_path / "inventory.yml")

        assert run.status != 0
        assert "synchronizing from node1: 4 problem(s) on node5, node3, node4, node2. Nothing was changed" in run.text
        for node, code in (
            ("node2", "extra_keys"),
            ("node3", "slot_mismatch"),
            ("node4", "hsm_alarm"),
            ("node5", "member_not_in_inventory"),
        ):
            assert [line for line in problem_lines(run) if line.startswith(f"{node}: {code}: ")]
        assert changing_methods(control) == set()


def test_erased_hsm_may_be_restored_but_not_in_another_alarm(control: Control) -> None:
    """Only an HSM with the alarm of an external erase may be restored."""
    control.factory_reset("node2")
    control.fault("alarm", node="node2", reason="external_erase")
    assert ": hsm_erased: " in play(PREFLIGHT, control).text
    assert play(PREFLIGHT, control, "-e", "preflight_operation=initial_sync").status == 0

    with card_holders(control, "node2"):
        restored = play("keyops.utrust.initial_sync", control)
    assert restored.status == 0, restored.output
    assert control.node("node2")["state"] == "operational"

    control.fault("alarm", node="node3", reason="tamper sensor")
    assert ": hsm_alarm: " in play(PREFLIGHT, control, "-e", "preflight_operation=initial_sync").text
    assert play("keyops.utrust.initial_sync", control).status != 0
