# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of audit records: the allow-list and the events."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain, events
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.allow_list import (
    CONFIRMED_STEP,
    DECLARED,
    DESTROYED_KEY,
    RESULT,
    SIGNATURE_TEST,
    WEAKER_VALUE,
    AllowList,
    allowed,
)

ROOT = Path(__file__).resolve().parents[4]
SECRET = "canary-4711"


def poisoned(allow_list: AllowList, secret: str) -> dict[str, t.Any]:
    """All allowed names, and on each level also names that are not allowed."""
    below = {name: poisoned(one, secret) if one else {"nested": secret} for name, one in allow_list.items()}
    lists = {name: [poisoned(one, secret)] if one else [{"nested": secret}] for name, one in allow_list.items()}
    return {"msg": secret, "invocation": {"module_args": {"bearer_token": secret}}, **(below | lists), secret: secret}


@pytest.mark.parametrize(
    "allow_list", [RESULT, DECLARED, SIGNATURE_TEST], ids=["results", "declarations", "signatures"]
)
def test_allowed_drops_unlisted_names(allow_list: AllowList) -> None:
    """Names that are not on the allow-list are dropped on each level."""
    assert SECRET not in json.dumps(allowed(poisoned(allow_list, SECRET), allow_list))


def test_allowed_keeps_listed_names() -> None:
    """Names on the allow-list are recorded."""
    result = {
        "node": {"name": "node1", "hsm_serial": "UT1", "fips": True, "mbk": {"check_value": "ab", "share": SECRET}},
        "added": [{"fingerprint": "sha256:1", "value": SECRET}],
        "events": ["PIN pad front-usb: Insert MBK card 1 of 2", {"pin": SECRET}],
    }
    assert allowed(result, RESULT) == {
        "node": {"name": "node1", "hsm_serial": "UT1", "fips": True, "mbk": {"check_value": "ab"}},
        "added": [{"fingerprint": "sha256:1"}],
        "events": ["PIN pad front-usb: Insert MBK card 1 of 2"],
    }


def test_every_module_has_an_event_name() -> None:
    """Each module of the collection has an event name."""
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    assert modules
    assert modules <= set(events.EVENTS)


def test_every_event_and_name_is_documented() -> None:
    """docs/audit.md lists each event and each recorded name."""
    text = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    names = {
        *events.EVENTS.values(),
        "signature_tested",
        "key_destroyed",
        "weaker_value",
        "node_undrained",
        "step_confirmed",
        "package_removed",
        "manifest_removed",
        "check_mode_result",
        "task_failed",
        "declaration",
        chain.LOST,
    }
    assert {
        event for event in names | {chain.STARTED, chain.ENDED, chain.FRAGMENTS_FOUND} if f"`{event}`" not in text
    } == set()
    lists = [*RESULT, *DECLARED, *SIGNATURE_TEST, *WEAKER_VALUE, *DESTROYED_KEY, *CONFIRMED_STEP]
    assert {name for name in lists if f"`{name}`" not in text} == set()


def test_allowed_drops_messages_in_a_list_of_dictionaries() -> None:
    """A text in a list of dictionaries is a message, for example a problem of a preflight."""
    assert allowed({"problems": [f"node2: {SECRET}", {"code": "a", "text": SECRET}]}, RESULT) == {
        "problems": [{"code": "a"}]
    }


def recorded(action: str, result: dict[str, t.Any], **task: t.Any) -> list[tuple[str, dict[str, t.Any]]]:
    about = {"host": "node1", "action": f"keyops.utrust.{action}", "outcome": "ok", "check_mode": False, **task}
    return list(events.task_events(about, result))


def test_task_events_cluster_names_every_node() -> None:
    """The nodes of a cluster are recorded as a list, because their hosts are not on an allow-list."""
    nodes = {
        "node2": {"name": "two", "in_sync": True, "node": {"hsm_serial": "UT2"}, "problem": None, "difference": {}}
    }
    ((event, record),) = recorded("utrust_cluster_info", {"nodes": nodes, "hsm_keys": [{"label": SECRET}]})
    assert event == "cluster_read"
    [found] = record["result"]["nodes"]
    assert found == {"host": "node2", "name": "two", "in_sync": True, "node": {"hsm_serial": "UT2"}, "problem": None}


def test_task_events_failed_preflight_has_all_codes() -> None:
    """The codes of all problems are recorded, and no message."""
    result = {"msg": SECRET, "codes": ["clock_skew", "hsm_alarm"], "problems": [SECRET], "summary": [SECRET]}
    ((event, record),) = recorded("utrust_preflight", result, outcome="failed")
    assert (event, record["codes"]) == ("cluster_checked", ["clock_skew", "hsm_alarm"])
    assert SECRET not in json.dumps(record)


