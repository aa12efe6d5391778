# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks and summary of a guided restore, without changes."""

from __future__ import annotations

import typing as t

from utrust_appliance.errors import ApiError

if t.TYPE_CHECKING:
    from utrust_appliance.jobs.restore_packages import RestorePackage
    from utrust_appliance.mbk import MbkFacts
    from utrust_appliance.node import Node


def require_restorable(node: Node, pin_pad: str, source: str) -> Node:
    """Check that a guided restore can start. Returns the source. Names are checked before states."""
    pad = _configured(node, pin_pad)
    other = node.cluster.nodes.get(source)
    if other is None or not other.config.joined:
        raise ApiError("source_not_a_member", f"{source} has not joined the cluster {node.cluster.name}")
    _require_state(node)
    if node.behavior.restore_from == "package":
        raise ApiError("package_required", f"{node.name} restores from a package file, not from a cluster member")
    _require_ready(pad)
    if other is node:
        raise ApiError("source_not_ready", f"{source} is this node itself")
    if not other.reachable():
        raise ApiError("source_not_ready", f"{source} does not respond")
    if other.state()[0] != "operational":
        raise ApiError("source_not_ready", f"the HSM of {source} is {other.state()[0]}, not operational")
    return other


def require_restorable_from_package(node: Node, pin_pad: str) -> None:
    """Check that a guided restore from a package file can start."""
    pad = _configured(node, pin_pad)
    _require_state(node)
    if node.behavior.restore_from != "package":
        raise ApiError("invalid_request", f"{node.name} restores from a cluster member, not from a package")
    _require_ready(pad)


def _configured(node: Node, pin_pad: str) -> dict[str, t.Any]:
    pads = {pad["name"]: pad for pad in node.pin_pads()}
    if pin_pad not in pads:
        raise ApiError("pin_pad_not_configured", f"{pin_pad} is not configured on {node.name}", configured=list(pads))
    return pads[pin_pad]


def _require_state(node: Node) -> None:
    node.require_driver()
    node.require_idle()
    state, alarm = node.state()
    if not node.behavior.restore_allowed(state, alarm):
        mbk = node.hsm.mbk()
        detail = f"the HSM of {node.name} is {state}" + (
            f" with MBK {mbk.name}, and a guided restore would overwrite it" if mbk else ""
        )
        raise ApiError("not_factory_reset", detail)


def _require_ready(pad: dict[str, t.Any]) -> None:
    if pad["status"] != "ready":
        where = f" at {pad['address']}" if pad["address"] else ""
        raise ApiError("pin_pad_unavailable", f"{pad['name']} is configured{where} but does not respond")


def preview(node: Node, pin_pad: str, source: str) -> dict[str, t.Any]:
    """RestorePreview of the contract."""
    other = require_restorable(node, pin_pad, source)
    mbk = other.mbk()
    if mbk is None:
        raise ApiError("source_not_ready", f"the HSM of {source} does not hold an MBK")
    keys, digest = other.list_keys()
    return _summary(node, pin_pad, mbk, {"node": source, "key_count": len(keys), "keys_digest": digest})


def preview_from_package(node: Node, pin_pad: str, brought: RestorePackage) -> dict[str, t.Any]:
    """Summary from the plaintext header of a package, which cannot be authenticated without the MBK."""
    require_restorable_from_package(node, pin_pad)
    header = brought.header
    source = {"node": header.node, "key_count": len(header.keys), "keys_digest": header.keys_digest}
    return _summary(node, pin_pad, brought.mbk, source)


def _summary(node: Node, pin_pad: str, mbk: MbkFacts, source: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        "node": node.name,
        "hsm_serial": node.serial,
        "tls_fingerprint": node.tls_fingerprint,
        "pin_pad": _configured(node, pin_pad),
        "source": source,
        "mbk": mbk.as_dict(),
        "cards_required": mbk.m,
        "cards_total": mbk.n,
    }
