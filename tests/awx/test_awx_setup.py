# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run awx/setup.yml with the real modules: the first run creates all objects, and a second run changes nothing. The tests run in this order."""

from __future__ import annotations

import copy
import json
import typing as t

import pytest
import yaml

from tests.awx.conftest import APPROVAL_TEAMS, ROOT

if t.TYPE_CHECKING:
    from tests.awx.conftest import Setup

TEMPLATES = [
    "Berlin cancel_restore",
    "Berlin initial_sync",
    "Berlin key_sync",
    "Berlin preflight",
    "Berlin readiness",
    "Berlin renew_ca",
    "Berlin report",
    "Berlin status",
    "Berlin verify_audit",
]


#: Objects besides the surveys that name the source.
OTHERS = [("inventories", "Berlin appliances"), ("schedules", "Berlin status")]


def site() -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", yaml.safe_load((ROOT / "awx/site.yml").read_text(encoding="utf-8")))


#: Numbers of the objects that the setup creates for the example, and of those for a list of approval teams.
EXAMPLE = {
    "organizations": 1,
    "execution_environments": 1,
    "projects": 1,
    "inventories": 1,
    "hosts": 3,
    "groups": 1,
    "credential_types": 4,
    "credentials": 3,
    "notification_templates": 1,
    "job_templates": 9,
    "schedules": 1,
    "teams": 4,
}
WORKFLOW = {"workflow_job_templates": 3, "workflow_job_template_nodes": 7, "workflow_approval_templates": 2}
#: What the setup shows at its end.
NEXT = ("- Berlin appliance operator\n", "- Berlin auditors\n", "launch this template: Berlin status\n")


@pytest.mark.parametrize(
    ("changes", "created"),
    [({"site_approval_teams": []}, EXAMPLE), ({"site_approval_teams": APPROVAL_TEAMS}, WORKFLOW)],
    ids=["no_approval_team", "approval_teams"],
)
def test_first_run_creates_and_second_run_changes_nothing(
    setup: Setup, changes: dict[str, t.Any], created: dict[str, int]
) -> None:
    assert site()["site_approval_teams"] == []
    before = {name: len(items) for name, items in setup.awx.items.items()}
    done = setup.run(**changes)
    assert done.returncode == 0, done.stdout
    assert [part for part in NEXT if part not in done.stdout[done.stdout.index("Show what people do next") :]] == []
    added = {name: len(items) - before[name] for name, items in setup.awx.items.items()}
    assert {name: number for name, number in added.items() if number} == created
    setup.awx.requests.clear()
    done = setup.run(**changes)
    assert done.returncode == 0, done.stdout
    assert setup.awx.requests == []


def test_setup_creates_the_objects_of_the_site(setup: Setup) -> None:
    awx = setup.awx
    assert sorted(awx.names("job_templates")) == TEMPLATES
    assert awx.associated("groups", "utrust", "hosts") == ["node1", "node2", "node3"]
    for name, item in site()["site_nodes"].items():
        assert json.loads(awx.by_name("hosts", name)["variables"]) == item
    assert json.loads(awx.by_name("inventories", "Berlin appliances")["variables"]) == {"utrust_source": "node1"}


def test_templates_have_credentials_and_prompts(setup: Setup) -> None:
    awx = setup.awx
    for name in TEMPLATES:
        template, expected = awx.by_name("job_templates", name), ["Berlin appliance operator"]
        if name in ("Berlin status", "Berlin report", "Berlin key_sync", "Berlin readiness"):
            expected = [*expected, "Berlin EJBCA reader"]
        if name == "Berlin renew_ca":
            expected = [*expected, "Berlin EJBCA reader", "Berlin EJBCA operator"]
            assert json.loads(template["extra_vars"]) == {"renew_ca_switch_tasks": "/runner/project/switch_ca.yml"}
        if name == "Berlin verify_audit":
            expected = []
        assert awx.associated("job_templates", name, "credentials") == expected, name
        # One job a cluster: two jobs at once and slices of a job would change the cluster twice.
        facts = ("survey_enabled", "ask_variables_on_launch", "allow_simultaneous", "job_slice_count")
        assert [template[fact] for fact in facts] == [True, False, False, 1], name
    groups = [awx.associated("job_templates", name, "instance_groups") for name in TEMPLATES]
    assert groups == [[]] * len(TEMPLATES)
    assert not any(awx.by_name("job_templates", name)["prevent_instance_group_fallback"] for name in TEMPLATES)
    dry = {name for name in TEMPLATES if awx.by_name("job_templates", name)["job_type"] == "check"}
    assert dry == {"Berlin key_sync", "Berlin initial_sync", "Berlin renew_ca"}
    assert all(awx.by_name("job_templates", name)["ask_job_type_on_launch"] for name in dry)


def test_schedule_fails_and_notifies_on_drift(setup: Setup) -> None:
    awx = setup.awx
    schedule = awx.by_name("schedules", "Berlin status")
    assert schedule["extra_data"] == {"key_status_source": "node1", "key_status_fail_on_drift": "true"}
    assert schedule["unified_job_template"] == awx.by_name("job_templates", "Berlin status")["id"]
    notified = {name: awx.associated("job_templates", name, "notification_templates_error") for name in TEMPLATES}
    assert {name: found for name, found in notified.items() if found} == {"Berlin status": ["Berlin drift"]}


def test_teams_have_their_role_for_each_template(setup: Setup) -> None:
    """An approver reads the output of the jobs, and approves only in the workflow of the own team."""
    every = [*TEMPLATES, "Berlin key_sync with approvals"]
    roles = {team: setup.awx.roles_of(team) for team in setup.awx.names("teams")}
    read = {(name, "read_role") for name in every}
    approval = "Berlin key_sync approval of Berlin approvers"
    assert roles == {
        "Berlin operators": {(name, "execute_role") for name in every},
        "Berlin approvers 1": read | {(f"{approval} 1", "approval_role")},
        "Berlin approvers 2": read | {(f"{approval} 2", "approval_role")},
        "Berlin auditors": read,
    }