def test_task_events_readiness_has_the_digest_of_the_record() -> None:
    """An auditor finds the run that signed a commissioning record. Its text and its path are not recorded."""
    result = {"changed": True, "record_digest": "sha256:1", "codes": [], "table": [SECRET], "diff": {"after": SECRET}}
    ((event, record),) = recorded("utrust_readiness", result)
    assert (event, record["result"]) == ("readiness_checked", {"record_digest": "sha256:1"})
    assert SECRET not in json.dumps(record)


def test_task_events_action_declares_decisions() -> None:
    """An action of the collection returns the decisions of people with its result."""
    facts = {"ansible_facts": {"_key_sync__audit": {"source": "node1", "pin": SECRET}}, "plan_digest": "sha256:1"}
    (planned, result), (declared, record) = recorded("utrust_sync_plan", facts)
    assert (planned, result["result"]) == ("sync_planned", {"plan_digest": "sha256:1"})
    assert (declared, record["by"], record["result"]) == ("declaration", "key_sync", {"source": "node1"})


@pytest.mark.parametrize("fact", ["_key_sync__audit", "key_sync__audit"])
def test_task_events_declaration_names_the_role(fact: str) -> None:
    """A declaration names the role that set the fact, with or without the underscore of a private variable."""
    task = {"host": "node1", "action": "ansible.builtin.set_fact", "outcome": "ok", "check_mode": False}
    facts = {"ansible_facts": {fact: {"source": "node1", "pin": SECRET}, "other": SECRET}}
    ((event, record),) = events.task_events(task, facts)
    assert (event, record["by"], record["result"]) == ("declaration", "key_sync", {"source": "node1"})


@pytest.mark.parametrize(
    ("result", "codes"),
    [
        (
            {"msg": "two\nlines", "code": "clock_skew", "problems": [{"code": "clock_skew"}, {"code": "extra_keys"}]},
            ["clock_skew", "extra_keys"],
        ),
        ({"msg": "key_sync: a reason [quorum_at_risk]. Fix: a remedy"}, ["quorum_at_risk"]),
        ({"msg": "failed", "code": "node_unreachable"}, ["node_unreachable"]),
        ({"msg": "failed", "code": "Not A Code", "problems": ["text", {"code": 7}]}, []),
        ({}, []),
    ],
)
def test_task_events_failure_has_every_code(result: dict[str, t.Any], codes: list[str]) -> None:
    """A module returns its codes as data, the message of a role has them in brackets."""
    task = {"host": "node2", "action": "keyops.utrust.utrust_ksp_import", "outcome": "failed", "check_mode": False}
    ((dummy_event, record),) = events.task_events(task, result)
    assert record["codes"] == codes


@pytest.mark.parametrize("result", [{}, {"censored": "hidden"}, {"removed": []}, {"package": {}}, {"msg": "failed"}])
@pytest.mark.parametrize("outcome", ["ok", "changed", "failed"])
@pytest.mark.parametrize(("state", "event"), [("absent", "package_removed"), ("present", "package_exported")])
def test_event_name_follows_from_the_task(result: dict[str, t.Any], outcome: str, state: str, event: str) -> None:
    """The removal of a package is not recorded as an export, whatever its result lacks."""
    task = {
        "host": "node1",
        "action": "keyops.utrust.utrust_ksp_export",
        "outcome": outcome,
        "check_mode": False,
    }
    ((found, dummy),) = events.task_events(task, result, state)
    assert found == event


@pytest.mark.parametrize(
    ("state", "result", "event"),
    [
        (None, {"removed": []}, "package_removed"),
        ("absent", {"removed": {"elsewhere": True}}, "manifest_removed"),
        ("absent", {"removed": {"elsewhere": False}}, "package_removed"),
        ("{{ state }}", {"removed": []}, "package_removed"),
        (None, {"censored": "hidden"}, "package_exported"),
        ("{{ state }}", {"package": {}}, "package_exported"),
    ],
)
def test_event_name_without_a_state_follows_from_the_result(
    state: str | None, result: dict[str, t.Any], event: str
) -> None:
    """Defaults and templates are not in the task. A hidden result then counts as an export, because a copy may exist."""
    assert events.event_name("utrust_ksp_export", state, result, check_mode=False) == event


@pytest.mark.parametrize(
    ("action", "result", "hidden"),
    [
        ("keyops.utrust.utrust_ksp_import", {"censored": "x"}, True),
        ("keyops.utrust.utrust_hsm_info", {"censored": "x", "changed": False}, True),
        ("keyops.utrust.utrust_ksp_import", {"changed": True}, False),
        ("ansible.builtin.debug", {"censored": "x"}, False),
        ("keyops.other.utrust_ksp_import", {"censored": "x"}, False),
    ],
)
def test_hidden_result_of_the_collection_is_lost(action: str, result: dict[str, t.Any], hidden: bool) -> None:
    assert events.is_hidden({"action": action}, result) is hidden


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"utrust_change_reference": " CHG-4711 "}, "CHG-4711"),
        ({"utrust_change_reference": "x" * 501}, "x" * 500),
        ({"utrust_change_reference": "  "}, ""),
        ({"utrust_change_reference": None}, ""),
        ({}, ""),
    ],
    ids=str,
)
def test_change_reference_blank_is_empty(variables: dict[str, t.Any], expected: str) -> None:
    """A survey of AWX sends blanks and null."""
    assert events.change_reference(variables) == {"change_reference": expected}


