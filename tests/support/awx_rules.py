# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What AWX 24.6.1 accepts, what it adds to an object, and what it hides, for the objects of awx/setup.yml."""

from __future__ import annotations

import copy
import re
import typing as t

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.support.awx_workflow_rules import check_extra_data, check_node

if t.TYPE_CHECKING:
    from tests.support.awx_api import Awx, Item

ENCRYPTED = "$encrypted$"


class RejectedError(Exception):
    """A request that AWX rejects. The argument is the content of the response."""

    status = 400


class DeniedError(RejectedError):
    status = 403


class Resource(t.NamedTuple):
    """Type, required members, other members with their defaults, members that hold an id, and the members that identify an object."""

    kind: str
    required: tuple[str, ...]
    defaults: dict[str, t.Any]
    ids: dict[str, str]
    identity: tuple[str, ...] = ("name",)
    #: The member with the name.
    label: str = "name"
    #: Members that AWX ignores in a request.
    ignored: tuple[str, ...] = ()


_ORGANIZATION = {"organization": "organizations"}
_ASK = ("job_type", "limit", "variables", "diff_mode", "credential", "inventory", "tags", "verbosity", "scm_branch")
RESOURCES: dict[str, Resource] = {
    "organizations": Resource("organization", (), {"max_hosts": 0}, {}),
    "execution_environments": Resource(
        "execution_environment",
        ("image",),
        {"organization": None, "credential": None, "pull": ""},
        {**_ORGANIZATION, "credential": "credentials"},
    ),
    "instance_groups": Resource("instance_group", (), {"is_container_group": False, "pod_spec_override": ""}, {}),
    "projects": Resource(
        "project",
        ("organization",),
        {"scm_type": "", "scm_url": "", "scm_branch": "", "credential": None, "default_environment": None}
        | {"scm_revision": "", "local_path": ""},
        {**_ORGANIZATION, "credential": "credentials", "default_environment": "execution_environments"},
        ("name", "organization"),
    ),
    "inventories": Resource(
        "inventory",
        ("organization",),
        {"variables": "", "kind": "", "host_filter": None},
        _ORGANIZATION,
        ("name", "organization"),
    ),
    "hosts": Resource(
        "host",
        ("inventory",),
        {"variables": "", "enabled": True},
        {"inventory": "inventories"},
        ("name", "inventory"),
    ),
    "groups": Resource("group", ("inventory",), {"variables": ""}, {"inventory": "inventories"}, ("name", "inventory")),
    "credential_types": Resource("credential_type", ("kind",), {"inputs": {}, "injectors": {}, "managed": False}, {}),
    "credentials": Resource(
        "credential",
        ("credential_type",),
        {"organization": None, "inputs": {}},
        {**_ORGANIZATION, "credential_type": "credential_types"},
        ("name", "organization", "credential_type"),
    ),
    "notification_templates": Resource(
        "notification_template",
        ("organization", "notification_type", "notification_configuration"),
        {"messages": None},
        _ORGANIZATION,
        ("name", "organization"),
    ),
    "job_templates": Resource(
        "job_template",
        ("project", "playbook"),
        {"organization": None, "inventory": None, "execution_environment": None, "job_type": "run", "extra_vars": "---"}
        | {"diff_mode": False, "allow_simultaneous": False, "job_slice_count": 1, "survey_enabled": False}
        | {"prevent_instance_group_fallback": False}
        | {f"ask_{name}_on_launch": False for name in _ASK},
        {**_ORGANIZATION, "inventory": "inventories", "project": "projects"}
        | {"execution_environment": "execution_environments"},
        ("name", "organization"),
    ),
    "schedules": Resource(
        "schedule",
        ("rrule", "unified_job_template"),
        {"extra_data": {}, "enabled": True},
        {"unified_job_template": "job_templates"},
        ("name", "unified_job_template"),
    ),
    "teams": Resource("team", ("organization",), {}, _ORGANIZATION, ("name", "organization")),
    "workflow_job_templates": Resource(
        "workflow_job_template",
        (),
        {"organization": None, "extra_vars": "", "allow_simultaneous": False, "survey_enabled": False}
        | {f"ask_{name}_on_launch": False for name in ("inventory", "limit", "variables", "scm_branch", "tags")},
        _ORGANIZATION,
        ("name", "organization"),
    ),
    "workflow_job_template_nodes": Resource(
        "workflow_job_template_node",
        ("workflow_job_template",),
        {"unified_job_template": None, "job_type": None, "all_parents_must_converge": False, "extra_data": {}},
        {"workflow_job_template": "workflow_job_templates"},
        ("identifier", "workflow_job_template"),
        label="identifier",
        ignored=("type",),
    ),
    "workflow_approval_templates": Resource(
        "workflow_approval_template", (), {"timeout": 0}, {}, ("id",), ignored=("identifier", "workflow_job_template")
    ),
}


