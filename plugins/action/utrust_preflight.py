# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_preflight. It runs on the controller only."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import INITIAL_SYNC, RENEW_CA
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.transport import not_checked, not_checked_line
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.options import PREFLIGHT_SPEC, preflight_options
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import (
    check_cluster,
    node_states,
    problems_result,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.sync import check_quorum, nodes_of
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._run_options import complete_options
from ansible_collections.keyops.utrust.plugins.plugin_utils._task_files import check_task_files
from ansible_collections.keyops.utrust.plugins.plugin_utils._traffic import gets_traffic

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading


class ActionModule(JudgingActionBase):
    name = "utrust_preflight"
    spec = PREFLIGHT_SPEC

    def keys_needed(self, params: dict[str, t.Any]) -> bool:
        return bool(params["operation"] != INITIAL_SYNC)  # an HSM in Factory Reset Mode has no keys

    def check(self, params: dict[str, t.Any], variables: dict[str, t.Any]) -> None:
        # A run that only reads has the usual defaults on every transport.
        hosts = params["hosts"] if params["hosts"] is not None else variables["ansible_play_hosts_all"]
        transports = self._transports([params["source"], *hosts], variables) if params["strict_defaults"] else ()
        self._defaults = complete_options(params, transports, variables, "guided_restore_")
        files = {name: params[name] for name in ("drain_tasks", "undrain_tasks")}
        check_task_files(files, self._task, self._loader)
        if params["audit"] == "required":
            self._require_audit(read_file=True)
        preflight_options(params, ())
        unknown = sorted(set(params["hsm_serials"]) - set(variables["hostvars"]))
        if unknown:
            raise UtrustError(
                f"hsm_serials: {', '.join(map(repr, unknown))} is not a host of the inventory. Name inventory hosts",
                code="option_invalid",
            )

    def _read(self, arguments: dict[str, t.Any], variables: dict[str, t.Any], keys: bool) -> ClusterReading:
        """Return the reading without EJBCA views. After a restore, a later task of the role reads them."""
        return super()._read({**arguments, "ejbca_view": False}, variables, keys)

    def judge(self, reading: ClusterReading, params: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        managed: t.Iterable[str] = self._managed_nodes(variables, params["source"]).values()
        if params["operation"] == RENEW_CA:
            # Another member would use the new key at once, so only nodes that this run reads count.
            managed = {each.name for each in reading.readings}
        options = preflight_options(params, managed)
        commissioning = self._check_commissioning(reading, self._hosts_of(reading, variables), params)
        problems = [
            *self.claim_problems,
            *commissioning.problems,
            *check_cluster(reading, options, datetime.datetime.now(datetime.UTC)),
        ]
        if options.operation != INITIAL_SYNC:
            problems += check_quorum(
                reading, allow_outage=params["allow_outage"], all_targets=options.operation == RENEW_CA
            )
        result = problems_result(f"preflight for {options.operation}", problems)
        if problems and options.operation != INITIAL_SYNC:
            return result  # Only a restore goes on, with a preview. Facts of the nodes would hide the problems.
        if not problems:
            result["msg"] += f" on {', '.join(each.host for each in reading.readings)}"
        unchecked = not_checked(nodes_of(reading))
        result["msg"] += "".join(f". {line}" for line in not_checked_line(unchecked))
        return {
            **result,
            "not_checked": unchecked,
            "source": reading.source_node.to_dict(),
            "members": [member.node for member in reading.source_node.members if member.joined],
            "nodes": node_states(reading),
            "hsm_serials": dict(options.hsm_serials),
            "manual_confirmations": params["manual_confirmations"],
            "audit": params["audit"],
            "ejbca_view": params["ejbca_view"],
            "check_mode": self._task.check_mode,
            "traffic": self._traffic(reading, params, variables),
            "weaker_values": [value._asdict() for value in self._defaults.weaker],
        }

    def _traffic(
        self, reading: ClusterReading, params: dict[str, t.Any], variables: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        """Return which task files a guided restore includes for which nodes. An HSM that is operational is not restored, so its node is not drained."""
        restored = {each.host: each.node.hsm_state != "operational" for each in reading.others if each.node is not None}
        in_traffic = [host for host in restored if gets_traffic(self._host_variables(variables, host))]
        drain, undrain = params["drain_tasks"], params["undrain_tasks"]
        return {
            "members": in_traffic,
            "drain_tasks": drain,
            "undrain_tasks": undrain,
            "drain": [host for host in in_traffic if restored[host]] if drain is not None else [],
            "undrain": in_traffic if undrain is not None else [],
        }
