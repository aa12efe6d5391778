# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight of a cluster: each rule with several inputs, and all rules together."""

from __future__ import annotations

import dataclasses as dc
import datetime
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Mbk, Member, Node
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import (
    PreflightOptions,
    check_cluster,
    node_states,
    problems_result,
)

from tests.support.factories import OTHER, key, node

NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
MANAGED = frozenset({"node1", "node2", "node3"})


def member(name: str, **changes: t.Any) -> Member:
    example = node(key()).members[0]
    return dc.replace(example, **{"node": name, "joined": True, "connection": "connected", **changes})


MEMBERS = tuple(member(f"node{number}") for number in (1, 2, 3))


def read(name: str, *, host: str | None = None, clock_skew: float | None = 0.0, **changes: t.Any) -> NodeReading:
    """Return the reading of an operational node with one key, equal to the source except for the changes."""
    facts = {"name": name, "hsm_serial": f"UT-{name}", "members": MEMBERS, **changes}
    return NodeReading(host or name, name, node(key(), **facts), clock_skew=clock_skew)


def problems(*others: NodeReading, source: NodeReading | None = None, **options: t.Any) -> list[Problem]:
    reading = ClusterReading(source or read("node1"), others, None)
    found = check_cluster(reading, PreflightOptions(**{"managed": MANAGED, **options}), NOW)
    assert all(problem.text and problem.remedy for problem in found)
    return found


def codes(*others: NodeReading, **options: t.Any) -> list[str]:
    return [problem.code for problem in problems(*others, **options)]


def test_check_cluster_ready() -> None:
    assert codes(read("node2"), read("node3")) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"hsm_state": "factory_reset", "mbk": None}, "hsm_not_operational"),
        ({"hsm_state": "maintenance"}, "hsm_not_operational"),
        ({"hsm_state": "alarm", "alarm": "tamper sensor"}, "hsm_alarm"),
        ({"hsm_state": "alarm", "alarm": "temperature"}, "hsm_alarm"),
        ({"hsm_state": "alarm", "alarm_code": "external_erase"}, "hsm_erased"),
        ({"hsm_state": "alarm", "alarm": "external_erase", "alarm_code": "other"}, "hsm_alarm"),
        ({"mbk": None}, "mbk_missing"),
        ({"driver": "stopped"}, "driver_stopped"),
        ({"running": ("import", "1")}, "import_in_progress"),
        ({"running": ("restore", "2")}, "restore_in_progress"),
        ({"clock_skew": 61.0}, "clock_skew"),
        ({"clock_skew": 86400.0}, "clock_skew"),
        ({"clock_skew": None}, "clock_skew"),
        ({"appliance_version": "9.9"}, "appliance_version_mismatch"),
        ({"appliance_version": ""}, "appliance_version_mismatch"),
        ({"hsm_firmware": "9.9"}, "hsm_firmware_mismatch"),
        ({"cluster_id": "other"}, "cluster_mismatch"),
        ({"fips": True}, "fips_mode_mismatch"),
        ({"mbk": OTHER}, "mbk_mismatch"),
        ({"mbk": Mbk("KEYOPS", "0a" * 8, 2, 3)}, "mbk_mismatch"),
        ({"tls_expires_at": "2026-12-01T00:00:00Z"}, "certificate_expiring"),
        ({"tls_expires_at": "2020-01-01T00:00:00+00:00"}, "certificate_expiring"),
    ],
)
def test_check_cluster_rule_returns_its_code(changes: dict[str, t.Any], code: str) -> None:
    """Each rule returns its own code, for the node that breaks it."""
    [problem] = problems(read("node2", **changes), read("node3"))
    assert (problem.node, problem.code) == ("node2", code)


@pytest.mark.parametrize("end", ["2026-11-23T17:00:00", "2030-01-01", "tomorrow", "1e400", ""])
def test_check_cluster_certificate_end_without_zone(end: str) -> None:
    """An end that is not a time with a time zone is a problem of the source and of a target. It is not "not reported"."""
    assert codes(read("node2", tls_expires_at=end)) == ["certificate_end_invalid"]
    assert codes(read("node2"), source=read("node1", tls_expires_at=end)) == ["certificate_end_invalid"]
    assert codes(read("node2", tls_expires_at=None)) == []


def test_check_cluster_min_certificate_days() -> None:
    in_ten_days = (NOW + datetime.timedelta(days=10)).isoformat()
    assert codes(read("node2", tls_expires_at=in_ten_days)) == ["certificate_expiring"]
    assert codes(read("node2", tls_expires_at=in_ten_days), min_certificate_days=9) == []