def as_awx(text: str) -> t.Any:
    """Return what ansible-core 2.19 and newer read for text that AWX marks as unsafe."""
    return yaml.safe_load(text)


RETYPED = [
    (as_awx("0640"), "416", "integer"),
    (as_awx("007"), "7", "integer"),
    (as_awx("yes"), "True", "boolean"),
    (as_awx("1.50"), "1.5", "float"),
    (as_awx("2026-11-26"), "2026-11-26", "date"),
    (False, "False", "boolean"),
    (0, "0", "integer"),
    ([7], "[7]", "other"),
]


@pytest.mark.parametrize(("value", "text", "kind"), RETYPED, ids=str)
def test_value_that_is_not_text_has_its_type(value: t.Any, text: str, kind: str) -> None:
    """The original text is lost, so a reader of the record must not take the value for the text."""
    expected = {"change_reference": text, "change_reference_type": kind}
    assert events.change_reference({"utrust_change_reference": value}) == expected
    found = events.requester({"awx_user_name": value}, "root")
    assert found == {"name": text, "known_from": "awx_user_name", "type": kind}


@pytest.mark.parametrize("text", ["CHG-0640", "INC 7", "0640a", "é"])
def test_text_that_ansible_keeps_has_no_type(text: str) -> None:
    assert events.change_reference({"utrust_change_reference": as_awx(text)}) == {"change_reference": text}
    assert events.requester({"tower_user_name": as_awx(text)}, "root") == {
        "name": text,
        "known_from": "tower_user_name",
    }


def test_each_test_signature_has_its_own_record() -> None:
    """EJBCA keeps no record of a test signature."""
    tests = [{"crypto_token": "T", "alias": alias, "result": "can_sign", "extra": SECRET} for alias in ("a", "b")]
    result = {"identity": {"host_name": "node1"}, "signature_tests": tests, "view": {"tokens": [SECRET]}}
    task = {"host": "node1", "action": "keyops.utrust.ejbca_key_info", "outcome": "ok", "check_mode": False}
    found = list(events.task_events(task, result))
    assert [(event, record["result"]) for event, record in found] == [
        ("ejbca_view_read", {"identity": {"host_name": "node1"}}),
        ("signature_tested", {"crypto_token": "T", "alias": "a", "result": "can_sign"}),
        ("signature_tested", {"crypto_token": "T", "alias": "b", "result": "can_sign"}),
    ]


def test_destroyed_keys_and_weaker_values_have_their_own_records() -> None:
    """The result is that of a module, and each event has only its allowed names."""
    key = {"slot": 0, "label": "a", "fingerprint": "sha256:1", "node": "node2", "reason": "twice", "by": "alice"}
    imported = {"destroyed": [{**key, "value": SECRET}]}
    assert recorded("utrust_ksp_import", imported)[1][0] == "key_destroyed"
    assert recorded("utrust_ksp_import", imported)[1][1]["result"] == key
    weaker = {"option": "settle_time", "value": 10.0, "default": 60.0, "reason": "a test"}
    [dummy, event] = recorded("utrust_sync_plan", {"weaker_values": [weaker]})
    assert (event[0], event[1]["result"]) == ("weaker_value", weaker)


def test_traffic_of_a_node_has_events_of_its_own() -> None:
    about = {"host": "node2", "action": "keyops.utrust.utrust_node_traffic", "outcome": "ok", "check_mode": False}
    for state, name in (("drained", "node_drained"), ("in_traffic", "node_undrained")):
        assert [event for event, dummy in events.task_events(about, {}, state)] == [name]


@pytest.mark.parametrize("outcome", ["ok", "failed"])
def test_each_confirmed_step_has_its_own_record(outcome: str) -> None:
    """Also if the task fails later, because a person did the step."""
    given = {"node": "node2", "step": "package_uploaded", "confirmed_by": "Alice", "origin": "terminal"}
    result = {"confirmations": [{**given, "sha256": "sha256:aa", "extra": SECRET}]}
    task = {"host": "node2", "action": "keyops.utrust.utrust_ksp_import", "outcome": outcome, "check_mode": False}
    found = [record["result"] for event, record in events.task_events(task, result) if event == "step_confirmed"]
    assert found == [{**given, "sha256": "sha256:aa"}]
