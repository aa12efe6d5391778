# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read one node and, on request, its keys, PIN pads and running restore. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.members import wait_for_members
from ansible_collections.keyops.utrust.plugins.module_utils._errors import raise_for_problems
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    check_identity,
    node_facts,
    read_keys,
)
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result, open_appliance
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

NO_PATIENCE = WaitOptions(0)


ARGUMENT_SPEC: t.Final[Spec] = {
    "gather": {"type": "list", "elements": "str", "choices": ["keys", "pin_pads", "restore"], "default": []},
    "skip_keys_if_digest": {"type": "str", "no_log": False},
    "wait_for_members": {"type": "list", "elements": "str", "default": []},
    "wait_timeout": {"type": "float", "default": 600.0},
}


@dc.dataclass(frozen=True)
class InfoOptions:
    """Options of the module.

    The operation first waits until the node reports every member in `wait_for_members` as Connected.
    It does not read keys whose digest is `known_digest`: the caller has them.
    """

    expect_node: str | None
    gather: tuple[str, ...]
    known_digest: str | None = None
    wait_for_members: tuple[str, ...] = ()
    patience: WaitOptions = NO_PATIENCE

    @classmethod
    def from_params(cls, params: Params) -> InfoOptions:
        """Return the options from validated parameters."""
        return cls(
            expect_node=params["expect_node"],
            gather=tuple(params["gather"]),
            known_digest=params["skip_keys_if_digest"],
            wait_for_members=tuple(params["wait_for_members"]),
            patience=WaitOptions(params["wait_timeout"]),
        )


def read_info(appliance: Appliance, options: InfoOptions) -> dict[str, t.Any]:
    """Return the node and everything that `gather` names. Raises UtrustError (`member_wait_timeout`)."""
    node = appliance.node()
    if options.wait_for_members:
        node = wait_for_members(appliance, node, options.wait_for_members, options.patience)
    raise_for_problems(f"reading {options.expect_node or 'the node'}", check_identity(node, options.expect_node))
    result: dict[str, t.Any] = {"changed": False, "node": node_facts(node)}
    if "keys" in options.gather and not _keys_are_known(node, options.known_digest):
        result["hsm_keys"] = [key.to_dict() for key in read_keys(appliance, node.name)]
    if "pin_pads" in options.gather:
        result["pin_pads"] = [dc.asdict(pin_pad) for pin_pad in appliance.pin_pads()]
    if "restore" in options.gather:
        restore = appliance.running_restore()
        result["restore"] = dc.asdict(restore) if restore is not None else None
    return result


def _keys_are_known(node: Node, digest: str | None) -> bool:
    """Whether the digest identifies the keys and their usability. The digest does not cover which keys are usable."""
    return node.has_keys(digest) is True and node.usable_alike


def run(invocation: Invocation) -> Result:
    """Read the node. Raises UtrustError."""
    options = InfoOptions.from_params(invocation.params)
    with open_appliance(invocation.params) as appliance:
        return read_info(appliance, options)


OPERATION: t.Final = Operation("utrust_hsm_info", ARGUMENT_SPEC, {}, run)
