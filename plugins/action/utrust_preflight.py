# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_preflight. It runs on the controller only."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import INITIAL_SYNC, RENEW_CA
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.options import PREFLIGHT_SPEC, preflight_options
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import (
    check_cluster,
    node_states,
    problems_result,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.sync import check_quorum
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading


class ActionModule(JudgingActionBase):
    name = "utrust_preflight"
    spec = PREFLIGHT_SPEC

    def keys_needed(self, params: dict[str, t.Any]) -> bool:
        return bool(params["operation"] != INITIAL_SYNC)  # an HSM in Factory Reset Mode has no keys

    def check(self, params: dict[str, t.Any], variables: dict[str, t.Any]) -> None:
        if params["audit"] == "required":
            self._require_audit(read_file=True)
        preflight_options(params, ())
        unknown = sorted(set(params["hsm_serials"]) - set(variables["hostvars"]))
        if unknown:
            raise UtrustError(
                f"hsm_serials: {', '.join(map(repr, unknown))} is not a host of the inventory. Name inventory hosts",
                code="option_invalid",
            )

    def judge(self, reading: ClusterReading, params: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        managed: t.Iterable[str] = self._managed_nodes(variables, params["source"]).values()
        if params["operation"] == RENEW_CA:
            # Another member would use the new key at once, so only nodes that this run reads count.
            managed = {each.name for each in reading.readings}
        options = preflight_options(params, managed)
        problems = [*self.claim_problems, *check_cluster(reading, options, datetime.datetime.now(datetime.UTC))]
        if options.operation != INITIAL_SYNC:
            problems += check_quorum(
                reading, allow_outage=params["allow_outage"], all_targets=options.operation == RENEW_CA
            )
        result = problems_result(f"preflight for {options.operation}", problems)
        if problems and options.operation != INITIAL_SYNC:
            return result  # Only a restore goes on, with a preview. Facts of the nodes would hide the problems.
        if not problems:
            result["msg"] += f" on {', '.join(each.host for each in reading.readings)}"
        return {
            **result,
            "source": reading.source_node.to_dict(),
            "members": [member.node for member in reading.source_node.members if member.joined],
            "nodes": node_states(reading),
            "hsm_serials": dict(options.hsm_serials),
            "manual_confirmations": params["manual_confirmations"],
        }
