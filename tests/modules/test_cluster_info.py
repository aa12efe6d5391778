# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test utrust_cluster_info, utrust_preflight, utrust_sync_plan and utrust_cluster_summary: the reading runs in Ansible's own process or on a bastion."""

from __future__ import annotations

import json
import re
import typing as t

import pytest
import yaml
from ansible_collections.keyops.utrust.plugins.modules import utrust_cluster_info
from utrust_appliance.testing import cluster

from tests.support.approvals import Person
from tests.support.playbook import methods
from tests.support.runners import AnsibleRunner, node_variables, task

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.runners import Arguments

INFO, PREFLIGHT, PLAN, SUMMARY = "utrust_cluster_info", "utrust_preflight", "utrust_sync_plan", "utrust_cluster_summary"
JOINED = ("node1", "node2", "node3")
#: Every option that a survey can leave blank.
BLANKS = dict.fromkeys(("max_parallel", "node_timeout"), "")
RULE_BLANKS = {
    **BLANKS,
    **dict.fromkeys(("max_clock_skew", "min_certificate_days", "max_backup_hours", "allow_outage"), " "),
    **dict.fromkeys(("manual_confirmations", "ignore_members"), ""),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=4, joined=3, restored=3, keys=4, key_mix={"ec-p256": 3, "aes-256": 1}, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    running.clear_log()
    yield running
    running.clear_faults()


@pytest.fixture
def new_key(control: Control) -> Iterator[str]:
    """Return the label of a key that only the source has."""
    control.generate_key("node1", "issuing-2027")
    yield "issuing-2027"
    control.delete_key("node1", "issuing-2027")


@pytest.fixture
def action(tmp_path: Path) -> AnsibleRunner:
    return AnsibleRunner("action", tmp_path)


def once(module: str, arguments: Arguments, **keywords: t.Any) -> dict[str, t.Any]:
    return task(module, {"source": "node1", **arguments}, run_once=True, **keywords)


def inventory(control: Control, *nodes: str, **changes: t.Any) -> dict[str, Arguments]:
    """Return the variables of the nodes. The changes are changes of the last node."""
    hosts = {node: node_variables(control, node) for node in nodes}
    return {**hosts, nodes[-1]: node_variables(control, nodes[-1], **changes)}


# utrust_cluster_info


def test_cluster_info_in_sync(control: Control, runner: AnsibleRunner) -> None:
    """The result holds the keys once, and check mode returns the same. A text for a list and blanks are accepted."""
    ran = runner.run(
        once(INFO, {}),
        once(INFO, {}, check_mode=True),
        once(INFO, {**BLANKS, "hosts": "node2, node3,", "keys": ""}),
        hosts=inventory(control, *JOINED),
    )
    for result in ran.results:
        assert (result["failed"], result["changed"], result["in_sync"]) == (False, False, True), result
        assert result["source"] == "node1"
        assert sorted(result["nodes"]) == list(JOINED)
        assert (result["out_of_sync"], result["unknown_nodes"], result["members_not_read"]) == ([], [], [])
        assert len(result["hsm_keys"]) == 4
        assert len(result["summary"]) == 3
        names = {
            "source",
            "in_sync",
            "out_of_sync",
            "unknown_nodes",
            "members_not_read",
            "summary",
            "nodes",
            "hsm_keys",
        }
        assert names <= set(result) & set(yaml.safe_load(utrust_cluster_info.RETURN))
    assert methods(control) == {"GET"}


def test_cluster_info_drift_names_both_directions(control: Control, runner: AnsibleRunner, new_key: str) -> None:
    """A key that the source lacks is extra, and a key that the node lacks is missing."""
    label = f"extra-{runner.name}"
    control.generate_key("node3", label)
    try:
        result = runner.run(once(INFO, {}), hosts=inventory(control, *JOINED)).result
    finally:
        control.delete_key("node3", label)
    assert (result["in_sync"], result["out_of_sync"]) == (False, ["node2", "node3"])
    differences = {host: reading["difference"] for host, reading in result["nodes"].items()}
    assert [key["label"] for key in differences["node2"]["missing"]] == [new_key]
    assert [key["label"] for key in differences["node3"]["extra"]] == [label]


def test_cluster_info_without_keys_reads_no_keys(control: Control, runner: AnsibleRunner) -> None:
    result = runner.run(once(INFO, {"keys": False}), hosts=inventory(control, *JOINED)).result
    assert (result["hsm_keys"], result["unknown_nodes"]) == (None, list(JOINED))
    assert [request for request in control.requests("node1") if request["path"].endswith("/keys")] == []


def test_cluster_info_node_down_is_a_result(control: Control, runner: AnsibleRunner) -> None:
    """A node that does not respond does not stop the reading of the others."""
    result = runner.run(once(INFO, {}), hosts=inventory(control, *JOINED, utrust_port=1)).result
    assert (result["failed"], result["in_sync"], result["unknown_nodes"]) == (False, False, ["node3"])
    assert result["nodes"]["node2"]["in_sync"] is True
    assert result["nodes"]["node3"]["problem"]["code"] == "node_unreachable"


def test_cluster_info_source_down_fails(control: Control, runner: AnsibleRunner) -> None:
    """Without the source nobody can tell which nodes have joined, so no node is contacted."""
    hosts = inventory(control, "node2", "node1", utrust_port=1)
    result = runner.run(once(INFO, {}), hosts=hosts).result
    assert (result["failed"], result["code"]) == (True, "node_unreachable")
    assert control.connections("node2") == 0


def test_cluster_info_node_not_joined_is_not_contacted(control: Control, runner: AnsibleRunner) -> None:
    result = runner.run(once(INFO, {}), hosts=inventory(control, *JOINED, "node4")).result
    assert result["unknown_nodes"] == ["node4"]
    assert result["nodes"]["node4"]["problem"]["code"] == "node_not_joined"
    assert control.connections("node4") == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"hosts": ["node2", "node9"]}, "host_unknown"),
        ({"source": "node9"}, "host_unknown"),
        ({"source": ""}, "source_missing"),
        ({"max_parallel": 0}, "option_invalid"),
        ({"node_timeout": "soon"}, "option_invalid"),
        ({"nodes": [{"inventory_host": "node1"}]}, "option_invalid"),
    ],
    ids=str,
)
def test_cluster_info_option_invalid_reads_nothing(
    control: Control, runner: AnsibleRunner, arguments: Arguments, code: str
) -> None:
    result = runner.run(once(INFO, arguments), hosts=inventory(control, *JOINED)).result
    assert (result["failed"], result["code"]) == (True, code), result
    assert [control.connections(node) for node in JOINED] == [0, 0, 0]


