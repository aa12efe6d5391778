# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a node against the source and of the members of a cluster, each rule once. Private to keyops.utrust.

Sources of the rules: Keyfactor's documentation (cluster configuration, add a node, restore, availability levels) and Utimaco's guides.
"""

from __future__ import annotations

import collections
import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    VIEW_REMEDY,
    check_family,
    check_mbk_known,
    describe_state,
    driver_stopped,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node

#: What a run does to a cluster, because an HSM in Factory Reset Mode is a problem for one operation and the start of the other.
KEY_SYNC, INITIAL_SYNC, RENEW_CA = "key_sync", "initial_sync", "renew_ca"
EXTERNAL_ERASE = "external_erase"
#: Restarts after an import that do not disconnect the node from its cluster. Every other value counts as a restart of the node.
RESTARTS_WITHOUT_OUTAGE = ("nothing", "driver")


def check_quorum(node: Node, *, leaving: str | None = None) -> tuple[int, list[Problem]]:
    """Return how many more members may be down at once, as the node lists its members, and the problem if this number is zero.

    A cluster without quorum goes to maintenance (Keyfactor's documentation, availability levels). At most (n-1)//2 of all n members may be down at once.
    Members that are already down count. The member `leaving` does not count, because it is the one that may go down now.
    """
    joined = [member for member in node.members if member.joined]
    down = [member.node for member in joined if not member.up and member.node != leaving]
    limit = (len(joined) - 1) // 2
    if limit - len(down) >= 1:
        return limit - len(down), []
    names = f" Already down: {', '.join(down)}." if down else ""
    text = (
        f"a node may restart during the import, and this cluster of {len(joined)} node(s) would lose its quorum.{names} "
        f"At most {limit} node(s) may be down at once"
    )
    remedy = (
        "connect all nodes first. If an outage is acceptable, for example for a cluster of two nodes in a maintenance window, "
        "set allow_outage: true"
    )
    return limit - len(down), [Problem("quorum_at_risk", node.name, text, remedy)]


def check_outage(node: Node, *, allow_outage: bool) -> list[Problem]:
    """Check that the cluster keeps its quorum if the node restarts because of an import. The node lists the members itself, right before the import."""
    if allow_outage or node.import_behavior.restart in RESTARTS_WITHOUT_OUTAGE:
        return []
    return check_quorum(node, leaving=node.name)[1]


def check_members_connected(source: Node) -> list[Problem]:
    """Check that the source sees every joined member as Connected."""
    return [
        Problem(
            "member_disconnected",
            member.node,
            f"{member.node} is not Connected, as {source.name} reports",
            f"start {member.node} and check its network",
        )
        for member in source.members
        if member.joined and not member.up
    ]


def check_members_managed(source: Node, unmanaged_members: t.Iterable[str]) -> list[Problem]:
    """Report each joined member that is not a host of this run."""
    return [
        Problem(
            "member_not_in_inventory",
            name,
            f"{name} is a joined member, as {source.name} reports, but no host of the play is this node",
            f"add {name} to the inventory and to the hosts of this play (utrust_hosts), or name it in the ignored members",
        )
        for name in unmanaged_members
    ]


def check_no_node_twice(nodes: t.Mapping[str, Node]) -> list[Problem]:
    """Check that no two hosts are the same node. A node is its cluster, its own name and the serial number of its HSM."""
    hosts: dict[tuple[str, str, str], list[str]] = collections.defaultdict(list)
    for host, node in nodes.items():
        hosts[(node.cluster_id, node.name, node.hsm_serial)].append(host)
    return [
        Problem(
            "node_duplicate",
            same[1],
            f"the hosts {' and '.join(same)} are the same node {name} with HSM {serial}",
            "keep one of these hosts in the inventory",
        )
        for (dummy, name, serial), same in hosts.items()
        if len(same) > 1
    ]


def check_source(source: Node) -> list[Problem]:
    """Check that the HSM of the source can give its keys."""
    problems = check_family(source)
    if source.hsm_state == "operational" and not driver_stopped(source) and source.mbk is not None:
        return problems
    mbk = "has an MBK" if source.mbk is not None else "has no known MBK"
    text = (
        f"the HSM of the source {source.name} is {describe_state(source)}, its driver is {source.driver}, and it {mbk}"
    )
    return [*problems, Problem("source_not_ready", source.name, text, "make the HSM of the source operational first")]


def check_cards(source: Node, cards_available: int | None) -> list[Problem]:
    """Check that enough MBK cards are available. Without a number, or if the node does not report m and n, nothing is checked."""
    needed = source.mbk.m if source.mbk is not None else None
    if cards_available is None or needed is None or cards_available >= needed or source.mbk is None:
        return []
    text = f"{cards_available} MBK card(s) are available, but {needed} of {source.mbk.n} are required"
    return [Problem("not_enough_cards", source.name, text, "call more card holders before you start")]


def check_hsm_serial(node: Node, read: str | None) -> list[Problem]:
    """Check the serial number that the card holders read at the front display. None: they read none."""
    if read in (None, node.hsm_serial):
        return []
    text = f"the HSM of {node.name} has the serial number {node.hsm_serial}, but the card holders read {read}"
    remedy = "check that this is the correct appliance. Do not insert a card until the serial numbers match"
    return [Problem("hsm_serial_mismatch", node.name, text, remedy)]


def check_state(node: Node, operation: str) -> list[Problem]:
    """Check the state of the HSM of a target."""
    if node.hsm_state == "alarm":
        if node.alarm_code == EXTERNAL_ERASE:
            if operation == INITIAL_SYNC:
                return []
            text = f"the HSM of {node.name} was erased on purpose"
            remedy = "find out who erased the HSM, acknowledge the alarm in Webconf, then restore the HSM"
            return [Problem("hsm_erased", node.name, text, remedy)]
        text = f"the HSM of {node.name} is {describe_state(node)}"
        remedy = (
            "find out the cause before you use, reset or restore this HSM, because an alarm can be a sign of tampering"
        )
        return [Problem("hsm_alarm", node.name, text, remedy)]
    if node.hsm_state == "operational":
        return check_mbk_known(node)
    if node.sees_only_ejbca and node.hsm_state == UNKNOWN:
        if operation == INITIAL_SYNC:
            return []  # people look at the state before they click
        text = f"the EJBCA view of {node.name} shows no active crypto token, so nobody knows the state of its HSM"
        return [Problem("hsm_state_unknown", node.name, text, VIEW_REMEDY)]
    if node.hsm_state == "factory_reset" and operation == INITIAL_SYNC:
        return []
    text = f"the HSM of {node.name} is {describe_state(node)}"
    remedy = (
        "restore the HSM first (initial_sync)"
        if node.hsm_state == "factory_reset"
        else "make the HSM operational in Webconf, page Security"
    )
    return [Problem("hsm_not_operational", node.name, text, remedy)]


def check_settings(node: Node, source: Node) -> list[Problem]:
    """Check FIPS mode, and label and activation mode of each slot that both nodes have. An unknown value is not compared."""
    problems = []
    if node.fips is not None and source.fips is not None and node.fips != source.fips:
        text = f"FIPS mode of {node.name} is {_on_off(node.fips)}, but of {source.name} it is {_on_off(source.fips)}"
        problems.append(Problem("fips_mode_mismatch", node.name, text, "use the same FIPS mode on all nodes"))
    if node.sees_only_ejbca:
        return problems  # all nodes read the settings of crypto tokens from one database
    expected = {slot.slot: slot for slot in source.slots}
    for slot in node.slots:
        other = expected.get(slot.slot)
        if other is None:
            continue
        differing = [("label", slot.label, other.label)] if slot.label != other.label else []
        if slot.activation != other.activation and UNKNOWN not in (slot.activation, other.activation):
            differing.append(("activation mode", slot.activation, other.activation))
        for name, actual, on_source in differing:
            text = f"slot {slot.slot} of {node.name} has the {name} {actual}, but on {source.name} it is {on_source}"
            remedy = "configure this slot in the same way on all nodes"
            problems.append(Problem("slot_mismatch", node.name, text, remedy))
    return problems


def check_certificate(node: Node, min_days: float, now: datetime.datetime) -> list[Problem]:
    """Check the TLS certificate of the node. A node that reports no end is not checked, an end that is not a time is a problem."""
    if node.tls_expires_at is None:
        return []
    remedy = "renew the certificate, and add its fingerprint to tls_fingerprint before the node uses it"
    expires = parse_time(node.tls_expires_at)
    if expires is None:
        text = f"the end of the TLS certificate of {node.name} is {node.tls_expires_at!r:.80}, which is not a time with a time zone"
        return [Problem("certificate_end_invalid", node.name, text, "check the certificate of the node in Webconf")]
    if (expires - now).total_seconds() >= min_days * 86400:
        return []
    text = f"the TLS certificate of {node.name} expires at {node.tls_expires_at}, in less than {min_days:g} days"
    return [Problem("certificate_expiring", node.name, text, remedy)]


def check_view_complete(node: Node, source_keys: t.Iterable[HsmKey]) -> list[Problem]:
    """Check that the EJBCA view of a node can show each key of the source: in an inactive crypto token its keys are unknown, and not missing."""
    if not node.sees_only_ejbca or not node.slots:
        return []  # the reading of the view is the problem then
    slots = {slot.slot: slot for slot in node.slots}
    problems = []
    for number in sorted({key.slot for key in source_keys}):
        slot = slots.get(number)
        if slot is None:
            text = f"EJBCA of {node.name} lists no crypto token on slot {number}, on which the source has keys"
            remedy = "let the reader view the crypto token, and check the database of the cluster"
            problems.append(Problem("crypto_token_missing", node.name, text, remedy))
        elif slot.activated is False:
            text = f"crypto token {slot.label} of {node.name} is inactive, so its keys are unknown, but the source has keys on slot {number}"
            problems.append(Problem("crypto_token_inactive", node.name, text, "activate the crypto token on this node"))
    return problems


def check_same_scope(node: Node, source: Node) -> list[Problem]:
    """Check that the keys of both nodes are comparable: all keys of an HSM cannot be compared with those that EJBCA shows."""
    if node.key_scope == source.key_scope:
        return []
    text = f"{node.name} has transport {node.transport}, but the source {source.name} has transport {source.transport}"
    return [Problem("transport_mismatch", node.name, text, "use one transport for all nodes of a cluster")]


def check_backup(node: Node, max_hours: float | None, now: datetime.datetime) -> list[Problem]:
    """Check the age of the last backup. Without `max_hours`, and for an HSM in Factory Reset Mode, nothing is checked."""
    if max_hours is None or node.hsm_state == "factory_reset":
        return []
    remedy = f"make a backup of {node.name}, or confirm a backup manually with your name and a reason"
    made = parse_time(node.last_backup_at)
    if made is None:
        text = f"the node {node.name} does not report the time of its last backup"
        return [Problem("backup_unknown", node.name, text, remedy)]
    if (now - made).total_seconds() <= max_hours * 3600:
        return []
    text = f"the last backup of {node.name} is from {node.last_backup_at}, more than {max_hours:g} h ago"
    return [Problem("backup_too_old", node.name, text, remedy)]


def parse_time(text: str | None) -> datetime.datetime | None:
    """Return a time with a time zone, or None if the text is not one."""
    try:
        time = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else None


def _on_off(value: bool) -> str:
    return "on" if value else "off"