def validated(awx: Awx, resource: str, data: Item, before: Item | None) -> Item:
    """Return the content as AWX stores it. Raises RejectedError."""
    if resource == "survey_specs":
        return _survey(data)
    rules = RESOURCES[resource]
    given = {name: value for name, value in data.items() if value is not None and name not in rules.ignored}
    missing = [name for name in (rules.label, *rules.required) if given.get(name) in (None, "")]
    if missing:
        raise RejectedError({name: ["This field is required."] for name in missing})
    known = {"id", rules.label, "description", "_related", "_survey", *rules.required, *rules.defaults}
    if set(given) - known:
        raise RejectedError(
            {name: ["The API simulator does not have this field."] for name in sorted(set(given) - known)}
        )
    item = {"description": "", **copy.deepcopy(rules.defaults), **copy.deepcopy(given)}
    for name, other in rules.ids.items():
        if item[name] is not None and item[name] not in awx.items[other]:
            raise RejectedError({name: [f'Invalid pk "{item[name]}" - object does not exist.']})
    for other_item in awx.items[resource].values():
        if other_item is not before and all(other_item.get(name) == item.get(name) for name in rules.identity):
            raise RejectedError({"__all__": [f"{rules.kind} with this {' and '.join(rules.identity)} already exists."]})
    check = _CHECKS.get(resource)
    if check is not None:
        check(awx, item, before)
    return item


def shown(resource: str, item: Item) -> Item:
    """Return the content of an object as AWX shows it: without secrets."""
    if resource == "notification_templates":
        configuration = dict(item["notification_configuration"])
        if configuration.get("password"):
            configuration["password"] = ENCRYPTED
        return {**item, "notification_configuration": configuration}
    if resource == "credentials":
        return {**item, "inputs": dict.fromkeys(item["inputs"], ENCRYPTED)}
    return item


def _project(dummy_awx: Awx, item: Item, dummy_before: Item | None) -> None:
    if item["scm_type"] == "git" and not item["scm_url"]:
        raise RejectedError({"scm_url": ["SCM URL is required."]})


def _credential_type(awx: Awx, item: Item, before: Item | None) -> None:
    if item["kind"] not in ("cloud", "net"):
        raise RejectedError({"kind": [f"Must be 'cloud' or 'net', not {item['kind']}"]})
    fields = item["inputs"].get("fields", [])
    for field in fields:
        if set(field) - {"id", "label", "type", "format", "choices", "help_text", "multiline", "secret", "default"}:
            raise RejectedError({"inputs": ["Additional properties are not allowed"]})
        field.setdefault("type", "string")
    in_use = before and any(other["credential_type"] == before["id"] for other in awx.items["credentials"].values())
    if before and in_use and before["inputs"] != item["inputs"]:
        raise DeniedError({"detail": "Modifications to inputs are not allowed for credential types that are in use"})
    names = {field["id"]: "EXAMPLE" for field in fields}
    files = {name.partition(".")[2]: "EXAMPLE_FILENAME" for name in item["injectors"].get("file", {})}
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    for kind, injector in item["injectors"].items():
        for name, template in injector.items():
            if kind == "env" and name.startswith("ANSIBLE_"):
                raise RejectedError({"injectors": [f"Environment variable {name} may affect Ansible configuration"]})
            try:
                environment.from_string(template).render(**names, tower={"filename": files})
            except jinja2.UndefinedError as exc:
                raise RejectedError({"injectors": [f"{name} uses an undefined field ({exc})"]}) from exc


#: Members of the configuration of a webhook, with their defaults. A member without a default is required.
_WEBHOOK: dict[str, t.Any] = {"http_method": "POST", "disable_ssl_verification": False, "username": "", "password": ""}