def test_cluster_info_result_has_no_secret(control: Control, runner: AnsibleRunner) -> None:
    """The tokens of the nodes are arguments of the module, but in no result and no output."""
    login = {"utrust_client_cert": None, "utrust_client_key": None, "utrust_bearer_token": control.token}
    hosts = {node: node_variables(control, node, **login) for node in JOINED}
    hosts["node3"]["utrust_node"] = control.token
    ran = runner.run(once(INFO, {}), hosts=hosts, arguments=["-vvvvvv"], env={"ANSIBLE_INJECT_INVOCATION": "true"})
    assert ran.result["nodes"]["node2"]["in_sync"] is True
    assert control.token not in ran.output + json.dumps(ran.results)


@pytest.mark.parametrize("place", ["variable", "environment"])
def test_token_file_of_hosts_is_read(control: Control, runner: AnsibleRunner, tmp_path: Path, place: str) -> None:
    """A credential of AWX sets the environment. A token of a host wins."""
    (tmp_path / "token").write_text(f"{control.token}\n", encoding="ascii")
    login: Arguments = {"utrust_client_cert": None, "utrust_client_key": None, "utrust_source": "node1"}
    if place == "variable":
        login["utrust_bearer_token_file"] = str(tmp_path / "token")
    hosts = {node: node_variables(control, node, **login) for node in JOINED}
    if place == "environment":
        hosts["node3"]["utrust_bearer_token"] = control.token
    ran = runner.run(
        once(INFO, {}),
        once(PREFLIGHT, {}),
        task("utrust_hsm_info", {}),
        hosts=hosts,
        env={"UTRUST_BEARER_TOKEN_FILE": str(tmp_path / "token")} if place == "environment" else {},
        arguments=["-vvvvvv"],
    )
    assert [result.get("msg") for result in ran.results if result["failed"]] == []
    assert (ran.results[0]["nodes"]["node2"]["in_sync"], ran.results[1]["problems"]) == (True, [])
    assert control.token not in ran.output + json.dumps(ran.results)


