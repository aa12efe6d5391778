# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_member_health. It runs on the controller only."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.keyops.utrust.plugins.filter.ejbca_options import ejbca_options
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations import ejbca_ca_info
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import require_run
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import problems_result
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.traffic import check_drained, check_health
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._traffic import drained_hosts

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec

Arguments = dict[str, t.Any]

#: Seconds after which a wait renews the claim of the run, so that no other run takes it.
RENEWAL: t.Final = 30.0
SPEC: t.Final[Spec] = {
    "source": READ_SPEC["source"],
    "planned": {"type": "dict", "required": True},
    "batch": {"type": "list", "elements": "str", "default": []},
    "settle": {"type": "bool", "default": False},
}


class ActionModule(JudgingActionBase):
    name = "utrust_member_health"
    spec = SPEC

    def reading_needed(self, params: Arguments) -> bool:
        return False

    def judge(self, reading: t.Any, params: Arguments, variables: Arguments) -> Arguments:
        traffic, batch = params["planned"]["traffic"], params["batch"]
        if params["settle"]:
            if self._task.check_mode:  # the batches before have changed nothing, so there is nothing new to see
                return {"msg": "nothing was changed in check mode", "problems": [], "codes": []}
            self._settle(params, variables)
        left_out = {*batch, *(traffic["returning"] if self._task.check_mode else ())}
        others = [host for host in traffic["members"] if host not in left_out]
        undrains = traffic["undrain_tasks"] is not None
        problems = []
        if batch or undrains:  # without undrain tasks, the last batch stays drained for people
            problems += check_drained(drained_hosts(others), undrain_tasks=undrains)
        if traffic["health_check"]:
            problems += check_health({host: self._health(host, params["planned"], variables) for host in others})
        when = f"before the import into {', '.join(batch)}" if batch else "after the last batch"
        if not problems:
            return {"msg": f"{when}: no problems found", "problems": [], "codes": []}
        outcome = "No other node is changed" if batch else "The keys were imported"
        nodes = ", ".join(dict.fromkeys(problem.node for problem in problems))
        text = f"{when}: {len(problems)} problem(s) on {nodes}. {outcome}"
        return {**problems_result(when, problems), "msg": text}

    def _settle(self, params: Arguments, variables: Arguments) -> None:
        """Wait between two batches, as long as the run lives and has its claim."""
        settle_time = float(params["planned"]["traffic"]["settle_time"])
        end = renewed = time.monotonic()
        end += settle_time
        if settle_time > 0:
            self._show_progress(f"waiting {settle_time:g} s for the last batch to settle")
        while (remaining := end - time.monotonic()) > 0:
            require_run()
            time.sleep(min(1.0, remaining))
            if time.monotonic() - renewed > RENEWAL:
                renewed = time.monotonic()
                source = self._node_options(self._host_variables(variables, params["source"]))
                self._claims(variables).renew(source)
        require_run()

    def _health(self, host: str, planned: Arguments, variables: Arguments) -> str | None:
        """Return the error of the health check of a node, or None."""
        of_host = self._host_variables(variables, host)
        if is_blank(of_host.get("utrust_ejbca_reader_client_cert")):
            return f"the account that reads EJBCA of {host} is not set. Set the variable utrust_ejbca_reader_client_cert of this host [credentials_missing]"
        arguments = {
            **self._node_options(of_host),
            "members": planned["members"],
            "ejbca": ejbca_options(of_host, "reader"),
            "only_health": True,
        }
        try:
            found = self._execute(ejbca_ca_info.OPERATION, arguments, variables)
        except UtrustError as exc:
            return f"{exc} [{exc.code}]"
        if found.get("failed"):
            return f"{found.get('msg')} [{found.get('code', 'internal_error')}]"
        return t.cast("str | None", found["health"])
