# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of AWX 24.6.1 for workflows, their nodes, approval nodes, and roles of teams."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from tests.support.awx_api import Awx, Item

#: Types of objects that a node can start. One AWX has unique ids for all of them.
STARTED = ("job_templates", "projects", "workflow_job_templates", "workflow_approval_templates")
LINKS = ("success_nodes", "failure_nodes", "always_nodes")
#: Roles of an object by its type. The role `approval` is a role of a workflow, and a node has no role.
ROLES: dict[str, tuple[str, ...]] = {
    "teams": ("admin_role", "member_role", "read_role"),
    "job_templates": ("admin_role", "execute_role", "read_role"),
    "workflow_job_templates": ("admin_role", "execute_role", "approval_role", "read_role"),
}
#: Members of an approval template. AWX ignores the other members of a request.
APPROVAL = ("name", "description", "timeout")


def started_by(awx: Awx, number: int | None) -> tuple[str, Item] | None:
    """Return type and object of the template that a node starts."""
    found = [(name, awx.items[name][number]) for name in STARTED if number in awx.items[name]]
    return found[0] if found else None


def check_node(awx: Awx, item: Item) -> dict[str, t.Any]:
    """Return the reasons for which AWX rejects a node."""
    number = item["unified_job_template"]
    started = started_by(awx, number)
    if number is not None and started is None:
        return {"unified_job_template": [f'Invalid pk "{number}" - object does not exist.']}
    if item["job_type"] not in (None, "", "run", "check"):
        return {"job_type": [f'"{item["job_type"]}" is not a valid choice.']}
    if started is None or started[0] != "job_templates":
        return {}
    template = started[1]
    if rejected := check_extra_data(template, item["extra_data"]):
        return rejected
    if item["job_type"] and item["job_type"] != template["job_type"] and not template["ask_job_type_on_launch"]:
        return {"job_type": ["Field is not configured to prompt on launch."]}
    return {}


def check_extra_data(template: Item, variables: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the reasons for which AWX rejects variables of a schedule or of a node."""
    questions = {question["variable"]: question for question in template["_survey"].get("spec", ())}
    for name, value in variables.items():
        if name not in questions and not template["ask_variables_on_launch"]:
            return {"extra_data": [f"Variables {name} are not allowed on launch."]}
        if questions[name]["type"] == "multiplechoice" and value not in questions[name]["choices"]:
            return {"variables_needed_to_start": [f"Value {value} for '{name}' expected to be a choice"]}
    return {}


def check_link(awx: Awx, parent: Item, relation: str, child: Item) -> dict[str, t.Any]:
    """Return the reasons for which AWX rejects a link between two nodes."""
    nodes = awx.items["workflow_job_template_nodes"]
    if parent["workflow_job_template"] != child["workflow_job_template"]:
        return {"msg": "The nodes belong to different workflows."}
    others = [name for name in LINKS if name != relation]
    if any(child["id"] in parent["_related"].get(name, ()) for name in others):
        return {"Error": "Relationship not allowed."}
    seen, left = set(), [child["id"]]
    while left:
        number = left.pop()
        seen.add(number)
        left += [each for name in LINKS for each in nodes[number]["_related"].get(name, ()) if each not in seen]
    return {"Error": "Cycle detected."} if parent["id"] in seen else {}
