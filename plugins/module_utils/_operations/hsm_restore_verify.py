# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a node after its guided restore, and compare it with the source. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Mbk
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_wait import wait_for_view
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LOOKUP_TIME
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    check_mbk,
    describe_count,
    describe_mbk,
    describe_state,
)
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._preflight.restore import Source


def verify_restore(
    appliance: Appliance, before: Node, source: Source, patience: WaitOptions, view_timeout: float
) -> dict[str, t.Any]:
    """Return the result of a restore that the HSM, or the EJBCA view of the node, confirms. `view_timeout` is in seconds.

    Raises UtrustError (`restore_not_verified`, `restore_not_in_sync`).
    """
    if before.sees_only_ejbca:
        return _verify_by_view(appliance, source, patience, view_timeout)
    try:
        reading = f"reading {before.name} after its restore"
        after = wait_until_available(appliance.node, patience, reading, tolerate_errors=MAX_LOOKUP_TIME)
    except UtrustError as exc:
        raise UtrustError(
            f"guided restore of {before.name}: the node reports success, but could not be read: {exc}. "
            "Do not use this node. Check its HSM in Webconf, page Security",
            code=exc.code if exc.code == "node_wait_timeout" else "restore_not_verified",
            changed=True,
        ) from exc
    problems = check_mbk(after, source.expected)
    if after.hsm_state != "operational" or after.mbk is None or problems:
        raise UtrustError(
            f"guided restore of {before.name}: the node reports success, but its HSM is {describe_state(after)} with MBK {describe_mbk(after)}. "
            "Do not use this node. Check its HSM in Webconf, page Security",
            code="restore_not_verified",
        )
    if after.has_keys(source.keys_digest) is False:
        raise UtrustError(
            f"guided restore of {before.name}: the HSM is operational with MBK {after.mbk}, but it does not hold "
            f"the keys of {source.name} (keys digest {after.keys_digest}, expected {source.keys_digest}). "
            "Run key_sync before you use the node",
            code="restore_not_in_sync",
        )
    return {**result_in_place(after, source), "changed": True}


def _verify_by_view(
    appliance: Appliance, source: Source, patience: WaitOptions, view_timeout: float
) -> dict[str, t.Any]:
    after = wait_for_view(appliance, source.keys_digest, view_timeout, patience)
    if after.hsm_state != "operational" or after.keys_digest is None:
        reason = "its EJBCA view shows no active crypto token"
        try:
            appliance.list_keys()
        except UtrustError as exc:
            reason = str(exc).rstrip(".")
        raise UtrustError(
            f"guided restore of {after.name}: people confirmed the restore, but {reason}. "
            "Check the HSM in Webconf, page Security, and the crypto tokens in EJBCA. Then run again",
            code="restore_not_verified",
            changed=True,
        )
    if after.has_keys(source.keys_digest) is False:
        raise UtrustError(
            f"guided restore of {after.name}: people confirmed the restore, but its EJBCA view does not show the keys of {source.name} "
            f"{view_timeout:g} s later ({describe_count(after.key_count)}, source: {describe_count(source.key_count)}). "
            "Run key_sync before you use the node",
            code="restore_not_in_sync",
            changed=True,
        )
    return {**result_in_place(after, source), "changed": True}


def result_in_place(node: Node, source: Source) -> dict[str, t.Any]:
    """Return the result for an HSM that is operational with the MBK of the source."""
    in_sync = node.has_keys(source.keys_digest)
    result: dict[str, t.Any] = {
        "changed": False,
        "node": node.name,
        "hsm_serial": node.hsm_serial,
        "hsm_state": node.hsm_state,
        "mbk": dc.asdict(t.cast(Mbk, node.mbk)),
        "key_count": node.key_count,
        "keys_digest": node.keys_digest,
        "in_sync": in_sync,
    }
    if in_sync is False:
        counts = f"{describe_count(node.key_count)}, source: {describe_count(source.key_count)}"
        result["warnings"] = [
            f"{node.name} holds the MBK of {source.name} but not the same keys ({counts}). Run key_sync"
        ]
    elif in_sync is None:
        result["warnings"] = [
            f"{node.name} holds the MBK of {source.name}, but the keys of one of both are unknown. Compare the keys manually before you use the node"
        ]
    return result
