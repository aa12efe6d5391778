# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of one node. Each check returns all problems at once. Private to keyops.utrust.

The rules are from Keyfactor's documentation (cluster configuration, restore, add a node) and from Utimaco's guides.
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import KEY_LIST, UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Mbk, Node, PinPad
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance

SUPPORTED_FAMILY = "u_trust_anchor"
VIEW_REMEDY = "check EJBCA of the node and its crypto tokens, and the HSM in Webconf, page Security"
STATES = {
    "factory_reset": "in Factory Reset Mode",
    "operational": "operational",
    "alarm": "in alarm",
    "maintenance": "in maintenance",
    UNKNOWN: "in an unknown state",
}


class SourceFacts(t.NamedTuple):
    """Facts of the source that must match those of a target. `origin` names the source or its package in messages. None means unknown."""

    origin: str
    cluster_id: str
    appliance_version: str | None
    hsm_firmware: str | None
    mbk: Mbk


def why_not_ready(node: Node) -> str | None:
    """Return why the node cannot use its keys yet after a restart, or None."""
    return f"the HSM driver is {node.driver}" if driver_stopped(node) else None


def driver_stopped(node: Node) -> bool:
    """Whether the node reports that the HSM driver does not run. Unknown is not stopped, and a new value counts as unknown."""
    return node.driver == "stopped"


def describe_mbk(node: Node) -> str:
    """Return the MBK as text for messages. Only Factory Reset Mode shows that an HSM has no MBK."""
    if node.mbk is not None:
        return str(node.mbk)
    return "none" if node.hsm_state == "factory_reset" else UNKNOWN


def describe_count(count: int | None) -> str:
    """Return a number of keys as text for messages."""
    return "an unknown number of keys" if count is None else f"{count} key(s)"


def require_key_list(appliance: Appliance, action: str, effect: str) -> None:
    """Raise UtrustError (`capability_missing`) if the node cannot list its keys. `effect` says what is not possible then."""
    if KEY_LIST not in appliance.capabilities:
        raise UtrustError(
            f"{action}: the node cannot list its keys, {effect}. Nothing was changed. "
            "Synchronize this node manually in Webconf, page HSM, or use a bridge that can list keys",
            code="capability_missing",
        )


def read_keys(appliance: Appliance, node: str) -> tuple[HsmKey, ...]:
    """Return the keys of the HSM. Raises UtrustError (`keys_unknown`) if the node cannot list its keys."""
    if KEY_LIST not in appliance.capabilities:
        raise UtrustError(
            f"reading the keys of {node}: the node cannot list its keys, so they are unknown. Compare the keys of this node manually",
            code="keys_unknown",
        )
    return appliance.list_keys()


def check_complete_keys(node: Node) -> list[Problem]:
    """Check that the keys are all keys of the HSM. A key that EJBCA does not show can have the same label as a new key."""
    if not node.sees_only_ejbca:
        return []
    text = f"transport {node.transport} of {node.name} shows only the keys of EJBCA, so nobody knows which labels are in use in the HSM"
    remedy = "generate the key and renew the CA in EJBCA, and use key_sync and key_gate for the nodes"
    return [Problem("capability_missing", node.name, text, remedy)]


def describe_state(node: Node) -> str:
    """Return the state of the HSM as text for messages."""
    return STATES.get(node.hsm_state, node.hsm_state) + (f" ({node.alarm})" if node.alarm else "")


def check_identity(node: Node, expect_node: str | None) -> list[Problem]:
    """Check the name of the node and the family of its HSM. Without `expect_node` every name is accepted.

    A node that does not know the family can be read. `check_family` is for operations that change keys.
    """
    problems = []
    if expect_node is not None and node.name != expect_node:
        text = f"the node at this address is {node.name}, not {expect_node}"
        remedy = "correct host in the inventory, or expect_node"
        problems.append(Problem("node_name_mismatch", node.name, text, remedy))
    if node.hsm_family not in (SUPPORTED_FAMILY, UNKNOWN):
        text = f"the HSM of {node.name} ({node.hsm_model}, family {node.hsm_family}) is not supported"
        remedy = "exclude this node, because the collection supports Utimaco u.trust HSMs only"
        problems.append(Problem("hsm_not_supported", node.name, text, remedy))
    return problems


def check_family(node: Node) -> list[Problem]:
    """Check that the family of the HSM is known. `check_identity` rejects other families."""
    if node.hsm_family != UNKNOWN:
        return []
    text = f"the family of the HSM of {node.name} ({node.hsm_model}) is unknown"
    remedy = "configure the family in the bridge, because the collection supports Utimaco u.trust HSMs only"
    return [Problem("hsm_family_unknown", node.name, text, remedy)]