def _notification(dummy_awx: Awx, item: Item, dummy_before: Item | None) -> None:
    configuration = item["notification_configuration"]
    missing = [name for name in ("url", "headers") if name not in configuration]
    if item["notification_type"] != "webhook" or missing:
        raise RejectedError({"notification_configuration": [f"Missing required fields for Notification: {missing}."]})
    item["notification_configuration"] = {**_WEBHOOK, **configuration}


def _job_template(awx: Awx, item: Item, dummy_before: Item | None) -> None:
    if item["playbook"] not in awx.playbooks:
        raise RejectedError({"playbook": ["Playbook not found for project."]})
    if item["job_type"] not in ("run", "check"):
        raise RejectedError({"job_type": [f'"{item["job_type"]}" is not a valid choice.']})


def _schedule(awx: Awx, item: Item, dummy_before: Item | None) -> None:
    rule = item["rrule"]
    if len(re.findall(r"DTSTART(?:;[^:]+)?:[0-9]+T[0-9]+Z?", rule)) != 1 or "RRULE:" not in rule:
        raise RejectedError({"rrule": ["Valid DTSTART required in rrule."]})
    if "INTERVAL" not in rule or "SECONDLY" in rule:
        raise RejectedError({"rrule": ["INTERVAL required in rrule"]})
    template = awx.items["job_templates"][item["unified_job_template"]]
    rejected = check_extra_data(template, item["extra_data"])
    if rejected:
        raise RejectedError(rejected)
    questions = {question["variable"]: question for question in template["_survey"].get("spec", ())}
    for name, question in questions.items():
        if question["required"] and name not in item["extra_data"] and question.get("default") in (None, ""):
            raise RejectedError({"variables_needed_to_start": [f"'{name}' value missing"]})


def _node(awx: Awx, item: Item, dummy_before: Item | None) -> None:
    found = check_node(awx, item)
    if found:
        raise RejectedError(found)


_CHECKS: dict[str, t.Callable[[Awx, Item, Item | None], None]] = {
    "projects": _project,
    "credential_types": _credential_type,
    "notification_templates": _notification,
    "job_templates": _job_template,
    "schedules": _schedule,
    "workflow_job_template_nodes": _node,
}

_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("text", "textarea", "password", "multiplechoice"), (str,)),
    "multiselect": (str, list),
    "integer": (int,),
    "float": (int, float),
}


def _survey(data: Item) -> Item:
    """Return a survey as AWX stores it. Raises RejectedError."""
    for name, kind in (("name", str), ("description", str), ("spec", list)):
        if not isinstance(data.get(name), kind):
            raise RejectedError({"error": f"Field '{name}' is missing from survey spec."})
    if not data["spec"]:
        raise RejectedError({"error": "'spec' doesn't contain any items."})
    seen: set[str] = set()
    for number, question in enumerate(data["spec"]):
        given = [isinstance(question.get(name), str) for name in ("type", "question_name", "variable")]
        if not all(given) or not isinstance(question.get("required"), bool):
            raise RejectedError({"error": f"'type', 'variable' or 'required' missing from survey question {number}"})
        if question["variable"] in seen:
            raise RejectedError(
                {"error": f"'variable' '{question['variable']}' duplicated in survey question {number}."}
            )
        seen.add(question["variable"])
        _question(number, question)
    return data


def _question(number: int, question: Item) -> None:
    kind, default = question["type"], question.get("default", "")
    if kind not in _TYPES:
        raise RejectedError(
            {"error": f"'{kind}' in survey question {number} is not one of the allowed question types."}
        )
    if default != "" and (not isinstance(default, _TYPES[kind]) or isinstance(default, bool)):
        raise RejectedError({"error": f"Default value {default} in survey question {number} expected to be {kind}."})
    for limit in ("min", "max"):
        if not isinstance(question.get(limit, 0), int):
            raise RejectedError({"error": f"The {limit} limit in survey question {number} expected to be integer."})
    if kind in ("multiselect", "multiplechoice"):
        if "choices" not in question:
            raise RejectedError({"error": f"Survey question {number} of type {kind} must specify choices."})
        if default != "" and default not in question["choices"]:
            raise RejectedError({"error": "Default choice must be answered from the choices listed."})
