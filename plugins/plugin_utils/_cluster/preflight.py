# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight of a cluster, over all nodes at once: pure functions. Private to keyops.utrust.

Sources of the rules: Keyfactor's documentation (cluster configuration, add a node, restore, availability levels) and Utimaco's guides.
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import check_clock_skew
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.rollout import QUORUM_REMEDY, quorum_risk

Facts = t.Mapping[str, t.Any]


class PreflightOptions(t.NamedTuple):
    """The options of the operator. None skips a check. `confirmed_backups` and `unmanaged_members` are names of nodes."""

    operation: str = "key_sync"
    max_clock_skew: float = 60.0
    min_certificate_days: float = 14.0
    max_backup_hours: float | None = None
    confirmed_backups: frozenset[str] = frozenset()
    cards_available: int | None = None
    allow_outage: bool = False
    unmanaged_members: tuple[str, ...] = ()


def check_cluster(
    source: Facts, nodes: t.Sequence[Facts], options: PreflightOptions, now: datetime.datetime
) -> list[Problem]:
    """Return every problem of every node, those of the members and of the source first. `nodes` are the targets, as utrust_hsm_info returns them."""
    problems = [*check_members(source, nodes, options), *check_source(source, options)]
    for node in (source, *nodes):
        problems += check_clock_skew(node["name"], node["clock"], node["clock_skew"], options.max_clock_skew)
        problems += [*check_certificate(node, options, now), *check_backup(node, options, now)]
    for node in nodes:
        problems += [*check_state(node, options), *check_driver_and_jobs(node), *check_compatibility(source, node)]
    return problems


def check_members(source: Facts, nodes: t.Sequence[Facts], options: PreflightOptions) -> list[Problem]:
    members = source["members"]
    problems = [
        Problem(
            "member_disconnected",
            member["node"],
            f"{source['name']} reports that member {member['node']} is not connected",
            "connect the member first",
        )
        for member in members
        if member["joined"] and member["connection"] != "connected"
    ]
    problems += [
        Problem(
            "member_not_in_inventory",
            name,
            f"{source['name']} reports that member {name} joined the cluster, but {name} is not a host of the Ansible inventory",
            "add the member to the inventory, or to the members that the run ignores",
        )
        for name in options.unmanaged_members
    ]
    if options.operation == "key_sync" and nodes and not options.allow_outage and (risk := quorum_risk(members)):
        problems.append(Problem("quorum_at_risk", source["name"], risk, QUORUM_REMEDY))
    return problems


def check_source(source: Facts, options: PreflightOptions) -> list[Problem]:
    name, problems = source["name"], check_driver_and_jobs(source)
    if source["hsm_state"] != "operational" or source["driver"] != "running" or not source["mbk"]:
        mbk = "present" if source["mbk"] else "missing"
        text = f"the source {name} is not ready: its HSM is {_describe_state(source)}, its driver is {source['driver']}, its MBK is {mbk}"
        problems.append(Problem("source_not_ready", name, text, "make the source operational first"))
    required = (source["mbk"] or {}).get("m")
    if (
        options.operation == "initial_sync"
        and options.cards_available is not None
        and required is not None
        and options.cards_available < required
    ):
        text = f"{options.cards_available} MBK card(s) are available, but {required} out of {source['mbk']['n']} are required"
        problems.append(Problem("not_enough_cards", name, text, "call more card holders before you start"))
    return problems


def check_certificate(node: Facts, options: PreflightOptions, now: datetime.datetime) -> list[Problem]:
    expires = _parse_time(node.get("tls_expires_at"))
    if expires is None or (expires - now).total_seconds() >= options.min_certificate_days * 86400:
        return []
    text = f"the TLS certificate of {node['name']} expires at {node['tls_expires_at']}, in less than {options.min_certificate_days:g} days"
    remedy = "renew the certificate, and set tls_fingerprint to its certificate fingerprint before the node uses it"
    return [Problem("certificate_expiring", node["name"], text, remedy)]


