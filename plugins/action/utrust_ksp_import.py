# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin of module utrust_ksp_import."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import import OPERATION
from ansible_collections.keyops.utrust.plugins.plugin_utils._action import UtrustActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._arrivals import with_arrivals
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.accounts import launcher_accounts
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.destroyed import destroyed_keys
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import without_blanks
from ansible_collections.keyops.utrust.plugins.plugin_utils._node_names import node_name


class ActionModule(UtrustActionBase):
    operation = OPERATION

    def _perform(self, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        result = super()._perform(variables)
        if self._task.check_mode:
            return result
        # The result has no reasons, because only the options of the task have them.
        given = without_blanks(self._task.args, OPERATION.module_arguments()["argument_spec"])
        node = node_name(self._host_variables(variables, variables["inventory_hostname"]))
        by = launcher_accounts(variables)[0]
        destroyed = destroyed_keys(result, given.get("allow_replace") or (), node=node, by=by)
        result = {**result, "destroyed": destroyed} if destroyed else result
        return with_arrivals(
            result, [*result.get("added", ()), *(pair["source_key"] for pair in result.get("replaced", ()))], variables
        )
