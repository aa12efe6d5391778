# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_cluster_summary. It runs on the controller only."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import SCOPE_EJBCA
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.page_map import steps
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import (
    PACKAGE_DESTROYED,
    PEOPLE_SPEC,
    people_timeout,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import INITIAL_SYNC, KEY_SYNC
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.policy import AUDIT_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.transport import not_checked_line
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.accounts import launcher_accounts
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.defaults import WeakerValue
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.destroyed import destroyed_between_runs
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.package_end import (
    kept_line,
    package_elsewhere,
    uploads_between_runs,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan_text import describe_plan, name_plan
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.summary import (
    keys_needed,
    summarize_restores,
    summarize_sync,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.traffic import drained_lines
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._traffic import drained_hosts

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

VERBOSE: t.Final = {"_ansible_verbose_always": True}
SPEC: t.Final[Spec] = {
    **READ_SPEC,
    "operation": {"type": "str", "choices": [KEY_SYNC, INITIAL_SYNC], "default": KEY_SYNC},
    "planned": {"type": "dict", "required": True},
    "views": {"type": "list", "elements": "str", "default": []},
    "package": {"type": "dict"},
    **PEOPLE_SPEC,
    **AUDIT_SPEC,
}


class ActionModule(JudgingActionBase):
    name = "utrust_cluster_summary"
    spec = SPEC

    def _perform(self, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        try:
            return super()._perform(variables)
        finally:  # also after an error, because this is the end of the run
            self._release_claim(str(self._task.args["source"]).strip(), variables)

    def keys_needed(self, params: dict[str, t.Any]) -> bool:
        return False

    def reading_needed(self, params: dict[str, t.Any]) -> bool:
        if self._task.check_mode:
            return False
        return params["operation"] == INITIAL_SYNC or bool(params["planned"]["pending"])

    def _read(self, arguments: dict[str, t.Any], variables: dict[str, t.Any], keys: bool) -> t.Any:
        """Return the reading, or the error of the reading. A run that fails must still name its drained nodes and its package."""
        try:
            reading = super()._read(arguments, variables, keys)
            if self._task.args.get("operation") != INITIAL_SYNC and keys_needed(arguments["planned"], reading):
                return super()._read(arguments, variables, True)
            return reading
        except UtrustError as exc:
            return exc

    def judge(
        self, reading: ClusterReading | UtrustError | None, params: dict[str, t.Any], variables: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        if params["operation"] == INITIAL_SYNC:
            result = _with_drained(summarize_restores(params["planned"], reading), params["planned"])
            result["summary"] += [WeakerValue(**value).line for value in params["planned"]["weaker_values"]]
            result["summary"] += not_checked_line(params["planned"].get("not_checked") or [])
        else:
            known, pending = variables["hostvars"], params["planned"]["pending"]
            left_out = [host for host in pending if self._task.check_mode and "_key_sync_import" not in known[host]]
            if isinstance(reading, UtrustError):
                result = {"failed": True, "msg": str(reading), "summary": [], **reading.details, **VERBOSE}
            else:
                result = summarize_sync(params["planned"], reading, left_out)
            # The last lines of a run name the plan, because people approve its digest.
            plan = params["planned"]["plan"]
            result = _with_drained(result, params["planned"])
            result["summary"] += [
                *params["views"],
                *(WeakerValue(**value).line for value in params["planned"]["weaker_values"]),
                *(describe_plan(plan) if self._task.check_mode else not_checked_line(plan["changes"]["not_checked"])),
                name_plan(plan),
            ]
            if not self._task.check_mode:
                self._end_package(result, params, variables)
        if params["audit"] == "required" and not result.get("failed"):
            try:
                self._require_audit(read_file=True)
            except UtrustError as exc:
                result |= {"failed": True, "msg": str(exc), **exc.details}
        return result

    def _end_package(self, result: dict[str, t.Any], params: dict[str, t.Any], variables: dict[str, t.Any]) -> None:
        """Record what people did, and let them confirm the destruction of a package that they downloaded. After a failure, the next run can need it."""
        changes = params["planned"]["plan"]["changes"]
        if changes["key_scope"] != SCOPE_EJBCA:
            return
        source, hosts = changes["source"]["node"], {target["host"]: name for name, target in changes["targets"].items()}
        pending = params["planned"]["pending"]
        result["confirmations"] = uploads_between_runs(params["confirmations"], hosts, pending)
        uploaded = [confirmation["node"] for confirmation in result["confirmations"]]
        destroyed = destroyed_between_runs(changes, uploaded, by=launcher_accounts(variables)[0])
        if destroyed:
            result["destroyed"] = destroyed
        sha256 = package_elsewhere(params["package"], params["confirmations"], source)
        if sha256 is None:
            return
        if result.get("failed"):
            result["summary"].append(kept_line(sha256))
            return
        people = self._people(params, variables)
        page_map = self._node_options(self._host_variables(variables, params["source"])).get("page_map") or ""
        try:
            confirmed = people.confirm(
                steps(page_map, PACKAGE_DESTROYED, source, sha256=sha256), people_timeout(params)
            )
        except UtrustError as exc:
            result["summary"].append(kept_line(sha256))
            result |= {"failed": True, "msg": str(exc), **exc.details}
            return
        result["confirmations"] += people.confirmed
        result["summary"].append(f"package {sha256}: {confirmed.confirmed_by} confirmed that every copy was destroyed")


def _with_drained(result: dict[str, t.Any], planned: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the result with a line for each node that the run has left drained. Such a node is a failure if the run undrains nodes."""
    traffic = planned["traffic"]
    undrains = traffic["undrain_tasks"] is not None
    drained = drained_hosts(traffic["members"])
    result = {
        **result,
        "drained": drained,
        "summary": [*result["summary"], *drained_lines(drained, undrain_tasks=undrains)],
    }
    if drained and undrains and not result.get("failed"):
        text = f"{len(drained)} node(s) are still drained: {', '.join(drained)}. Read the first error, fix the cause, then run again"
        return {**result, "failed": True, "code": "node_drained", "msg": text}
    return result