# utrust_preflight


def test_preflight_without_problems(control: Control, runner: AnsibleRunner) -> None:
    """Blank options are not set."""
    ran = runner.run(
        once(PREFLIGHT, {}),
        once(PREFLIGHT, {**RULE_BLANKS, "operation": "", "cards_available": ""}, check_mode=True),
        hosts=inventory(control, *JOINED),
    )
    for result in ran.results:
        assert (result["failed"], result["problems"], result["members"]) == (False, [], list(JOINED)), result
    assert methods(control) == {"GET"}


def test_preflight_names_all_problems_of_all_nodes(control: Control, runner: AnsibleRunner) -> None:
    """Each problem is one line, and a node that was not read does not hide the others."""
    control.fault("member_disconnected", node="node1", member="node3")
    control.fault("fips", node="node2")
    control.fault("version_skew", node="node2")
    hosts = inventory(control, *JOINED, utrust_port=1)
    result = runner.run(once(PREFLIGHT, {}), hosts=hosts).result
    assert "codes" in result, result
    assert {"member_disconnected", "fips_mode_mismatch", "appliance_version_mismatch", "node_unreachable"} <= {
        *result["codes"]
    }
    assert result["code"] == result["codes"][0]
    for line in result["problems"]:
        assert re.fullmatch(r"node\d: ([a-z_]+: [^\n]+\. Fix: |node_unreachable: )[^\n]+", line)
    assert {line[:5] for line in result["problems"]} >= {"node2", "node3"}
    assert "\n" not in result["msg"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_certificate_days": -1},
        {"max_backup_hours": "yesterday"},
        {"operation": "renew"},
        {"manual_confirmations": [{"subject": "backup", "node": "node2", "confirmed_by": " ", "reason": "seen"}]},
    ],
    ids=str,
)
def test_preflight_option_invalid_is_refused(control: Control, action: AnsibleRunner, arguments: Arguments) -> None:
    result = action.run(once(PREFLIGHT, arguments), hosts=inventory(control, *JOINED)).result
    assert (result["failed"], result["code"]) == (True, "option_invalid"), result
    assert next(iter(arguments)) in result["msg"]


# utrust_sync_plan

ONE_APPROVAL: t.Final = {"approvals_required": 1, "approvers": [Person("Ada").approver()]}