def check_backup(node: Facts, options: PreflightOptions, now: datetime.datetime) -> list[Problem]:
    if (
        options.max_backup_hours is None
        or node["name"] in options.confirmed_backups
        or node["hsm_state"] == "factory_reset"
    ):
        return []
    made = _parse_time(node.get("last_backup_at"))
    if made is not None and (now - made).total_seconds() <= options.max_backup_hours * 3600:
        return []
    text = (
        f"the last backup of {node['name']} is from {node['last_backup_at']}"
        if made
        else f"{node['name']} does not report the time of its last backup"
    )
    remedy = f"make a backup that is at most {options.max_backup_hours:g} h old, or confirm the backup manually with a name and a reason"
    return [Problem("backup_too_old" if made else "backup_unknown", node["name"], text, remedy)]


def check_state(node: Facts, options: PreflightOptions) -> list[Problem]:
    name, state = node["name"], node["hsm_state"]
    if state == "alarm":
        if node["alarm"] == "external_erase":
            code = "hsm_erased"
            remedy = "find out who erased the HSM on purpose, acknowledge the alarm in Webconf, and restore the HSM (initial_sync)"
        else:
            code = "hsm_alarm"
            remedy = (
                "do not use, reset or restore this HSM until you know the cause: an alarm may be a sign of tampering"
            )
        if code == "hsm_erased" and options.operation == "initial_sync":
            return []
        return [Problem(code, name, f"the HSM of {name} is in alarm: {node['alarm']}", remedy)]
    allowed = ("operational",) if options.operation == "key_sync" else ("operational", "factory_reset")
    if state not in allowed:
        remedy = (
            "restore the HSM first (initial_sync)"
            if state == "factory_reset"
            else "make the HSM operational in Webconf, page Security"
        )
        return [Problem("hsm_not_operational", name, f"the HSM of {name} is {_describe_state(node)}", remedy)]
    return []


def check_driver_and_jobs(node: Facts) -> list[Problem]:
    problems = []
    if node["driver"] != "running":
        text = f"the HSM driver of {node['name']} is {node['driver']}"
        problems.append(Problem("driver_stopped", node["name"], text, "start the driver in Webconf, page Services"))
    if job := node["running"]:
        text = f"{job['kind']} {job['id']} is running on {node['name']}"
        problems.append(
            Problem(f"{job['kind']}_in_progress", node["name"], text, f"wait for the {job['kind']}, or cancel it")
        )
    return problems


def check_compatibility(source: Facts, node: Facts) -> list[Problem]:
    """Check the facts that must be equal on all nodes: versions, MBK, FIPS mode, and label and activation of each slot that both nodes have."""
    name, problems = node["name"], []
    for code, subject, fact in (
        ("cluster_mismatch", "cluster", "cluster_id"),
        ("appliance_version_mismatch", "appliance version", "appliance_version"),
        ("hsm_firmware_mismatch", "HSM firmware", "hsm_firmware"),
        ("fips_mode_mismatch", "FIPS mode", "fips"),
    ):
        if node[fact] != source[fact]:
            text = f"the {subject} of {name} is {node[fact]}, the {subject} of {source['name']} is {source[fact]}"
            problems.append(Problem(code, name, text, "use the same value on all nodes before you synchronize keys"))
    if node["mbk"] and source["mbk"] and node["mbk"]["check_value"] != source["mbk"]["check_value"]:
        text = f"the HSM of {name} holds MBK {node['mbk']['name']} ({node['mbk']['check_value']}), but {source['name']} holds another MBK"
        remedy = "find out which MBK is correct, because the collection never overwrites an HSM that holds another MBK"
        problems.append(Problem("mbk_mismatch", name, text, remedy))
    source_slots = {slot["slot"]: slot for slot in source["slots"]}
    for slot in node["slots"]:
        source_slot = source_slots.get(slot["slot"])
        for fact in ("label", "activation"):
            if source_slot is not None and slot[fact] != source_slot[fact]:
                text = f"slot {slot['slot']} of {name} has the {fact} {slot[fact]}, but {source['name']} has {source_slot[fact]}"
                remedy = "make the slots equal on all nodes, because applications address keys by slot"
                problems.append(Problem("slot_mismatch", name, text, remedy))
    return problems


def _describe_state(node: Facts) -> str:
    return {"factory_reset": "in Factory Reset Mode"}.get(node["hsm_state"], str(node["hsm_state"]))


def _parse_time(text: t.Any) -> datetime.datetime | None:
    try:
        time = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else None
