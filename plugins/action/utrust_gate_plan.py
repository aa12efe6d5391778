# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_gate_plan. It runs on the controller only."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import ARGUMENT_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import (
    PROOF_SPEC,
    check_proof_options,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._arrivals import key_arrivals
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import GateNodes, check_gate_nodes, plan_gate
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._node_names import node_name

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

Arguments = dict[str, t.Any]

SPEC: t.Final[Spec] = {
    "source": READ_SPEC["source"],
    "node_timeout": READ_SPEC["node_timeout"],
    "hsm_keys": ARGUMENT_SPEC["hsm_keys"],
    "level": ARGUMENT_SPEC["level"],
    "nodes": {"type": "list", "elements": "str"},
    "min_nodes": {"type": "int"},
    "ignore_members": {"type": "list", "elements": "str", "default": []},
    "only_options": {"type": "bool", "default": False},
    **PROOF_SPEC,
}


class ActionModule(JudgingActionBase):
    name = "utrust_gate_plan"
    spec = SPEC

    def _complete(self, arguments: Arguments, variables: Arguments) -> Arguments:
        # The proofs read the other nodes.
        return super()._complete({**arguments, "hosts": []}, variables)

    def _gate_nodes(self, params: Arguments, variables: Arguments) -> GateNodes:
        hosts = variables["ansible_play_hosts_all"] if params["nodes"] is None else params["nodes"]
        names = {str(host): node_name(self._host_variables(variables, host)) for host in hosts}
        return GateNodes(names, params["nodes"] is not None, params["min_nodes"], frozenset(params["ignore_members"]))

    def reading_needed(self, params: Arguments) -> bool:
        return not params["only_options"]

    def check(self, params: Arguments, variables: Arguments) -> None:
        check_proof_options(params)
        # Without serial, the batch is the play. Ansible leaves rescued hosts out of the list of the batch.
        serial = t.cast("t.Any", self._task._parent)._play.serial
        hosts = variables["ansible_play_batch" if serial else "ansible_play_hosts_all"]
        check_gate_nodes(self._gate_nodes(params, variables), hosts)

    def judge(self, reading: ClusterReading | None, params: Arguments, variables: Arguments) -> Arguments:
        if reading is None:
            return {"passed": False, "problems": []}
        planned = plan_gate(reading, self._gate_nodes(params, variables), params["hsm_keys"], params["level"])
        hosts = {host: self._host_variables(variables, host) for host in planned["gate_nodes"]}
        return {**planned, "key_arrivals": key_arrivals(hosts, [key["fingerprint"] for key in planned["hsm_keys"]])}
