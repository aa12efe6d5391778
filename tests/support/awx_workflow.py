# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A workflow of the substitute for AWX, run node by node with real jobs.

Variables of a job are those of AWX 24.6.1 (`WorkflowJobNode.get_job_kwargs`), from weak to strong:
defaults of the survey of the job template, variables of the node, artifacts of earlier jobs, defaults and replies of the survey of the workflow.
"""

from __future__ import annotations

import dataclasses as dc
import json
import typing as t

from tests.support.awx_workflow_rules import started_by

if t.TYPE_CHECKING:
    from tests.support.awx_api import Awx, Item
    from tests.support.awx_job import Controller, JobResult

Decide = t.Callable[[str], bool]


@dc.dataclass
class WorkflowResult:
    """`status` has each node by its identifier: `successful`, `failed` or `not run`. `jobs` has the jobs that ran."""

    status: dict[str, str] = dc.field(default_factory=dict)
    jobs: dict[str, JobResult] = dc.field(default_factory=dict)
    artifacts: dict[str, dict[str, t.Any]] = dc.field(default_factory=dict)


def launch(
    awx: Awx, controller: Controller, name: str, replies: dict[str, t.Any], *, user: str, decide: Decide
) -> WorkflowResult:
    """Launch a workflow and run it to its end. `decide` gets the name of an approval node and returns whether a person approves."""
    workflow = awx.by_name("workflow_job_templates", name)
    variables = survey_values(workflow, replies)
    nodes = {
        node["id"]: node
        for node in awx.items["workflow_job_template_nodes"].values()
        if node["workflow_job_template"] == workflow["id"]
    }
    assert all(set(node["_related"]) <= {"success_nodes"} for node in nodes.values())
    parents = {
        number: [node for node in nodes.values() if number in node["_related"].get("success_nodes", ())]
        for number in nodes
    }
    result = WorkflowResult()
    while len(result.status) < len(nodes):
        node = next(node for node in nodes.values() if _ready(node, parents[node["id"]], result))
        identifier = node["identifier"]
        if not _starts(node, parents[node["id"]], result):
            result.status[identifier] = "not run"
            continue
        handed: dict[str, t.Any] = {}
        for parent in parents[node["id"]]:
            handed |= result.artifacts[parent["identifier"]]
        started = started_by(awx, node["unified_job_template"])
        assert started is not None
        if started[0] == "workflow_job_templates":
            approved = all(map(decide, _approvals(awx, started[1])))
            result.status[identifier] = "successful" if approved else "failed"
        else:
            job = _run(controller, started[1], node, {**handed, **variables}, user)
            result.status[identifier], result.jobs[identifier] = job.status, job
            handed |= job.artifacts
        result.artifacts[identifier] = handed
    return result


def survey_values(template: Item, replies: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the variables of a survey. AWX drops a default that it would reject as a reply, such as a blank number."""
    questions = {question["variable"]: question for question in template["_survey"].get("spec", ())}
    assert set(replies) <= set(questions), "AWX does not accept other variables on launch"
    values = {name: question["default"] for name, question in questions.items() if "default" in question}
    values = {name: value for name, value in values.items() if value != "" or questions[name]["type"] != "integer"}
    return {**values, **replies}


def _ready(node: Item, parents: list[Item], result: WorkflowResult) -> bool:
    return node["identifier"] not in result.status and all(parent["identifier"] in result.status for parent in parents)


def _starts(node: Item, parents: list[Item], result: WorkflowResult) -> bool:
    """Return whether AWX starts a node whose parents are finished."""
    met = [result.status[parent["identifier"]] == "successful" for parent in parents]
    return not parents or (all(met) if node["all_parents_must_converge"] else any(met))


def _approvals(awx: Awx, workflow: Item) -> list[str]:
    """Return the names of the approval nodes of a nested workflow."""
    numbers = [
        node["unified_job_template"]
        for node in awx.items["workflow_job_template_nodes"].values()
        if node["workflow_job_template"] == workflow["id"]
    ]
    assert numbers
    return [awx.items["workflow_approval_templates"][number]["name"] for number in numbers]


def _run(controller: Controller, template: Item, node: Item, given: dict[str, t.Any], user: str) -> JobResult:
    own = json.loads(template["extra_vars"].removeprefix("---") or "{}")
    arguments = ["--check"] if (node["job_type"] or template["job_type"]) == "check" else []
    arguments += ["--diff"] if template["diff_mode"] else []
    variables = {**survey_values(template, {}), **node["extra_data"], **given}
    return controller.run(template["playbook"].removesuffix(".yml"), variables, *arguments, user=user, template=own)
