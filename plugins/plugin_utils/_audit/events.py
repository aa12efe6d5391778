# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of audit records: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import datetime
import re
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.allow_list import (
    CONFIRMED_STEP,
    DECLARED,
    DESTROYED_KEY,
    MAX_LENGTH,
    RESULT,
    SIGNATURE_TEST,
    WEAKER_VALUE,
    allowed,
)

#: Names of variables that AWX passes to a job, without the prefix `awx_`. Older versions use the prefix `tower_`.
CONTROLLER: t.Final = ("job_id", "job_template_name", "workflow_job_id", "project_revision", "inventory_name")

EVENTS: t.Final = {
    "utrust_cluster_info": "cluster_read",
    "utrust_preflight": "cluster_checked",
    "utrust_readiness": "readiness_checked",
    "utrust_sync_plan": "sync_planned",
    "utrust_cluster_summary": "cluster_verified",
    "utrust_view_verdict": "ejbca_views_verified",
    "utrust_member_health": "members_checked",
    "utrust_node_traffic": "node_drained",
    "utrust_gate_plan": "gate_planned",
    "utrust_gate_verdict": "gate_evaluated",
    "utrust_key_report": "report_written",
    "utrust_cluster_claim": "cluster_claimed",
    "utrust_hsm_info": "node_read",
    "utrust_hsm_restore": "hsm_restored",
    "utrust_ksp_export": "package_exported",
    "utrust_ksp_import": "keys_imported",
    "utrust_key_proof": "keys_verified",
    "ejbca_key": "key_generated",
    "ejbca_ca_info": "cas_read",
    "ejbca_key_info": "ejbca_view_read",
}
#: A boolean is also an integer, so the order matters.
_TYPES: t.Final = ((bool, "boolean"), (int, "integer"), (float, "float"), (datetime.date, "date"))
NAMESPACE: t.Final = "keyops.utrust."
SUFFIX: t.Final = "__audit"

Record = dict[str, t.Any]


def event_name(module: str, state: t.Any, result: t.Mapping[str, t.Any], *, check_mode: bool) -> str:
    """The name of the event of a module result.

    The option `state` of the task decides where it can, because a failed or hidden result has no content.
    Otherwise a result without content counts as an export, because a copy of the keys may exist.
    """
    if check_mode and not module.endswith("_info"):
        return "check_mode_result"
    removed = "removed" in result if state not in ("present", "absent") else state == "absent"
    if module == "utrust_ksp_export" and removed:
        removed_package = result.get("removed")
        elsewhere = isinstance(removed_package, dict) and removed_package.get("elsewhere")
        return "manifest_removed" if elsewhere else "package_removed"
    if module == "utrust_node_traffic":
        return "node_drained" if state == "drained" else "node_undrained"
    if module == "ejbca_key" and "ceremony_reference" in result:
        return "ceremony_key_checked"
    return EVENTS.get(module, module)


def is_hidden(task: Record, result: t.Mapping[str, t.Any]) -> bool:
    """Whether no_log hides a result of this collection, so that its record has no content."""
    return bool(result.get("censored")) and str(task["action"]).startswith(NAMESPACE)


def task_events(task: Record, result: t.Mapping[str, t.Any], state: t.Any = None) -> t.Iterator[tuple[str, Record]]:
    """The events of a task result. `task` has `host`, `action`, `outcome` and `check_mode`, and `state` is the option of the task."""
    failed = task["outcome"] in ("failed", "unreachable")
    if result.get("censored"):
        task = {**task, "censored": True}
    if failed:
        task = {**task, "codes": error_codes(result)}
    if task["action"].startswith(NAMESPACE):
        module = task["action"].rpartition(".")[2]
        event = event_name(module, state, result, check_mode=task["check_mode"])
        yield event, {**task, "result": allowed(_with_hosts(result), RESULT)}
        for confirmation in result.get("confirmations") or ():
            yield "step_confirmed", {**task, "result": allowed(confirmation, CONFIRMED_STEP)}
        # EJBCA has no record of a test signature, so each of them has its own.
        for test in result.get("signature_tests") or ():
            yield "signature_tested", {**task, "result": allowed(test, SIGNATURE_TEST)}
        for value in result.get("weaker_values") or ():
            yield "weaker_value", {**task, "result": allowed(value, WEAKER_VALUE)}
        for key in result.get("destroyed") or ():
            yield "key_destroyed", {**task, "result": allowed(key, DESTROYED_KEY)}
    elif failed:
        yield "task_failed", task
        return
    elif task["action"] not in ("ansible.builtin.set_fact", "set_fact"):
        return
    for fact, value in (result.get("ansible_facts") or {}).items():
        if fact.endswith(SUFFIX):
            role = fact.removesuffix(SUFFIX).lstrip("_")
            yield "declaration", {**task, "by": role, "result": allowed(value, DECLARED)}


def _with_hosts(result: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    """The result of a cluster has its nodes by their hosts, but an allow-list names no hosts."""
    nodes = result.get("nodes")
    if not isinstance(nodes, t.Mapping):
        return result
    return {**result, "nodes": [{**dict(reading), "host": host} for host, reading in nodes.items()]}


def error_codes(result: t.Mapping[str, t.Any]) -> list[str]:
    """Return the stable codes of a failure. The message itself is not recorded.

    A module returns `code` and `problems`, or `codes` with texts in `problems`. The message of a role or playbook has its codes in brackets.
    """
    problems = result.get("problems")
    codes = [result.get("code"), *(result.get("codes") or ())]
    codes += (
        [problem.get("code") for problem in problems if isinstance(problem, t.Mapping)]
        if isinstance(problems, list)
        else []
    )
    codes += re.findall(r"\[([a-z][a-z0-9_]*)\]", str(result.get("msg", "")))
    return [
        code for code in dict.fromkeys(codes) if isinstance(code, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,63}", code)
    ]


def requester(extra_vars: t.Mapping[str, t.Any], system_user: str) -> dict[str, str]:
    """The user who requested the run: the AWX user that the job names, otherwise the user of the process."""
    for name in ("awx_user_name", "tower_user_name"):
        if _text(extra_vars.get(name)):
            return {"name": _text(extra_vars[name]), "known_from": name, **_type("type", extra_vars[name])}
    return {"name": system_user, "known_from": "system"}


def change_reference(extra_vars: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The variable utrust_change_reference, or an empty text. A null or blank value, as a survey of AWX sends it, is not a reference."""
    value = extra_vars.get("utrust_change_reference")
    return {"change_reference": _text(value), **_type("change_reference_type", value)}


def _text(value: t.Any) -> str:
    return "" if value is None else str(value).strip()[:MAX_LENGTH]


def _type(member: str, value: t.Any) -> dict[str, str]:
    """Return the type of a value that is not text. ansible-core 2.19 and newer read text of AWX as YAML, so 0640 arrives as the number 416."""
    if value is None or isinstance(value, str):
        return {}
    return {member: next((name for kind, name in _TYPES if isinstance(value, kind)), "other")}


def controller_job(extra_vars: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The AWX job of the run, or an empty dictionary."""
    values = {name: extra_vars.get(f"awx_{name}", extra_vars.get(f"tower_{name}")) for name in CONTROLLER}
    return {name: str(value)[:MAX_LENGTH] for name, value in values.items() if value is not None}
