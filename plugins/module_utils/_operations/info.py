# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read one node. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError, require
from ansible_collections.keyops.utrust.plugins.module_utils._preflight import facts_of, problems_of_identity
from ansible_collections.keyops.utrust.plugins.module_utils._wait import Patience

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import Appliance, Node

NO_PATIENCE = Patience(0)


@dc.dataclass(frozen=True)
class InfoOptions:
    """`wait_for_members` are names of nodes that this one must see as Connected before it is told.

    The inventory whose digest is `known_digest` is known to the caller and not read again.
    """

    expect_node: str | None
    gather: tuple[str, ...]
    known_digest: str | None = None
    wait_for_members: tuple[str, ...] = ()
    patience: Patience = NO_PATIENCE


def read_info(appliance: Appliance, options: InfoOptions) -> dict[str, t.Any]:
    """The node, and what `gather` asks for beyond it."""
    node = _node(appliance, options)
    require(f"reading {options.expect_node or 'the node'}", problems_of_identity(node, options.expect_node))
    result: dict[str, t.Any] = {"changed": False, "node": facts_of(node)}
    if "keys" in options.gather and not _known(node, options.known_digest):
        result["hsm_keys"] = [key.public() for key in appliance.inventory()]
    if "pin_pads" in options.gather:
        result["pin_pads"] = [dc.asdict(pin_pad) for pin_pad in appliance.pin_pads()]
    if "restore" in options.gather:
        restore = appliance.running_restore()
        result["restore"] = dc.asdict(restore) if restore is not None else None
    return result


def _known(node: Node, digest: str | None) -> bool:
    """Whether the digest tells all of the node's keys. Which of them cannot be used is no part of it, unless it is none or all."""
    return node.keys_digest == digest and node.unusable_key_count in (0, node.key_count)


def _node(appliance: Appliance, options: InfoOptions) -> Node:
    """The node, as soon as it sees every member of `wait_for_members` as Connected."""
    patience = options.patience
    started = patience.clock()
    while True:
        node = appliance.node()
        up = {member.node for member in node.members if member.up}
        away = [name for name in options.wait_for_members if name not in up]
        if not away:
            return node
        if patience.clock() - started + patience.interval > patience.timeout:
            raise UtrustError(
                f"waiting for the members of the cluster: {node.name} does not see {', '.join(away)} as Connected after {patience.timeout:g} s. "
                "Look at these nodes; when they are Connected, run again",
                code="member_wait_timeout",
                members=away,
            )
        patience.sleep(patience.interval)
