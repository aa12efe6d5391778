# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a guided restore can start, and its summary. Changes nothing."""

from __future__ import annotations

import typing as t

from utrust_appliance.errors import Problem

if t.TYPE_CHECKING:
    from utrust_appliance.node import Node


def require_restorable(node: Node, pin_pad: str, source: str) -> Node:
    """Whether a guided restore can start now; returns the source. Names first, then states."""
    pads = {pad["name"]: pad for pad in node.pin_pads()}
    if pin_pad not in pads:
        raise Problem("pin_pad_not_configured", f"{pin_pad} is not configured on {node.name}", configured=list(pads))
    other = node.cluster.nodes.get(source)
    if other is None or not other.config.joined:
        raise Problem("source_not_a_member", f"{source} has not joined the cluster {node.cluster.name}")
    node.require_driver()
    node.require_idle()
    state, alarm = node.state()
    if not node.behaviour.restore_allowed(state, alarm):
        mbk = node.hsm.mbk()
        detail = f"the HSM of {node.name} is {state}" + (
            f" under MBK {mbk.name}; a guided restore would overwrite it" if mbk else ""
        )
        raise Problem("not_factory_reset", detail)
    if node.behaviour.restore_from == "package":
        raise Problem(
            "package_required", f"{node.name} restores from a package of a file, not from a member of the cluster"
        )
    if pads[pin_pad]["status"] != "ready":
        where = f" at {pads[pin_pad]['address']}" if pads[pin_pad]["address"] else ""
        raise Problem("pin_pad_unavailable", f"{pin_pad} is configured{where} but does not answer")
    if other is node:
        raise Problem("source_not_ready", f"{source} is this node itself")
    if not other.reachable():
        raise Problem("source_not_ready", f"{source} does not answer")
    if other.state()[0] != "operational":
        raise Problem("source_not_ready", f"the HSM of {source} is {other.state()[0]}, not operational")
    return other


def preview(node: Node, pin_pad: str, source: str) -> dict[str, t.Any]:
    """The contract's RestorePreview."""
    other = require_restorable(node, pin_pad, source)
    mbk = other.mbk()
    if mbk is None:
        raise Problem("source_not_ready", f"the HSM of {source} holds no MBK")
    keys, digest = other.inventory()
    return {
        "node": node.name,
        "hsm_serial": node.serial,
        "tls_fingerprint": node.tls_fingerprint,
        "pin_pad": next(pad for pad in node.pin_pads() if pad["name"] == pin_pad),
        "source": {"node": source, "key_count": len(keys), "inventory_digest": digest},
        "mbk": mbk.as_dict(),
        "cards_required": mbk.m,
        "cards_total": mbk.n,
    }