def test_check_cluster_returns_all_problems_of_all_nodes() -> None:
    """One list has the problems of all nodes, and the reason of a node that was not read."""
    unread = NodeReading("node4", "node4", problem=Problem("node_unreachable", "node4", "no response", "see the text"))
    found = problems(
        read("node2", fips=True, driver="stopped"),
        read("node3", clock_skew=99.0),
        unread,
        source=read("node1", tls_expires_at="2026-11-24T00:00:00Z"),
    )
    assert {(problem.node, problem.code) for problem in found} == {
        ("node1", "certificate_expiring"),
        ("node2", "fips_mode_mismatch"),
        ("node2", "driver_stopped"),
        ("node3", "clock_skew"),
        ("node4", "node_unreachable"),
    }


def test_check_cluster_slot_mismatch() -> None:
    """Slots must have the same label and activation on all nodes."""
    [first, *others] = t.cast(Node, read("node1").node).slots
    assert codes(read("node2", slots=(dc.replace(first, activation="manual"), *others))) == ["slot_mismatch"]
    assert codes(read("node2", slots=(dc.replace(first, label="else"), *others))) == ["slot_mismatch"]
    assert codes(read("node2", slots=tuple(others))) == [], "the keys bring a missing slot"


@pytest.mark.parametrize(
    ("made", "options", "expected"),
    [
        ("2026-11-23T02:00:00Z", {"max_backup_hours": 24}, []),
        ("2026-11-20T02:00:00Z", {"max_backup_hours": 24}, ["backup_too_old"]),
        (None, {"max_backup_hours": 24}, ["backup_unknown"]),
        ("2026-11-23T02:00:00", {"max_backup_hours": 24}, ["backup_unknown"]),
        (None, {"max_backup_hours": 24, "confirmed_backups": frozenset({"node2"})}, []),
        ("2026-11-20T02:00:00Z", {}, []),
        ("2026-11-23T11:59:59Z", {"max_backup_hours": 0}, ["backup_too_old"]),
    ],
)
def test_check_cluster_backup_age(made: str | None, options: dict[str, t.Any], expected: list[str]) -> None:
    """Backups must be recent or confirmed by a person. Without a limit, backups are not checked. 0 hours are a limit."""
    source = read("node1", last_backup_at=NOW.isoformat())
    assert codes(read("node2", last_backup_at=made), source=source, **options) == expected


def test_check_cluster_backup_of_the_source() -> None:
    assert codes(read("node2"), max_backup_hours=24) == ["backup_unknown"] * 2


def test_check_cluster_initial_sync_states() -> None:
    """An initial synchronization accepts HSMs without keys, and a restore that already runs."""
    joining = read("node2", hsm_state="factory_reset", mbk=None)
    erased = read("node3", hsm_state="alarm", alarm="erased by tamper input", alarm_code="external_erase", mbk=None)
    running = read("node3", hsm_state="factory_reset", mbk=None, running=("restore", "1"))
    assert codes(joining, erased, operation="initial_sync", cards_available=2) == []
    assert codes(joining, running, operation="initial_sync") == []
    assert (
        codes(
            joining, operation="initial_sync", max_backup_hours=24, source=read("node1", last_backup_at=NOW.isoformat())
        )
        == []
    )
    exporting = read("node2", hsm_state="factory_reset", mbk=None, running=("import", "1"))
    assert codes(exporting, operation="initial_sync") == ["import_in_progress"]
    tampered = read("node2", hsm_state="alarm", alarm="tamper sensor")
    assert codes(tampered, operation="initial_sync") == ["hsm_alarm"]


@pytest.mark.parametrize(
    ("cards", "expected"), [(None, []), (2, []), (3, []), (1, ["not_enough_cards"]), (0, ["not_enough_cards"])]
)
def test_check_cluster_cards(cards: int | None, expected: list[str]) -> None:
    """The card holders must have the number of cards that the MBK of the source requires. Not set is not zero."""
    assert codes(read("node2"), operation="initial_sync", cards_available=cards) == expected


@pytest.mark.parametrize(
    ("serials", "expected"),
    [({}, []), ({"host2": "UT-node2"}, []), ({"host2": "UT-node3"}, ["hsm_serial_mismatch"]), ({"node2": "x"}, [])],
)
def test_check_cluster_hsm_serial(serials: dict[str, str], expected: list[str]) -> None:
    """The serial numbers that people read are by inventory host."""
    assert codes(read("node2", host="host2"), operation="initial_sync", hsm_serials=serials) == expected


