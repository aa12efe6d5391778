# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of readiness: their form, and what they are made from."""

from __future__ import annotations

import dataclasses as dc
import datetime
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import NodeReading
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import NodeView
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import Peer
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.accounts import ClientCertificate
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness import access_rows
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.contact import Contact, Health
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.node_rows import NodeContext, Rules, fact_rows
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.rows import Row, format_rows, summary

from tests.support.factories import OTHER, node

NOW = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)
RULES = Rules(60.0, 14.0, None, {}, NOW)


def reading(**changes: t.Any) -> NodeReading:
    return NodeReading("node2", "node2", node(name="node2", **changes), clock_skew=0.0)


def context(**changes: t.Any) -> NodeContext:
    return NodeContext("node2", "rest", None, reading(), node(), None, 1.0)._replace(**changes)


def facts(found: NodeContext, rules: Rules = RULES) -> dict[str, tuple[str, str]]:
    return {row.step: (row.state, row.code) for row in fact_rows(found, rules)}


def test_rows_are_aligned_lines_with_the_code_at_the_end() -> None:
    rows = [
        Row("node1", "route", "observed", "127.0.0.2 accepts connections"),
        Row("this machine", "swap", "refused", "swap is on", "turn it off", "swap_on"),
    ]
    assert format_rows(rows) == [
        "node          step   state     result",
        "node1         route  observed  127.0.0.2 accepts connections",
        "this machine  swap   REFUSED   swap is on. Fix: turn it off [swap_on]",
    ]
    assert summary(rows) == "1 observed, 0 declared, 0 not checked, 1 refused"


def test_facts_of_transport_rest_are_observed() -> None:
    found = facts(context())
    assert {state for state, dummy in found.values()} == {"observed", "not checked"}
    assert found["page_map"] == found["backup"] == ("not checked", "")


def test_facts_of_an_incomplete_transport_are_declared() -> None:
    """The job is unknown, and the clock comes from EJBCA."""
    time = (NOW - datetime.timedelta(seconds=3)).isoformat(sep=" ")
    found = facts(context(transport="assisted", page_map="b", reading=reading(clock=None), server_time=time))
    declared = {step for step, (state, dummy) in found.items() if state == "declared"}
    assert declared == {"page_map", "versions", "mbk", "import_behavior"}
    assert found["jobs"] == ("not checked", "")
    assert found["clock"] == ("observed", "")


@pytest.mark.parametrize(
    ("changes", "step", "code"),
    [
        ({"page_map": "c"}, "page_map", "page_map_unknown"),
        ({"transport": "assisted"}, "page_map", "page_map_unknown"),
        ({"reading": reading(appliance_version="9.9")}, "versions", "appliance_version_mismatch"),
        ({"reading": reading(hsm_firmware=None)}, "versions", "version_unknown"),
        ({"reading": reading(mbk=OTHER)}, "mbk", "mbk_mismatch"),
        ({"reading": reading(running=("restore", "r1"))}, "jobs", "restore_in_progress"),
        ({"reading": dc.replace(reading(), clock_skew=3600.0)}, "clock", "clock_skew"),
    ],
    ids=["page_map", "no page_map", "version", "firmware", "mbk", "job", "clock"],
)
def test_fact_that_forbids_a_change_is_refused(changes: dict[str, t.Any], step: str, code: str) -> None:
    assert facts(context(**changes))[step] == ("refused", code)


@pytest.mark.parametrize(("seconds", "state"), [(-70, "refused"), (-50, "observed"), (50, "observed"), (70, "refused")])
def test_clock_of_ejbca_is_checked_with_its_delay(seconds: int, state: str) -> None:
    """The time was shown at some moment of the reading, which took 5 s."""
    time = (NOW + datetime.timedelta(seconds=seconds)).isoformat(sep=" ")
    found = facts(context(reading=reading(clock=None), server_time=time, elapsed=5.0))
    assert found["clock"][0] == state


def test_clock_that_nobody_shows_is_not_checked() -> None:
    assert facts(context(reading=reading(clock=None), server_time="noon"))["clock"] == ("not checked", "")


@pytest.mark.parametrize(
    ("made", "confirmed", "expected"),
    [
        ("2026-11-26T11:00:00Z", {}, ("observed", "")),
        ("2026-11-20T11:00:00Z", {}, ("refused", "backup_too_old")),
        (None, {}, ("refused", "backup_unknown")),
        (None, {"node2": "Ada confirms: tape 7"}, ("declared", "")),
        (None, {"node3": "Ada confirms: tape 7"}, ("refused", "backup_unknown")),
    ],
)
def test_backup_is_read_or_confirmed(made: str | None, confirmed: dict[str, str], expected: tuple[str, str]) -> None:
    rules = RULES._replace(max_backup_hours=24.0, confirmed_backups=confirmed)
    assert facts(context(reading=reading(last_backup_at=made)), rules)["backup"] == expected


def test_node_that_was_not_read_has_no_facts() -> None:
    problem = Problem("node_unreachable", "node2", "no response", "")
    found = facts(context(reading=NodeReading("node2", "node2", problem=problem)))
    assert set(found.values()) == {("not checked", "")}


