# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of one node. Each check returns all problems at once. Private to keyops.utrust.

The rules are from Keyfactor's documentation (cluster configuration, restore, add a node) and from Utimaco's guides.
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Mbk, Node, PinPad

SUPPORTED_HSM = "u.trust"
STATES = {
    "factory_reset": "in Factory Reset Mode",
    "operational": "operational",
    "alarm": "in alarm",
    "maintenance": "in maintenance",
}


class SourceFacts(t.NamedTuple):
    """Facts of the source that must match those of a target. `origin` names the source or its package in messages."""

    origin: str
    cluster_id: str
    appliance_version: str
    hsm_firmware: str
    mbk: Mbk


def why_not_ready(node: Node) -> str | None:
    """Return why the node cannot use its keys yet after a restart, or None."""
    return None if node.driver == "running" else f"the HSM driver is {node.driver}"


def describe_state(node: Node) -> str:
    """Return the state of the HSM as text for messages."""
    return STATES.get(node.hsm_state, node.hsm_state) + (f" ({node.alarm})" if node.alarm else "")


def check_identity(node: Node, expect_node: str | None) -> list[Problem]:
    """Check the name of the node and the model of its HSM. Without `expect_node` every name is accepted."""
    problems = []
    if expect_node is not None and node.name != expect_node:
        text = f"the node at this address is {node.name}, not {expect_node}"
        remedy = "correct host in the inventory, or expect_node"
        problems.append(Problem("node_name_mismatch", node.name, text, remedy))
    if SUPPORTED_HSM not in node.hsm_model:
        text = f"the HSM model {node.hsm_model} is not supported"
        remedy = "exclude this node, because the collection supports Utimaco u.trust HSMs only"
        problems.append(Problem("hsm_not_supported", node.name, text, remedy))
    return problems


def check_ready(node: Node) -> list[Problem]:
    """Check that the HSM can export or import a package."""
    problems = []
    if node.hsm_state != "operational":
        text = f"the HSM of {node.name} is {describe_state(node)}"
        remedy = "make the HSM operational in Webconf, page Security"
        if node.hsm_state == "factory_reset":
            remedy = "restore the HSM first (utrust_hsm_restore)"
        problems.append(Problem("hsm_not_operational", node.name, text, remedy))
    elif node.mbk is None:
        text = f"the HSM of {node.name} has no MBK"
        problems.append(Problem("mbk_missing", node.name, text, "generate the MBK, or restore it with the MBK cards"))
    return problems + check_driver_and_jobs(node)


def check_driver_and_jobs(node: Node) -> list[Problem]:
    """Check that the HSM driver runs and that no job uses the HSM."""
    problems = []
    if node.driver != "running":
        text = f"the HSM driver of {node.name} is {node.driver}"
        problems.append(Problem("driver_stopped", node.name, text, "start the driver in Webconf, page Services"))
    if node.running is not None:
        kind, job = node.running
        text = f"{kind} {job} is running on {node.name}"
        remedy = f"wait for the end of the {kind} or cancel it, then run again"
        problems.append(Problem(f"{kind}_in_progress", node.name, text, remedy))
    return problems


def clock_skew(node: Node) -> float | None:
    """Return the difference between the clocks of the node and this machine in seconds, or None if the time of the node is invalid.

    The difference is correct only right after the node was read.
    """
    try:
        shown = datetime.datetime.fromisoformat(node.clock)
        return abs((shown - datetime.datetime.now(datetime.UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def node_facts(node: Node) -> dict[str, t.Any]:
    """Return the node for results, with its clock skew."""
    return {**node.to_dict(), "clock_skew": clock_skew(node)}


def check_clock(node: Node, max_skew: float) -> list[Problem]:
    """Check the clock of the node against the clock of this machine. `max_skew` is in seconds."""
    return check_clock_skew(node.name, node.clock, clock_skew(node), max_skew)


def check_clock_skew(name: str, clock: str, skew: float | None, max_skew: float) -> list[Problem]:
    """Check a clock skew that was read before. Times are in seconds."""
    if skew is not None and skew <= max_skew:
        return []
    text = f"the clock of {name} shows {clock!r}, which is not a time with a time zone"
    if skew is not None:
        text = f"the clock of {name} differs by {skew:.0f} s from this machine (allowed: {max_skew:g} s)"
    return [Problem("clock_skew", name, text, "set up NTP on the node and on this machine, or raise max_clock_skew")]


def check_compatibility(node: Node, source: SourceFacts) -> list[Problem]:
    """Check cluster, appliance version and HSM firmware. The vendor does not support different versions in a cluster."""
    problems = []
    other_cluster = "check the address of the node in the inventory, and the source"
    update = "update the nodes to the same version before you synchronize keys"
    for code, label, actual, expected, remedy in (
        ("cluster_mismatch", "cluster", node.cluster_id, source.cluster_id, other_cluster),
        ("appliance_version_mismatch", "appliance version", node.appliance_version, source.appliance_version, update),
        ("hsm_firmware_mismatch", "HSM firmware", node.hsm_firmware, source.hsm_firmware, update),
    ):
        if actual != expected:
            text = f"the {label} of {node.name} is {actual}, but {source.origin} has {expected}"
            problems.append(Problem(code, node.name, text, remedy))
    return problems


def check_mbk(node: Node, source: SourceFacts) -> list[Problem]:
    """Check that the HSM has the MBK of the source. An HSM without an MBK is a problem of `check_ready`."""
    if node.mbk is None or node.mbk.same_as(source.mbk):
        return []
    text = f"the HSM of {node.name} has MBK {node.mbk}, but {source.origin} has MBK {source.mbk}"
    remedy = (
        "find out which MBK is correct, then reset the other HSM manually and restore it. "
        "The collection never overwrites an HSM with another MBK"
    )
    return [Problem("mbk_mismatch", node.name, text, remedy)]


def check_pin_pad(node: str, pin_pads: t.Sequence[PinPad], name: str) -> list[Problem]:
    """Check that the PIN pad with this name is configured and ready."""
    for pin_pad in pin_pads:
        if pin_pad.name == name:
            if pin_pad.status == "ready":
                return []
            text = f"PIN pad {name} of {node} is {pin_pad.status}"
            return [Problem("pin_pad_not_ready", node, text, "connect the PIN pad, and end other jobs that use it")]
    names = ", ".join(pin_pad.name for pin_pad in pin_pads) or "none"
    text = f"PIN pad {name} is not configured on {node} (configured: {names})"
    remedy = "choose a configured PIN pad, or configure this PIN pad in Webconf, page Security"
    return [Problem("pin_pad_not_configured", node, text, remedy)]