@pytest.mark.parametrize("connection", ["disconnected", "unknown", "maintenance"])
def test_check_cluster_disconnected_member(connection: str) -> None:
    """A disconnected member is a problem, unless the rollout counts it against the quorum."""
    source = read("node1", members=(*MEMBERS[:2], member("node3", connection=connection)))
    assert codes(read("node2"), source=source) == ["member_disconnected"]
    assert codes(read("node2"), source=source, members_may_be_down=True) == []


@pytest.mark.parametrize(
    ("managed", "ignored", "expected"),
    [
        (MANAGED, frozenset(), []),
        (frozenset({"node1", "node2"}), frozenset(), ["member_not_in_inventory"]),
        (frozenset({"node1", "node2"}), frozenset({"node3"}), []),
        (frozenset({"node1", "node2"}), frozenset({"node33"}), ["member_not_in_inventory"]),
        (frozenset({"node1", "node2", "NODE3", "node3.example.com"}), frozenset(), ["member_not_in_inventory"]),
        (frozenset({"node1", "node2"}), frozenset({"Node3"}), ["member_not_in_inventory"]),
        (frozenset(), frozenset(), ["member_not_in_inventory"] * 2),
    ],
)
def test_check_cluster_unmanaged_member(managed: frozenset[str], ignored: frozenset[str], expected: list[str]) -> None:
    """Every joined member must be a host of this run. Hosts of other plays do not count."""
    assert codes(read("node2"), managed=managed, ignored_members=ignored) == expected


def test_check_cluster_member_that_has_not_joined() -> None:
    source = read("node1", members=(*MEMBERS, member("node4", joined=False, connection="unknown")))
    assert codes(read("node2"), source=source) == []


@pytest.mark.parametrize("host", ["node2.example.com", "NODE2", "10.0.0.2"])
def test_check_cluster_node_under_two_hosts(host: str) -> None:
    """Two hosts that are the same node are one problem that names both."""
    [problem] = problems(read("node2"), read("node2", host=host), read("node3"))
    assert (problem.node, problem.code) == (host, "node_duplicate")
    assert f"node2 and {host}" in problem.text


def test_check_cluster_source_under_a_second_host() -> None:
    assert "node_duplicate" in codes(read("node1", host="alias"), read("node2"))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("node2", {"hsm_serial": "UT-other"}),
        ("node3", {"hsm_serial": "UT-node2"}),
        ("node2", {"cluster_id": "other"}),
    ],
)
def test_check_cluster_nodes_that_share_a_part_of_the_identity(name: str, changes: dict[str, t.Any]) -> None:
    """A node is its cluster, its own name and its HSM serial number together."""
    assert "node_duplicate" not in codes(read("node2"), read(name, host="other", **changes))


@pytest.mark.parametrize(
    "changes",
    [{"hsm_state": "alarm", "alarm": "tamper sensor"}, {"hsm_state": "factory_reset", "mbk": None}, {"mbk": None}],
)
def test_check_cluster_source_not_ready(changes: dict[str, t.Any]) -> None:
    found = problems(read("node2"), source=read("node1", **changes))
    assert ("node1", "source_not_ready") in {(problem.node, problem.code) for problem in found}


def test_problems_result_has_one_line_for_each_problem() -> None:
    """The message is one line, and each problem is one line with node, code, reason and remedy."""
    result = problems_result("preflight", problems(read("node2", fips=True), read("node3", clock_skew=99.0)))
    assert (result["failed"], result["code"]) == (True, "fips_mode_mismatch")
    assert result["codes"] == ["fips_mode_mismatch", "clock_skew"]
    assert "\n" not in result["msg"] + "".join(result["problems"])
    assert result["msg"] == "preflight: 2 problem(s) on node2, node3. Nothing was changed"
    assert [line.split(": ")[:2] for line in result["problems"]] == [
        ["node2", "fips_mode_mismatch"],
        ["node3", "clock_skew"],
    ]


def test_node_states_of_read_and_unread_nodes() -> None:
    unread = NodeReading("host3", "node3", problem=Problem("node_unreachable", "host3", "no response", "see the text"))
    states = node_states(ClusterReading(read("node1"), (read("node2", host="host2"), unread), None))
    assert list(states) == ["node1", "host2", "host3"]
    assert states["host2"]["hsm_state"] == "operational"
    assert states["host3"] == {"name": "node3", "hsm_state": None, "keys_digest": None}