def certificate(days: float) -> ClientCertificate:
    return ClientCertificate("sha256:" + "ab" * 32, NOW, NOW + datetime.timedelta(days=days))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (certificate(30), ("observed", "")),
        (certificate(13), ("refused", "client_certificate_expiring")),
        (certificate(-1), ("refused", "client_certificate_expired")),
        (UtrustError("no file", code="client_cert_unreadable"), ("refused", "client_cert_unreadable")),
        (ClientCertificate("sha256:ab", None, None), ("observed", "")),
        (None, ("not checked", "")),
    ],
    ids=["valid", "ends soon", "expired", "unreadable", "unknown end", "not set"],
)
def test_client_certificate_has_an_end(found: t.Any, expected: tuple[str, str]) -> None:
    (row,) = access_rows.certificate_rows("node2", {"webconf": found}, RULES, token=False)
    assert (row.step, row.state, row.code) == ("client_certificate", *expected)
    assert access_rows.certificate_rows("node2", {"ejbca_operator": None}, RULES, token=False) == []


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        (Contact(error=UtrustError("no route", code="node_unreachable"), route=True), ("refused", "not checked")),
        (Contact(error=UtrustError("pin", code="tls_fingerprint_mismatch")), ("observed", "refused")),
        (UtrustError("late", code="node_read_timeout"), ("refused", "not checked")),
        (Contact(Peer("127.0.0.2", "sha256:ab", "TLSv1.3")), ("observed", "observed")),
    ],
    ids=["route", "pin", "timeout", "fits"],
)
def test_route_and_certificate_are_two_steps(contact: t.Any, expected: tuple[str, str]) -> None:
    rows = access_rows.route_rows("node2", contact, ["ab"], RULES)
    assert [row.step for row in rows] == ["route", "tls"]
    assert tuple(row.state for row in rows) == expected


def view(*codes: str, **changes: t.Any) -> NodeView:
    problems = tuple(ViewProblem(code, f"text of {code}") for code in codes)
    identity = NodeIdentity("127.0.0.2", 443, "sha256:ab", "node2")
    return dc.replace(NodeView("node2", True, False, True, identity, problems=problems), **changes)


@pytest.mark.parametrize(
    ("found", "transport", "shown", "rights", "health"),
    [
        (view(), "rest", "observed", "observed", True),
        (view("token_activation_failing"), "rest", "refused", "observed", False),
        (view("database_diverged"), "rest", "refused", "observed", True),
        (view("source_view_unknown"), "rest", "observed", "observed", True),
        (view("ejbca_rights_excessive", read=False), "rest", "not checked", "refused", False),
        (view("ejbca_unreachable", read=False), "rest", "refused", "not checked", False),
        (view("credentials_missing", read=False), "rest", "not checked", "not checked", False),
        (view("credentials_missing", read=False), "assisted", "refused", "not checked", False),
        (view("ejbca_view_left_out", read=False, left_out=True), "rest", "not checked", "not checked", False),
        (None, "rest", "not checked", "not checked", False),
    ],
)
def test_view_decides_rights_and_health(
    found: NodeView | None, transport: str, shown: str, rights: str, health: bool
) -> None:
    """A health check would try the PIN of a failing crypto token again."""
    rows = access_rows.ejbca_rows(context(transport=transport), found)
    assert [(row.step, row.state) for row in rows] == [("ejbca_view", shown), ("rights", rights)]
    assert access_rows.may_check_health(found) is health


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, ("not checked", "")),
        (Health(None), ("observed", "")),
        (Health("MEM: low"), ("refused", "ejbca_not_healthy")),
        (UtrustError("no response", code="ejbca_unreachable"), ("refused", "ejbca_unreachable")),
    ],
    ids=["not asked", "well", "not well", "no response"],
)
def test_health_check_has_a_state(found: t.Any, expected: tuple[str, str]) -> None:
    row = access_rows.health_row("node2", found)
    assert (row.state, row.code) == expected


def test_two_hosts_behind_one_server_are_duplicates() -> None:
    contacts = {
        "node1": Contact(Peer("127.0.0.2", "sha256:aa", "TLSv1.3")),
        "node2": Contact(Peer("127.0.0.3", "sha256:bb", "TLSv1.3")),
        "node3": Contact(Peer("127.0.0.3", "sha256:cc", "TLSv1.3")),
        "node4": Contact(Peer("127.0.0.5", "sha256:aa", "TLSv1.3")),
        "node5": Contact(error=UtrustError("no route", code="node_unreachable"), route=True),
    }
    found = access_rows.duplicates_of(contacts, dict.fromkeys(contacts, 443))
    assert found == {
        "node1": "it has the same certificate as node4",
        "node2": "it has the same address as node3",
        "node3": "it has the same address as node2",
        "node4": "it has the same certificate as node1",
    }


def test_identity_that_is_shared_or_another_is_refused() -> None:
    other = Problem("node_name_mismatch", "node3", "the node at this address is node3", "")
    mismatch = context(reading=NodeReading("node2", "node2", problem=other))
    assert access_rows.identity_row(mismatch, view(), {}).code == "node_name_mismatch"
    assert access_rows.login_row(mismatch).state == "observed"
    assert access_rows.identity_row(context(), view(), {"node2": "the same"}).code == "node_duplicate"
    assert access_rows.identity_row(context(), view(identity_unknown=True), {}).code == "ejbca_identity_unknown"
    assert access_rows.identity_row(context(), view(), {}).state == "observed"
    assert access_rows.identity_row(context(transport="assisted"), view(), {}).state == "declared"
    assert access_rows.login_row(context(transport="assisted")).state == "not checked"