def test_sync_plan_names_what_each_target_lacks(control: Control, runner: AnsibleRunner, new_key: str) -> None:
    """Blank options are not set."""
    blanks = dict.fromkeys(("canary", "batch_size", "dest", "plan", "plan_dest", "requested_by"), "")
    more = dict.fromkeys(("approvals_required", "approvals", "approvers", "extra_keys", "import_effect"), "  ")
    lists = dict.fromkeys(("allowed_extra_keys", "destroyed_keys", "expected_new_keys", "allow_replace"), "")
    ran = runner.run(
        once(PLAN, {"requested_by": "anna"}, check_mode=True),
        once(PLAN, {**RULE_BLANKS, **blanks, **more, **lists, "requested_by": "anna"}),
        hosts=inventory(control, *JOINED),
    )
    first, second = ran.results
    for result in (first, second):
        assert (result["failed"], result["pending"], result["batches"]) == (
            False,
            ["node2", "node3"],
            [["node2"], ["node3"]],
        ), result
        missing = result["targets"]["node3"]["difference"]["missing"]
        assert [key["label"] for key in missing] == [new_key]
    assert first["plan"]["changes"] == second["plan"]["changes"]
    assert methods(control) == {"GET"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"dest": "/nonexistent/x.ksp"}, "directory_missing"),
        ({"dest": "/tmp/x.ksp"}, "directory_not_private"),
        ({"canary": "node1"}, "option_invalid"),
        ({"canary": "node9"}, "option_invalid"),
        ({"batch_size": 0}, "option_invalid"),
        ({"approvals_required": -1}, "option_invalid"),
        ({"expected_new_keys": ["issuing-2027"]}, "option_invalid"),
        ({"approvals_required": 1}, "approvers_missing"),
        (ONE_APPROVAL, "plan_missing"),
        ({"plan_required": "true"}, "plan_missing"),
        ({"plan": "/nonexistent/plan.json"}, "plan_unreadable"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_sync_plan_option_that_a_later_step_uses_fails(
    control: Control, action: AnsibleRunner, arguments: Arguments, code: str
) -> None:
    """An option that only a later step uses is checked before anything is changed."""
    result = action.run(once(PLAN, arguments), hosts=inventory(control, *JOINED)).result
    assert (result["failed"], result["code"]) == (True, code), result


def test_sync_plan_is_written_and_read_again(
    control: Control, runner: AnsibleRunner, tmp_path: Path, new_key: str
) -> None:
    """The plan is written by the controller, also if a bastion reads the nodes. A plan holds until the keys change."""
    path = tmp_path / "plan.json"
    hosts = inventory(control, *JOINED)
    written, read, unapproved = runner.run(
        once(PLAN, {"plan_dest": str(path), "requested_by": "anna"}, check_mode=True),
        once(PLAN, {"plan": str(path)}),
        once(PLAN, {"plan": str(path), **ONE_APPROVAL}),
        hosts=hosts,
    ).results
    assert json.loads(path.read_bytes()) == written["plan"]
    assert (read["plan_digest"], read["failed"]) == (written["plan_digest"], False)
    assert (unapproved["failed"], unapproved["code"]) == (True, "approvals_missing")
    control.generate_key("node1", "one-more")
    try:
        outdated = runner.run(once(PLAN, {"plan": str(path)}), hosts=hosts).result
    finally:
        control.delete_key("node1", "one-more")
    assert (outdated["failed"], outdated["code"]) == (True, "plan_outdated")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda content: content.replace(b'"anna"', b'"anne"'), "plan_digest_mismatch"),
        (lambda content: content.replace(b'"add": []', b'"add": [1]'), "plan_invalid"),
        (lambda content: content + b"\n", "plan_invalid"),
        (lambda content: content[:-2], "plan_invalid"),
        (lambda content: content.replace(b"a", b"\xff", 1), "plan_invalid"),
        (lambda content: content.replace(b"{", b'{"digest": "x",', 1), "plan_invalid"),
        (lambda dummy: b"[" * 100_000, "plan_invalid"),
        (lambda dummy: b"[]\n", "plan_invalid"),
        (lambda dummy: b"{}\n", "plan_invalid"),
        (lambda dummy: b"", "plan_invalid"),
    ],
    ids=["requester", "keys", "line end", "cut", "not text", "digest twice", "deep", "list", "empty plan", "empty"],
)
def test_sync_plan_altered_by_one_byte_is_refused(
    control: Control, action: AnsibleRunner, tmp_path: Path, change: t.Callable[[bytes], bytes], code: str
) -> None:
    hosts = inventory(control, *JOINED)
    path = tmp_path / "plan.json"
    action.run(once(PLAN, {"plan_dest": str(path), "requested_by": "anna"}, check_mode=True), hosts=hosts)
    content = path.read_bytes()
    path.write_bytes(change(content))
    assert path.read_bytes() != content
    result = action.run(once(PLAN, {"plan": str(path)}), hosts=hosts).result
    assert (result["failed"], result["code"]) == (True, code), result["msg"]


# utrust_cluster_summary


def test_cluster_summary_without_import_reports_pending_keys(
    control: Control, runner: AnsibleRunner, new_key: str
) -> None:
    """Nothing was imported, so the planned keys are not there. Check mode predicts this, and reads nothing."""
    planned, predicted, summary = runner.run(
        once(PLAN, {}, register="planned"),
        once(SUMMARY, {"planned": "{{ planned }}"}, check_mode=True),
        once(SUMMARY, {"planned": "{{ planned }}"}),
        hosts=inventory(control, *JOINED),
    ).results
    assert planned["pending"] == ["node2", "node3"]
    assert (predicted["code"], summary["code"]) == ("sync_incomplete", "sync_incomplete"), summary
    for result in (predicted, summary):
        assert {line.split()[0].rstrip(":") for line in result["summary"]} >= {"node2", "node3"}
