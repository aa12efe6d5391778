# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_gate_plan. It runs on the controller only."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import LEFT_OUT
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import ARGUMENT_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import (
    PROOF_SPEC,
    check_proof_options,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._arrivals import key_arrivals
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import (
    GateNodes,
    check_gate_nodes,
    plan_gate,
    reactivation_hosts,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._ejbca_view import view_options
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
    "out_of_traffic": {"type": "list", "elements": "str", "default": []},
    "only_options": {"type": "bool", "default": False},
    **PROOF_SPEC,
}


class ActionModule(JudgingActionBase):
    name = "utrust_gate_plan"
    spec = SPEC

    def _complete(self, arguments: Arguments, variables: Arguments) -> Arguments:
        # The proofs read the other nodes.
        return super()._complete({**arguments, "hosts": []}, variables)

    def _read(self, arguments: Arguments, variables: Arguments, keys: bool) -> ClusterReading:
        """Return the reading without the EJBCA view of the source. The proof of the source reads the view, once a run."""
        return super()._read({**arguments, "ejbca_view": False}, variables, keys)

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
        nodes = self._gate_nodes(params, variables)
        check_gate_nodes(nodes, hosts)
        self._check_views(params, variables, nodes)
        self._reactivate_nodes = reactivation_hosts(
            nodes,
            params["out_of_traffic"],
            reactivate=params["reactivate"],
            level=params["level"],
            source=params["source"],
        )

    def _check_views(self, params: Arguments, variables: Arguments, nodes: GateNodes) -> None:
        """Raises UtrustError (`ejbca_view_left_out`) if a person has excluded a view that the gate needs."""
        if not params["ejbca_view"] or params["level"] == "hsm":
            return
        hosts = dict.fromkeys([params["source"], *nodes.names])
        options = {host: view_options(self._host_variables(variables, host)) for host in hosts}
        if left_out := [host for host, given in options.items() if given.get("ejbca_unread") == LEFT_OUT]:
            raise UtrustError(
                f"key_gate: the variable utrust_ejbca_view of {', '.join(left_out)} is false, so the EJBCA view must not be read. Nothing was checked. "
                "Check the crypto tokens of the node, then remove the variable. Or set key_gate_ejbca_view: false",
                code="ejbca_view_left_out",
            )

    def judge(self, reading: ClusterReading | None, params: Arguments, variables: Arguments) -> Arguments:
        if reading is None:
            return {"passed": False, "problems": []}
        planned = plan_gate(reading, self._gate_nodes(params, variables), params["hsm_keys"], params["level"])
        hosts = {host: self._host_variables(variables, host) for host in planned["gate_nodes"]}
        return {
            **planned,
            "key_arrivals": key_arrivals(hosts, [key["fingerprint"] for key in planned["hsm_keys"]]),
            "reactivate_nodes": self._reactivate_nodes,
            "reactivation_affects": params["reactivation_affects"],
            "out_of_traffic": params["out_of_traffic"],
            "ejbca_view": params["ejbca_view"] and params["level"] != "hsm",
            "source_host": params["source"],
        }
