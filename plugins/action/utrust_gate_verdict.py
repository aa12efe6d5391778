# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_gate_verdict. It runs on the controller only."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import gate_verdict
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec

Arguments = dict[str, t.Any]

SPEC: t.Final[Spec] = {
    "planned": {"type": "dict", "required": True},
    "proofs": {"type": "list", "elements": "dict", "required": True},
    "source_proof": {"type": "dict"},
    "manual_confirmations": {"type": "list", "elements": "dict", "default": []},
}


class ActionModule(JudgingActionBase):
    name = "utrust_gate_verdict"
    spec = SPEC

    def _complete(self, arguments: Arguments, variables: Arguments) -> Arguments:
        return {}

    def reading_needed(self, params: Arguments) -> bool:
        return False

    def judge(self, reading: t.Any, params: Arguments, variables: Arguments) -> Arguments:
        result = gate_verdict(params["planned"], params["proofs"], params["source_proof"])
        return {**result, "manual_confirmations": params["manual_confirmations"]}
