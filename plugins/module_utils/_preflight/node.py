# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What speaks against an operation: every problem at once, as pure functions. Private to keyops.utrust.

The rules and their sources: Keyfactor's documentation (cluster configuration, restore, add a node) and Utimaco's guides.
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Mbk, Node, PinPad

PRODUCT_IN_SCOPE = "u.trust"
STATES = {
    "factory_reset": "in Factory Reset Mode",
    "operational": "operational",
    "alarm": "in alarm",
    "maintenance": "in maintenance",
}


class SourceFacts(t.NamedTuple):
    """What a target must have in common with the source node."""

    origin: str
    cluster_id: str
    appliance_version: str
    hsm_firmware: str
    mbk: Mbk


def describe_state(node: Node) -> str:
    return STATES.get(node.hsm_state, node.hsm_state) + (f" ({node.alarm})" if node.alarm else "")


def check_identity(node: Node, expect_node: str | None) -> list[Problem]:
    """Another node than the named one, or another product."""
    problems = []
    if expect_node is not None and node.name != expect_node:
        problems.append(
            Problem(
                "node_name_mismatch",
                node.name,
                f"the node at this address is {node.name}, not {expect_node}",
                "correct host in the inventory, or expect_node",
            )
        )
    if PRODUCT_IN_SCOPE not in node.hsm_model:
        problems.append(
            Problem(
                "hsm_not_supported",
                node.name,
                f"its HSM is a {node.hsm_model}",
                "this collection is for Utimaco u.trust HSMs; leave this node out",
            )
        )
    return problems


def check_ready(node: Node) -> list[Problem]:
    """Whatever keeps an HSM from giving or taking a package."""
    problems = []
    if node.hsm_state != "operational":
        remedy = (
            "restore it first (utrust_hsm_restore)"
            if node.hsm_state == "factory_reset"
            else "bring it back to operation in Webconf, page Security"
        )
        problems.append(
            Problem("hsm_not_operational", node.name, f"the HSM of {node.name} is {describe_state(node)}", remedy)
        )
    elif node.mbk is None:
        problems.append(
            Problem(
                "mbk_missing",
                node.name,
                f"the HSM of {node.name} holds no MBK",
                "generate or restore the MBK with its cards",
            )
        )
    return problems + check_driver_and_jobs(node)


def check_driver_and_jobs(node: Node) -> list[Problem]:
    problems = []
    if node.driver != "running":
        problems.append(
            Problem(
                "driver_stopped",
                node.name,
                f"the HSM driver of {node.name} is {node.driver}",
                "start it in Webconf, page Services",
            )
        )
    if node.running is not None:
        kind, job = node.running
        problems.append(
            Problem(
                f"{kind}_in_progress",
                node.name,
                f"{kind} {job} is running on {node.name}",
                "let it end, or cancel it, then run again",
            )
        )
    return problems


def clock_skew(node: Node) -> float | None:
    """Seconds between the node's clock and this machine's, to be asked right after the node was read; None if it shows no time with a zone."""
    try:
        shown = datetime.datetime.fromisoformat(node.clock)
        return abs((shown - datetime.datetime.now(datetime.UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def node_facts(node: Node) -> dict[str, t.Any]:
    """The node as results tell it, with how far its clock is off."""
    return {**node.to_dict(), "clock_skew": clock_skew(node)}


def check_clock(node: Node, max_skew: float) -> list[Problem]:
    """Clocks must agree (NTP); the node's is compared with this machine's, `max_skew` is in seconds."""
    return check_clock_skew(node.name, node.clock, clock_skew(node), max_skew)


def check_clock_skew(name: str, clock: str, skew: float | None, max_skew: float) -> list[Problem]:
    if skew is not None and skew <= max_skew:
        return []
    text = f"the clock of {name} says {clock!r}, which is no time with a zone"
    if skew is not None:
        text = f"the clock of {name} differs by {skew:.0f} s from this machine's, at most {max_skew:g} s are allowed"
    return [Problem("clock_skew", name, text, "set up NTP on the node and on this machine, or raise max_clock_skew")]


def check_compatibility(node: Node, expected: SourceFacts) -> list[Problem]:
    """Cluster, appliance version and firmware: clustering different versions is not supported."""
    problems = []
    for code, what, here, there in (
        ("cluster_mismatch", "cluster", node.cluster_id, expected.cluster_id),
        ("appliance_version_mismatch", "appliance version", node.appliance_version, expected.appliance_version),
        ("hsm_firmware_mismatch", "HSM firmware", node.hsm_firmware, expected.hsm_firmware),
    ):
        if here != there:
            problems.append(
                Problem(
                    code,
                    node.name,
                    f"{what} of {node.name} is {here}, {expected.origin} is of {there}",
                    "make them equal before keys are moved",
                )
            )
    return problems


def check_mbk(node: Node, expected: SourceFacts) -> list[Problem]:
    if node.mbk is None or node.mbk.same_as(expected.mbk):
        return []
    return [
        Problem(
            "mbk_mismatch",
            node.name,
            f"the HSM of {node.name} holds MBK {node.mbk}, {expected.origin} is under MBK {expected.mbk}",
            "an HSM under another MBK is never overwritten: find out which MBK is the right one; the other HSM must be reset by hand, then restored",
        )
    ]


def check_pin_pad(node: str, pin_pads: t.Sequence[PinPad], wanted: str) -> list[Problem]:
    for pin_pad in pin_pads:
        if pin_pad.name == wanted:
            if pin_pad.status == "ready":
                return []
            return [
                Problem(
                    "pin_pad_not_ready",
                    node,
                    f"PIN pad {wanted} of {node} is {pin_pad.status}",
                    "connect it, and end what else uses it",
                )
            ]
    names = ", ".join(pin_pad.name for pin_pad in pin_pads) or "none"
    return [
        Problem(
            "pin_pad_not_configured",
            node,
            f"PIN pad {wanted} is not configured on {node}; configured: {names}",
            "choose one of these, or configure it in Webconf, page Security",
        )
    ]
