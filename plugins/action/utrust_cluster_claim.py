# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin of module utrust_cluster_claim. It creates the token and keeps it for the later tasks of the run."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_claim import OPERATION
from ansible_collections.keyops.utrust.plugins.plugin_utils._action import UtrustActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim.record import endpoint_of
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank

Arguments = dict[str, t.Any]


class ActionModule(UtrustActionBase):
    operation = OPERATION

    def _execute(self, operation: t.Any, arguments: Arguments, variables: Arguments) -> Arguments:
        if operation is not OPERATION:  # the members of a host that is not the source
            return super()._execute(operation, arguments, variables)
        if "new_claim" in arguments or "cluster_claim" in arguments:
            raise UtrustError(
                "utrust_cluster_claim: the run creates the token of a claim itself. Remove new_claim and cluster_claim from the task",
                code="option_invalid",
            )
        claims = self._claims(variables)
        options = {name: value for name, value in arguments.items() if name in CONNECTION_SPEC}
        if arguments.get("state") == "absent":
            nothing = {"changed": False, "claim": None, "supported": True}
            if self._task.check_mode:
                return nothing
            return claims.release_at(options) or nothing
        hosts = self._cluster_hosts(variables)
        request = {name: value for name, value in arguments.items() if name not in options}
        if self._task.check_mode:
            return claims.preview_at(options, request)
        return claims.take_at(options, self._source(options, hosts, variables), hosts, **request)

    def _cluster_hosts(self, variables: Arguments) -> list[str]:
        """Return the hosts whose nodes are in the cluster: those of the play and the source."""
        source = variables.get("utrust_source")
        names = [*variables["ansible_play_hosts_all"], *([] if is_blank(source) else [str(source).strip()])]
        return [name for name in dict.fromkeys(names) if name in variables["hostvars"]]

    def _source(self, options: Arguments, hosts: list[str], variables: Arguments) -> str | None:
        """Return the host whose node the task has claimed the cluster at, because later tasks renew the claim there."""
        for host in hosts:
            if endpoint_of(self._node_options(self._host_variables(variables, host))) == endpoint_of(options):
                return host
        return None
