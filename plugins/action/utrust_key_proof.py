# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin of module utrust_key_proof."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import OPERATION
from ansible_collections.keyops.utrust.plugins.plugin_utils._action import (
    Arguments,
    Result,
    UtrustActionBase,
    Variables,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._ejbca_view import is_failing, mark_failing

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._runner import Operation


class ActionModule(UtrustActionBase):
    operation = OPERATION

    def _execute(self, operation: Operation, arguments: Arguments, variables: Variables) -> Result:
        """View a node whose crypto token cannot be activated once a run, because each view tries the PIN again."""
        reader = arguments.get("ejbca_reader")
        if operation is not OPERATION or not isinstance(reader, dict):
            return super()._execute(operation, arguments, variables)
        if is_failing(reader):
            raise UtrustError(
                "reading EJBCA's Admin Web: an earlier task of this run found a crypto token of this node that cannot be activated. Nothing was sent, because "
                "each view tries the PIN again. Correct the PIN in EJBCA, then run again",
                code="token_activation_failing",
            )
        result = super()._execute(operation, arguments, variables)
        # After a reactivation that failed, the PIN may be wrong.
        if {"token_activation_failing", "crypto_token_offline"} & {
            result.get("code"),
            *((result.get("ejbca") or {}).get("codes") or ()),
        }:
            mark_failing(reader)
        return result
