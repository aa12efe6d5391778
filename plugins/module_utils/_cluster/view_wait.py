# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for the EJBCA view of a node whose keys are those of the view. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MIN_VIEW_INTERVAL
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import require_run

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

#: Each further view tries the PIN of the crypto token again, so these problems end the wait.
FINAL: t.Final = frozenset(
    {"token_activation_failing", "ejbca_rights_excessive", "ejbca_identity_unknown", "ejbca_view_left_out"}
)


def wait_for_view(appliance: Appliance, digest: str | None, timeout: float, patience: WaitOptions) -> Node:
    """Return the node as soon as its view has keys with this digest, or its last reading after `timeout` seconds.

    Without `digest`, the view must show any keys. Raises RunEndedError.
    """
    started = patience.clock()
    interval = min(MIN_VIEW_INTERVAL, 5 * patience.interval)
    while True:
        node = appliance.node()
        found = node.keys_digest
        if found is not None and digest in (None, found):
            return node
        if _is_final(appliance) or patience.clock() - started + interval > timeout:
            return node
        require_run()
        patience.sleep(interval)


def _is_final(appliance: Appliance) -> bool:
    """Whether waiting cannot help. The last reading is not repeated for this."""
    try:
        appliance.list_keys()
    except UtrustError as exc:
        return exc.code in FINAL
    return False
