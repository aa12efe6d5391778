# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight of a cluster: each rule, and all rules together."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.filter.cluster_problems import cluster_problems
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import node_facts
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import PreflightOptions, check_cluster

from tests.support.factories import key, node

NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)


def facts(name: str, **changes: t.Any) -> dict[str, t.Any]:
    """An operational node with one key, equal to the source except for the changes."""
    node_data = node_facts(node(key(), name=name, hsm_serial=f"UT-{name}"))
    members = [
        {"node": f"node{number}", "address": "", "port": 1, "joined": True, "connection": "connected"}
        for number in (1, 2, 3)
    ]
    return {**node_data, "members": members, **changes}


def codes(*targets: dict[str, t.Any], source: dict[str, t.Any] | None = None, **options: t.Any) -> list[str]:
    found = check_cluster(source or facts("node1"), targets, PreflightOptions(**options), NOW)
    assert all(problem.text and problem.remedy for problem in found)
    return [problem.code for problem in found]


def test_check_cluster_ready() -> None:
    """A ready cluster has no problem."""
    assert codes(facts("node2"), facts("node3")) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"hsm_state": "factory_reset", "mbk": None}, "hsm_not_operational"),
        ({"hsm_state": "maintenance"}, "hsm_not_operational"),
        ({"hsm_state": "alarm", "alarm": "tamper sensor"}, "hsm_alarm"),
        ({"hsm_state": "alarm", "alarm": "external_erase"}, "hsm_erased"),
        ({"driver": "stopped"}, "driver_stopped"),
        ({"running": {"kind": "import", "id": "1"}}, "import_in_progress"),
        ({"clock_skew": 61.0}, "clock_skew"),
        ({"clock_skew": None}, "clock_skew"),
        ({"appliance_version": "9.9"}, "appliance_version_mismatch"),
        ({"hsm_firmware": "9.9"}, "hsm_firmware_mismatch"),
        ({"cluster_id": "other"}, "cluster_mismatch"),
        ({"fips": True}, "fips_mode_mismatch"),
        ({"mbk": {"name": "OTHER", "check_value": "0a" * 8, "m": 2, "n": 3}}, "mbk_mismatch"),
        ({"tls_expires_at": "2026-12-01T00:00:00Z"}, "certificate_expiring"),
    ],
)
def test_check_cluster_rule_returns_its_code(changes: dict[str, t.Any], code: str) -> None:
    """Each rule returns its own code."""
    assert codes(facts("node2", **changes), facts("node3")) == [code]


def test_check_cluster_returns_all_problems() -> None:
    """One list contains the problems of all nodes."""
    found = check_cluster(
        facts("node1"),
        [facts("node2", fips=True, driver="stopped"), facts("node3", clock_skew=99.0)],
        PreflightOptions(),
        NOW,
    )
    assert {(problem.node, problem.code) for problem in found} == {
        ("node2", "fips_mode_mismatch"),
        ("node2", "driver_stopped"),
        ("node3", "clock_skew"),
    }


def test_check_cluster_slot_mismatch() -> None:
    """Slots must have the same label and activation on all nodes."""
    [first, *others] = facts("node1")["slots"]
    assert codes(facts("node2", slots=[{**first, "activation": "manual"}, *others])) == ["slot_mismatch"]
    assert codes(facts("node2", slots=[{**first, "label": "else"}, *others])) == ["slot_mismatch"]
    assert codes(facts("node2", slots=others)) == [], "the keys bring a missing slot"


def test_check_cluster_backup_age() -> None:
    """Backups must be recent enough or confirmed manually."""
    young, old = {"last_backup_at": "2026-11-23T02:00:00Z"}, {"last_backup_at": "2026-11-20T02:00:00Z"}
    source = facts("node1", **young)
    assert codes(facts("node2", **young), source=source, max_backup_hours=24) == []
    assert codes(facts("node2", **old), source=source, max_backup_hours=24) == ["backup_too_old"]
    assert codes(facts("node2"), source=source, max_backup_hours=24) == ["backup_unknown"]
    assert codes(facts("node2"), source=facts("node1"), max_backup_hours=24) == ["backup_unknown"] * 2
    assert codes(facts("node2"), source=source, max_backup_hours=24, confirmed_backups=frozenset({"node2"})) == []
    assert codes(facts("node2", **old), source=source) == [], "without a limit, backups are not checked"


def test_check_cluster_initial_sync() -> None:
    """An initial synchronization accepts other HSM states and requires enough cards."""
    joining = facts("node2", hsm_state="factory_reset", mbk=None)
    erased = facts("node3", hsm_state="alarm", alarm="external_erase", mbk=None)
    assert codes(joining, erased, operation="initial_sync", cards_available=2) == []
    assert codes(joining, operation="initial_sync", cards_available=1) == ["not_enough_cards"]
    tampered = facts("node2", hsm_state="alarm", alarm="tamper sensor")
    assert codes(tampered, operation="initial_sync") == ["hsm_alarm"]


def test_check_cluster_disconnected_member() -> None:
    """A disconnected member is a problem and counts for the quorum."""
    source = facts("node1")
    source["members"][2]["connection"] = "disconnected"
    assert codes(facts("node2"), source=source) == ["member_disconnected", "quorum_at_risk"]
    assert codes(facts("node2"), source=source, allow_outage=True) == ["member_disconnected"]


def test_cluster_problems_unmanaged_member() -> None:
    """A joined member that is not a host of the inventory is a problem."""
    [problem] = cluster_problems([facts("node2")], source=facts("node1"), unmanaged_members=["node3"])
    assert (problem["code"], problem["node"]) == ("member_not_in_inventory", "node3")
    assert problem["text"]
    assert problem["remedy"]


def test_check_cluster_source_not_ready() -> None:
    """A source that is not operational is a problem."""
    assert "source_not_ready" in codes(facts("node2"), source=facts("node1", hsm_state="alarm", alarm="tamper sensor"))
