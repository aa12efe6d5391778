# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The workflow with approval nodes: created by awx/setup.yml, then run node by node with real jobs against simulated nodes."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.awx.conftest import APPROVAL_TEAMS as TEAMS
from tests.support.awx_job import Controller
from tests.support.awx_rules import RejectedError
from tests.support.awx_workflow import launch
from tests.support.playbook import changing_methods, inventories

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.awx.conftest import Setup
    from tests.support.awx_api import Awx

WORKFLOW = "Berlin key_sync with approvals"
APPROVALS = [f"Berlin key_sync approval of {team}: approve the plan" for team in TEAMS]
#: Where a node leads to, and its job type.
GRAPH = {
    "plan": (TEAMS, "check"),
    **dict.fromkeys(TEAMS, (["apply"], None)),
    "apply": (["report"], "run"),
    "report": ([], None),
}


class Site(t.NamedTuple):
    setup: Setup
    page: Path

    @property
    def awx(self) -> Awx:
        return self.setup.awx

    def run(self, **changes: t.Any) -> str:
        done = self.setup.run(site_report_page=str(self.page), site_approval_teams=TEAMS, **changes)
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def site(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return a site whose report is in a folder of this test."""
    site = Site(setup, tmp_path_factory.mktemp("volume") / "report.html")
    site.run()
    return site


@pytest.fixture
def control() -> Iterator[Control]:
    """Three nodes, and a key on node1 that both targets lack."""
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}) as control:
        control.generate_key("node1", "plannedKey")
        yield control


def graph(awx: Awx) -> dict[str, tuple[list[str], str | None]]:
    number = awx.by_name("workflow_job_templates", WORKFLOW)["id"]
    kind = "workflow_job_template_nodes"
    nodes = [node for node in awx.items[kind].values() if node["workflow_job_template"] == number]
    return {
        node["identifier"]: (sorted(awx.associated(kind, node["identifier"], "success_nodes")), node["job_type"])
        for node in nodes
    }


def test_workflow_has_an_approval_of_each_team(site: Site) -> None:
    awx = site.awx
    assert graph(awx) == GRAPH
    assert awx.by_name("workflow_job_template_nodes", "apply")["all_parents_must_converge"]
    assert sorted(awx.names("workflow_approval_templates")) == APPROVALS
    for workflow in awx.items["workflow_job_templates"].values():
        assert (workflow["ask_variables_on_launch"], workflow["ask_limit_on_launch"]) == (False, False)
        assert "not dual control against administrators of AWX" in workflow["description"]


def test_workflow_asks_what_key_sync_asks(site: Site) -> None:
    """A reply would replace the plan that the first job hands over, and nobody can sign a plan that does not exist yet."""
    asked = site.awx.by_name("workflow_job_templates", WORKFLOW)["_survey"]["spec"]
    template = site.awx.by_name("job_templates", "Berlin key_sync")["_survey"]["spec"]
    omitted = [question for question in template if question not in asked]
    assert [question["variable"] for question in omitted] == [
        "key_sync_plan_base64",
        "key_sync_plan_required",
        "key_sync_approvals_base64",
    ]
    assert asked == [question for question in template if question not in omitted]


def test_workflow_applies_the_approved_plan(site: Site, control: Control, tmp_path: Path) -> None:
    seen = []

    def decide(name: str) -> bool:
        seen.append(name)
        assert changing_methods(control) == set()
        return True

    replies = {"utrust_change_reference": "CHG-7", "key_sync_canary": "node3", "key_sync_batch_size": 1}
    done = launch(site.awx, Controller(control, tmp_path), WORKFLOW, replies, user="dora", decide=decide)
    assert done.status == dict.fromkeys(GRAPH, "successful"), [job.output for job in done.jobs.values()]
    assert sorted(seen) == APPROVALS
    digest = done.jobs["plan"].artifacts["key_sync_plan_digest"]
    assert digest in done.jobs["plan"].output
    assert digest in done.jobs["apply"].output
    assert "order: node3, then node2" in done.jobs["plan"].output
    assert done.jobs["apply"].changed == 2
    assert len(set(inventories(control).values())) == 1
    assert "plannedKey" in site.page.read_text(encoding="utf-8")


@pytest.mark.parametrize("denied", APPROVALS)
def test_workflow_without_an_approval_changes_nothing(
    site: Site, control: Control, tmp_path: Path, denied: str
) -> None:
    controller = Controller(control, tmp_path)
    done = launch(site.awx, controller, WORKFLOW, {}, user="dora", decide=lambda name: name != denied)
    assert [done.status[name] for name in ("plan", "apply", "report")] == ["successful", "not run", "not run"]
    assert sorted(done.status[team] for team in TEAMS) == ["failed", "successful"]
    assert changing_methods(control) == set()


@pytest.mark.parametrize("change", ["another_key", "other_keys_on_a_target"])
def test_workflow_of_a_changed_cluster_changes_nothing(
    site: Site, control: Control, tmp_path: Path, change: str
) -> None:
    """The cluster changes while the teams read the plan."""

    def decide(name: str) -> bool:
        if name == APPROVALS[0] and change == "another_key":
            control.generate_key("node1", "laterKey")
        elif name == APPROVALS[0]:
            control.delete_key("node3", control.keys("node3")[0]["label"])
        return True

    done = launch(site.awx, Controller(control, tmp_path), WORKFLOW, {}, user="dora", decide=decide)
    assert [done.status[name] for name in ("plan", "apply", "report")] == ["successful", "failed", "not run"]
    assert "plan_outdated" in done.jobs["apply"].text
    assert changing_methods(control) == set()


def test_workflow_without_the_plan_changes_nothing(site: Site, control: Control, tmp_path: Path) -> None:
    """Somebody has disconnected the job that makes the plan, so `apply` gets no plan."""
    plan = site.awx.by_name("workflow_job_template_nodes", "plan")
    links, plan["_related"]["success_nodes"] = plan["_related"]["success_nodes"], []
    done = launch(site.awx, Controller(control, tmp_path), WORKFLOW, {}, user="dora", decide=lambda name: True)
    plan["_related"]["success_nodes"] = links
    assert [done.status[name] for name in ("plan", "apply", "report")] == ["successful", "failed", "not run"]
    assert "plan_missing" in done.jobs["apply"].text
    assert changing_methods(control) == set()


def test_changed_workflow_is_updated(site: Site) -> None:
    """Somebody has changed the workflow in AWX, and a team has lost its role."""
    awx = site.awx
    plan = awx.by_name("workflow_job_template_nodes", "plan")
    apply = awx.by_name("workflow_job_template_nodes", "apply")
    plan["_related"]["success_nodes"] = [apply["id"]]
    apply |= {"job_type": "check", "all_parents_must_converge": False}
    awx.by_name("workflow_job_templates", WORKFLOW)["ask_variables_on_launch"] = True
    awx.by_name("workflow_approval_templates", APPROVALS[0])["timeout"] = 1
    awx.granted = {role: [] for role in awx.granted}
    roles = {team: awx.roles_of(team) for team in TEAMS}
    assert set(map(len, roles.values())) == {0}
    site.run()
    assert graph(awx) == GRAPH
    assert apply["all_parents_must_converge"]
    assert not awx.by_name("workflow_job_templates", WORKFLOW)["ask_variables_on_launch"]
    assert awx.by_name("workflow_approval_templates", APPROVALS[0])["timeout"] == 172800
    assert [len(awx.roles_of(team)) for team in TEAMS] == [11, 11]


@pytest.mark.parametrize(
    ("node", "relation", "child"),
    [("report", "success_nodes", "plan"), ("plan", "failure_nodes", TEAMS[0]), ("plan", "success_nodes", "approve")],
    ids=["cycle", "two_links", "another_workflow"],
)
def test_link_that_awx_rejects_is_rejected(site: Site, node: str, relation: str, child: str) -> None:
    """The substitute for AWX has the rules of AWX."""
    awx, kind = site.awx, "workflow_job_template_nodes"
    numbers = {item["identifier"]: number for number, item in awx.items[kind].items()}
    with pytest.raises(RejectedError):
        awx.handle("POST", f"/api/v2/{kind}/{numbers[node]}/{relation}/", {}, {"id": numbers[child]})


def test_job_type_needs_a_prompt_of_the_template(site: Site) -> None:
    """Without the prompt, AWX rejects the node. Otherwise the node `apply` would only be a preview."""
    template = site.awx.by_name("job_templates", "Berlin key_sync")
    number = site.awx.by_name("workflow_job_template_nodes", "apply")["id"]
    template["ask_job_type_on_launch"] = False
    with pytest.raises(RejectedError, match="not configured to prompt"):
        site.awx.handle("PATCH", f"/api/v2/workflow_job_template_nodes/{number}/", {}, {"job_type": "run"})
