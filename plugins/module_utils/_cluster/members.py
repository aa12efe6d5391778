# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for the members of a cluster. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LOOKUP_TIME
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance


def wait_for_members(appliance: Appliance, node: Node, names: t.Collection[str], wait_options: WaitOptions) -> Node:
    """Return the node as soon as it reports every member in `names` as Connected. `node` is its last reading.

    Raises UtrustError (`member_wait_timeout`).
    """
    started = wait_options.clock()
    while True:
        connected = {member.node for member in node.members if member.up}
        disconnected = [name for name in names if name not in connected]
        if not disconnected:
            return node
        if wait_options.clock() - started + wait_options.interval > wait_options.timeout:
            raise UtrustError(
                f"waiting for cluster members: timed out after {wait_options.timeout:g} s. {node.name} does not report "
                f"{', '.join(disconnected)} as Connected. Check these nodes in Webconf, then run again",
                code="member_wait_timeout",
                members=disconnected,
            )
        wait_options.sleep(wait_options.interval)
        node = wait_until_available(
            appliance.node, wait_options, f"reading {node.name}", tolerate_errors=MAX_LOOKUP_TIME
        )