def test_setup_has_no_secret(setup: Setup) -> None:
    """People enter the secrets in AWX."""
    assert [item["inputs"] for item in setup.awx.items["credentials"].values()] == [{}, {}, {}]


def test_credential_types_inject_secrets_only_as_files(setup: Setup) -> None:
    for item in setup.awx.items["credential_types"].values():
        secrets = [field["id"] for field in item["inputs"]["fields"] if field.get("secret")]
        assert secrets
        others = {name: found for name, found in item["injectors"].items() if name != "file"}
        assert [name for name in secrets if f"{{{{ {name} }}}}" in json.dumps(others)] == [], item["name"]
        values = [value for found in others.values() for value in found.values()]
        assert {value.partition(".")[0] for value in values} == {"{{ tower"}, item["name"]


def test_second_run_changes_nothing(setup: Setup) -> None:
    """Secrets that people have entered since then stay."""
    setup.awx.by_name("credentials", "Berlin appliance operator")["inputs"] = {
        "client_key": "a key",
        "client_cert": "x",
    }
    before = copy.deepcopy(setup.awx.items)
    setup.awx.requests.clear()
    done = setup.run(site_approval_teams=APPROVAL_TEAMS)
    assert done.returncode == 0, done.stdout
    assert "changed=0 " in done.stdout
    assert setup.awx.requests == []
    assert setup.awx.items == before


def test_changed_survey_is_updated(setup: Setup) -> None:
    """Another source in the data, and a question that somebody has removed in AWX."""
    awx = setup.awx
    del awx.by_name("job_templates", "Berlin cancel_restore")["_survey"]["spec"][0]["max"]
    awx.requests.clear()
    done = setup.run(site_variables={"utrust_source": "node2"}, site_approval_teams=APPROVAL_TEAMS)
    assert done.returncode == 0, done.stdout
    numbers = {name: awx.by_name("job_templates", name)["id"] for name in TEMPLATES}
    changed = [name for name in TEMPLATES if name != "Berlin verify_audit"]
    surveys = {("POST", f"/api/v2/job_templates/{numbers[name]}/survey_spec/") for name in changed}
    workflow = awx.by_name("workflow_job_templates", "Berlin key_sync with approvals")
    surveys.add(("POST", f"/api/v2/workflow_job_templates/{workflow['id']}/survey_spec/"))
    others = {("PATCH", f"/api/v2/{kind}/{awx.by_name(kind, name)['id']}/") for kind, name in OTHERS}
    assert set(awx.requests) == surveys | others
    questions = awx.by_name("job_templates", "Berlin key_sync")["_survey"]["spec"]
    assert {question["variable"]: question.get("default") for question in questions}["key_sync_source"] == "node2"
    assert awx.by_name("job_templates", "Berlin cancel_restore")["_survey"]["spec"][0]["max"] == 100


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["pods", "berlin"], ["berlin", "pods"]), ([], ["berlin", "pods"]), (["pods"], ["pods"])],
    ids=["two", "none_again", "one"],
)
def test_jobs_run_only_in_the_groups_of_the_site(setup: Setup, given: list[str], expected: list[str]) -> None:
    """With an empty list, the groups that a template has already stay."""
    awx = setup.awx
    for name in {"berlin", "pods"} - set(awx.names("instance_groups")):
        awx.handle("POST", "/api/v2/instance_groups/", {}, {"name": name, "is_container_group": name == "pods"})
    done = setup.run(site_instance_groups=given)
    assert done.returncode == 0, done.stdout
    for name in TEMPLATES:
        assert sorted(awx.associated("job_templates", name, "instance_groups")) == expected, name
        assert awx.by_name("job_templates", name)["prevent_instance_group_fallback"], name


#: A small site of its own: one cluster of two nodes, without EJBCA, notifications, teams and workflow.
HAMBURG: dict[str, t.Any] = {
    "site_name": "Hamburg",
    "site_inventory": "Hamburg appliances",
    "site_variables": {"utrust_source": "node1"},
    "site_nodes": {"node1": {"utrust_host": "hh1.example.com"}, "node2": {"utrust_host": "hh2.example.com"}},
    "site_credentials": [{"name": "Hamburg token", "type": "u.trust bearer token"}],
    "site_node_credentials": ["Hamburg token"],
    "site_view_credentials": ["Hamburg token"],
    "site_ejbca_credentials": [],
    "site_drift_notifications": {},
    "site_teams": [],
    "site_approval_teams": [],
}


def test_second_site_leaves_the_first_site_unchanged(setup: Setup) -> None:
    """Both sites have hosts of the same names in the same organization."""
    awx = setup.awx
    before = {kind: copy.deepcopy(items) for kind, items in awx.items.items()}
    awx.requests.clear()
    done = setup.run(**HAMBURG)
    assert done.returncode == 0, done.stdout
    for kind, items in before.items():
        assert {number: awx.items[kind][number] for number in items} == items, kind
    added = {kind: len(awx.items[kind]) - len(items) for kind, items in before.items()}
    expected = {"inventories": 1, "hosts": 2, "groups": 1, "credentials": 1, "job_templates": 9, "schedules": 1}
    assert {kind: number for kind, number in added.items() if number} == expected
    assert awx.associated("job_templates", "Hamburg key_sync", "credentials") == ["Hamburg token"]
    assert awx.associated("job_templates", "Hamburg renew_ca", "credentials") == []
    assert {method for method, dummy in awx.requests} == {"POST"}