def check_ready(node: Node) -> list[Problem]:
    """Check that the HSM can export or import a package."""
    problems = check_family(node)
    if node.sees_only_ejbca and node.hsm_state == UNKNOWN:
        text = f"the EJBCA view of {node.name} shows no active crypto token, so nobody knows the state of its HSM"
        problems.append(Problem("hsm_state_unknown", node.name, text, VIEW_REMEDY))
    elif node.hsm_state != "operational":
        text = f"the HSM of {node.name} is {describe_state(node)}"
        remedy = "make the HSM operational in Webconf, page Security"
        if node.hsm_state == "factory_reset":
            remedy = "restore the HSM first (utrust_hsm_restore)"
        problems.append(Problem("hsm_not_operational", node.name, text, remedy))
    elif node.mbk is None:
        problems += check_mbk_known(node)
    return problems + check_driver_and_jobs(node)


def check_keys_known(node: Node) -> list[Problem]:
    """Check that the node reports the keys digest of an operational HSM. A node that can list its keys has none while the HSM does not respond."""
    if node.keys_digest is not None or node.hsm_state != "operational":
        return []
    text = f"the keys of {node.name} are unknown: the node does not report its keys digest"
    return [Problem("keys_unknown", node.name, text, "check the HSM of the node, then run again")]


def check_mbk_known(node: Node) -> list[Problem]:
    """Check that the node reports the MBK of an operational HSM."""
    if node.mbk is not None:
        return []
    text = f"the HSM of {node.name} has no MBK, or the node cannot determine its MBK"
    remedy = "generate the MBK, or restore it with the MBK cards"
    if node.sees_only_ejbca:
        text = f"the MBK of {node.name} is not declared"
        remedy = "read the name and the check value of the MBK, and declare both in utrust_declared"
    return [Problem("mbk_missing", node.name, text, remedy)]


def check_driver_and_jobs(node: Node) -> list[Problem]:
    """Check that the HSM driver runs and that no job uses the HSM."""
    problems = []
    if driver_stopped(node):
        text = f"the HSM driver of {node.name} is {node.driver}"
        problems.append(Problem("driver_stopped", node.name, text, "start the driver in Webconf, page Services"))
    if node.running is not None:
        kind = "job" if node.running[0] == UNKNOWN else node.running[0]
        text = f"{node.running_job} is running on {node.name}"
        remedy = f"wait for the end of the {kind} or cancel it, then run again"
        problems.append(Problem(f"{kind}_in_progress", node.name, text, remedy))
    return problems


def clock_skew(node: Node) -> float | None:
    """Return the difference between the clocks of the node and this machine in seconds, or None if the time of the node is unknown or invalid.

    The difference is correct only right after the node was read.
    """
    if node.clock is None:
        return None
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


def check_clock_skew(name: str, clock: str | None, skew: float | None, max_skew: float) -> list[Problem]:
    """Check a clock skew that was read before. Times are in seconds. A clock that the node does not report is not checked, as its certificate."""
    if clock is None or (skew is not None and skew <= max_skew):
        return []
    text = f"the clock of {name} shows {clock!r}, which is not a time with a time zone"
    if skew is not None:
        text = f"the clock of {name} differs by {skew:.0f} s from this machine (allowed: {max_skew:g} s)"
    return [Problem("clock_skew", name, text, "set up NTP on the node and on this machine, or raise max_clock_skew")]


def check_compatibility(node: Node, source: SourceFacts) -> list[Problem]:
    """Check cluster, appliance version and HSM firmware. The vendor does not support different versions in a cluster.

    A version that is unknown is a problem, because nobody knows whether it is the same.
    """
    problems = []
    other_cluster = "check the address of the node in the inventory, and the source"
    update = "update the nodes to the same version before you synchronize keys"
    for code, label, actual, expected, remedy in (
        ("cluster_mismatch", "cluster", node.cluster_id, source.cluster_id, other_cluster),
        ("appliance_version_mismatch", "appliance version", node.appliance_version, source.appliance_version, update),
        ("hsm_firmware_mismatch", "HSM firmware", node.hsm_firmware, source.hsm_firmware, update),
    ):
        if actual is None or expected is None:
            text = (
                f"the {label} of {node.name if actual is None else source.origin} is unknown, so it cannot be compared"
            )
            configure = "read the version in Webconf, and configure it in the bridge"
            if node.sees_only_ejbca:
                configure = "read the version in Webconf, and declare it in utrust_declared"
            problems.append(Problem("version_unknown", node.name, text, configure))
        elif actual != expected:
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
            # A node that does not know the status checks the PIN pad when the restore starts.
            if pin_pad.status not in ("busy", "unavailable"):
                return []
            text = f"PIN pad {name} of {node} is {pin_pad.status}"
            return [Problem("pin_pad_not_ready", node, text, "connect the PIN pad, and end other jobs that use it")]
    names = ", ".join(pin_pad.name for pin_pad in pin_pads) or "none"
    text = f"PIN pad {name} is not configured on {node} (configured: {names})"
    remedy = "choose a configured PIN pad, or configure this PIN pad in Webconf, page Security"
    return [Problem("pin_pad_not_configured", node, text, remedy)]
