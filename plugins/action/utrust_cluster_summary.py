# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_cluster_summary. It runs on the controller only."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import INITIAL_SYNC, KEY_SYNC
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.policy import AUDIT_SPEC
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan_text import describe_plan, name_plan
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.summary import (
    keys_needed,
    summarize_restores,
    summarize_sync,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

SPEC: t.Final[Spec] = {
    **READ_SPEC,
    "operation": {"type": "str", "choices": [KEY_SYNC, INITIAL_SYNC], "default": KEY_SYNC},
    "planned": {"type": "dict", "required": True},
    "views": {"type": "list", "elements": "str", "default": []},
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
        """Return the reading. After a guided restore, the summary names every node also if the source cannot be read."""
        try:
            reading = super()._read(arguments, variables, keys)
            if self._task.args.get("operation") != INITIAL_SYNC and keys_needed(arguments["planned"], reading):
                return super()._read(arguments, variables, True)
            return reading
        except UtrustError as exc:
            if self._task.args.get("operation") != INITIAL_SYNC:
                raise
            return exc

    def judge(
        self, reading: ClusterReading | UtrustError | None, params: dict[str, t.Any], variables: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        if params["operation"] == INITIAL_SYNC:
            result = summarize_restores(params["planned"], reading)
        else:
            known, pending = variables["hostvars"], params["planned"]["pending"]
            left_out = [host for host in pending if self._task.check_mode and "_key_sync_import" not in known[host]]
            result = summarize_sync(params["planned"], t.cast("ClusterReading | None", reading), left_out)
            # The last lines of a run name the plan, because people approve its digest.
            plan = params["planned"]["plan"]
            result["summary"] += [
                *params["views"],
                *(describe_plan(plan) if self._task.check_mode else ()),
                name_plan(plan),
            ]
        if params["audit"] == "required" and not result.get("failed"):
            try:
                self._require_audit(read_file=True)
            except UtrustError as exc:
                result |= {"failed": True, "msg": str(exc), **exc.details}
        return result
