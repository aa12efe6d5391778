# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_node_traffic. It runs on the controller only."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._traffic import mark_drained, unmark_drained

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec

DRAINED, IN_TRAFFIC = "drained", "in_traffic"
SPEC: t.Final[Spec] = {
    "state": {"type": "str", "choices": [DRAINED, IN_TRAFFIC], "required": True},
    "tasks": {"type": "path", "required": True},
}


class ActionModule(JudgingActionBase):
    name = "utrust_node_traffic"
    spec = SPEC

    def reading_needed(self, params: dict[str, t.Any]) -> bool:
        return False

    def judge(self, reading: t.Any, params: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        host, is_drained = variables["inventory_hostname"], params["state"] == DRAINED
        if self._task.check_mode:
            text = f"{host}: would {'drain' if is_drained else 'undrain'} the node with {params['tasks']}"
            return {"msg": text, "_ansible_verbose_always": True}
        if is_drained:
            mark_drained(host)
            return {"msg": f"{host}: out of traffic until {params['tasks']} and the steps after it have ended"}
        unmark_drained(host)
        return {"msg": f"{host}: in traffic again, as {params['tasks']} has ended"}
