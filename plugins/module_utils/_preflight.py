# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What speaks against an operation: every problem at once, as pure functions. Private to keyops.utrust.

The rules and their sources: Keyfactor's documentation (cluster configuration, restore, add a node) and Utimaco's guides.
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance import UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import HsmKey, Mbk, Node, PinPad
    from ansible_collections.keyops.utrust.plugins.module_utils._inventory import Difference
    from ansible_collections.keyops.utrust.plugins.module_utils._manifest import Manifest

PRODUCT_IN_SCOPE = "u.trust"
STATES = {
    "factory_reset": "in Factory Reset Mode",
    "operational": "operational",
    "alarm": "in alarm",
    "maintenance": "in maintenance",
}


class Expected(t.NamedTuple):
    """What a target must have in common with the source node."""

    origin: str
    cluster_id: str
    appliance_version: str
    hsm_firmware: str
    mbk: Mbk


def state_in_words(node: Node) -> str:
    return STATES.get(node.hsm_state, node.hsm_state) + (f" ({node.alarm})" if node.alarm else "")


def problems_of_identity(node: Node, expect_node: str | None) -> list[Problem]:
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


def problems_of_readiness(node: Node) -> list[Problem]:
    """Whatever keeps an HSM from giving or taking a package."""
    problems = []
    if node.hsm_state != "operational":
        remedy = (
            "restore it first (utrust_hsm_restore)"
            if node.hsm_state == "factory_reset"
            else "bring it back to operation in Webconf, page Security"
        )
        problems.append(
            Problem("hsm_not_operational", node.name, f"the HSM of {node.name} is {state_in_words(node)}", remedy)
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
    return problems + problems_of_service(node)


def problems_of_service(node: Node) -> list[Problem]:
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


def facts_of(node: Node) -> dict[str, t.Any]:
    """The node as results tell it, with how far its clock is off."""
    return {**node.public(), "clock_skew": clock_skew(node)}


def problems_of_clock(node: Node, max_skew: float) -> list[Problem]:
    """Clocks must agree (NTP); the node's is compared with this machine's, `max_skew` is in seconds."""
    return problem_of_skew(node.name, node.clock, clock_skew(node), max_skew)


def problem_of_skew(name: str, clock: str, skew: float | None, max_skew: float) -> list[Problem]:
    if skew is not None and skew <= max_skew:
        return []
    text = f"the clock of {name} says {clock!r}, which is no time with a zone"
    if skew is not None:
        text = f"the clock of {name} differs by {skew:.0f} s from this machine's, at most {max_skew:g} s are allowed"
    return [Problem("clock_skew", name, text, "set up NTP on the node and on this machine, or raise max_clock_skew")]


def problems_of_fit(node: Node, expected: Expected) -> list[Problem]:
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


def problem_of_mbk(node: Node, expected: Expected) -> list[Problem]:
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


def problems_of_package(measured: tuple[int, str] | None, manifest: Manifest, path: str) -> list[Problem]:
    """Whether the file is the one that the manifest describes."""
    remedy = "export the package again"
    if measured is None:
        return [Problem("package_missing", manifest.source, f"there is no package {path}", remedy)]
    size, sha256 = measured
    if manifest.size is not None and size < manifest.size:
        return [
            Problem(
                "package_truncated",
                manifest.source,
                f"{path} has {size} of the {manifest.size} bytes that its manifest names",
                remedy,
            )
        ]
    if sha256 != manifest.sha256:
        return [
            Problem(
                "package_digest_mismatch",
                manifest.source,
                f"{path} has the digest {sha256}, its manifest names {manifest.sha256}",
                remedy,
            )
        ]
    return []


class Policy(t.NamedTuple):
    """What the operator allows an import to do; all are fingerprints. `expected_new_keys` None means: any key may be added."""

    keep_extra: bool
    allowed_extra_keys: frozenset[str]
    destroyed_keys: frozenset[str]
    expected_new_keys: frozenset[str] | None
    allow_replace: frozenset[str]
    declared_effect: str | None = None


def problems_of_difference(node: str, source: str, difference: Difference, policy: Policy) -> list[Problem]:
    """Keys that would be lost, overwritten or brought back from the dead."""
    problems: list[Problem] = []

    def add(code: str, key: HsmKey, text: str, remedy: str) -> None:
        problems.append(Problem(code, node, f"{key} {text}", remedy))

    if not policy.keep_extra:
        for key in difference.extra:
            if key.fingerprint not in policy.allowed_extra_keys:
                add(
                    "extra_keys",
                    key,
                    f"is on {node} only, not on {source}",
                    "it exists once and is at risk: synchronize from the node that has it, or allow it with extra_keys: keep or allowed_extra_keys",
                )
    for pair in difference.mismatched:
        if pair.source_key.fingerprint not in policy.allow_replace:
            add(
                "key_mismatch",
                pair.target_key,
                f"on {node} is another key than {pair.source_key.fingerprint} (id {pair.source_key.id}) under the same label on {source}",
                "find out which one is in use; to overwrite the target's, name the source's fingerprint in replace, with a reason",
            )
    arriving = [*difference.missing, *(pair.source_key for pair in difference.mismatched)]
    for key in arriving:
        if key.fingerprint in policy.destroyed_keys:
            add(
                "destroyed_key_would_return",
                key,
                f"was retired, {node} does not hold it, and {source} would bring it back",
                f"destroy it on {source}, or take it off the retired list",
            )
        if policy.expected_new_keys is not None and key.fingerprint not in policy.expected_new_keys:
            add(
                "key_not_expected",
                key,
                f"would be new on {node} and is not in expected_new_keys",
                "find out who generated it; add its fingerprint to expected_new_keys if it is wanted",
            )
    return problems


def problems_of_behavior(node: Node, difference: Difference, policy: Policy) -> list[Problem]:
    """What the operator allows, and imports of this node would not do so, or nobody knows whether they would."""
    told, declared = node.import_behavior, policy.declared_effect
    if declared is not None and told.effect not in (UNKNOWN, declared):
        text = f"imports of {node.name} are {told.effect}, as it says itself, not {declared}"
        return [Problem("import_effect_mismatch", node.name, text, "take import_effect away, or correct it")]
    if not (difference.missing or difference.mismatched):
        return []  # nothing would be imported
    effect = told.effect if told.effect != UNKNOWN else declared or UNKNOWN
    deletions = told.deletions if told.deletions != UNKNOWN or declared is None else "stay"
    unknown = (
        f"and nobody knows what an import does to it on {node.name}",
        "find it out on a node that takes no requests, then declare it with import_effect; or synchronize this key by hand first",
    )
    extra = [key for key in difference.extra if policy.keep_extra or key.fingerprint in policy.allowed_extra_keys]
    replaced = [
        pair.target_key for pair in difference.mismatched if pair.source_key.fingerprint in policy.allow_replace
    ]
    problems = []
    for key in extra:
        if effect == "replacing" or deletions == "travel":
            text = f"{key} is on {node.name} only and is to stay, but an import would remove it: "
            text += "it replaces all keys" if effect == "replacing" else "deletions travel with the keys"
            remedy = "it exists once: synchronize from the node that has it first"
            problems.append(Problem("extra_keys_would_be_lost", node.name, text, remedy))
        elif UNKNOWN in (effect, deletions):
            text = f"{key} is on {node.name} only and is to stay, {unknown[0]}"
            problems.append(Problem("import_effect_unknown", node.name, text, unknown[1]))
    for key in replaced:
        if effect == "additive":
            text = f"{key} is to be replaced, but imports of {node.name} only add: both would be there"
            remedy = f"destroy it on {node.name} by hand when you are sure, then run again"
            problems.append(Problem("key_not_replaceable", node.name, text, remedy))
        elif effect == UNKNOWN:
            problems.append(
                Problem("import_effect_unknown", node.name, f"{key} is to be replaced, {unknown[0]}", unknown[1])
            )
    return problems


def problems_of_pin_pad(node: str, pin_pads: t.Sequence[PinPad], wanted: str) -> list[Problem]:
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
