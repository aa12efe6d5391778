# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What speaks against touching a cluster, judged over all its nodes at once: pure functions. Private to keyops.utrust.

The rules and their sources: Keyfactor's documentation (cluster configuration, add a node, restore, availability levels) and Utimaco's guides.
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import check_clock_skew
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.rollout import plan_rollout

Facts = t.Mapping[str, t.Any]


class PreflightOptions(t.NamedTuple):
    """What the operator declares and demands. None means: not looked at. Attested backups and forgotten members are names of nodes."""

    operation: str = "key_sync"
    max_clock_skew: float = 60.0
    min_certificate_days: float = 14.0
    max_backup_hours: float | None = None
    confirmed_backups: frozenset[str] = frozenset()
    cards_available: int | None = None
    allow_outage: bool = False
    unmanaged_members: tuple[str, ...] = ()


def check_cluster(
    source: Facts, nodes: t.Sequence[Facts], limits: PreflightOptions, now: datetime.datetime
) -> list[Problem]:
    """Every problem of every node, the source's and the members' first. `nodes` are targets, each as utrust_hsm_info tells it."""
    problems = [*check_members(source, nodes, limits), *check_source(source, limits)]
    for node in (source, *nodes):
        problems += check_clock_skew(node["name"], node["clock"], node["clock_skew"], limits.max_clock_skew)
        problems += [*check_certificate(node, limits, now), *check_backup(node, limits, now)]
    for node in nodes:
        problems += [*check_state(node, limits), *check_driver_and_jobs(node), *check_compatibility(source, node)]
    return problems


def check_members(source: Facts, nodes: t.Sequence[Facts], limits: PreflightOptions) -> list[Problem]:
    members = source["members"]
    problems = [
        Problem(
            "member_disconnected",
            member["node"],
            f"{member['node']} is not Connected, says {source['name']}",
            "bring it up first",
        )
        for member in members
        if member["joined"] and member["connection"] != "connected"
    ]
    problems += [
        Problem(
            "member_not_in_inventory",
            name,
            f"{name} joined the cluster, says {source['name']}, but is no host of the inventory, and would be forgotten",
            "add it to the inventory, or name it among those that are left out",
        )
        for name in limits.unmanaged_members
    ]
    if limits.operation == "key_sync":
        refusal = plan_rollout(
            [node["name"] for node in nodes], members=members, allow_outage=limits.allow_outage
        ).refusal
        if refusal:
            problems.append(Problem("quorum_at_risk", source["name"], refusal, "see above"))
    return problems


def check_source(source: Facts, limits: PreflightOptions) -> list[Problem]:
    name, problems = source["name"], check_driver_and_jobs(source)
    if source["hsm_state"] != "operational" or source["driver"] != "running" or not source["mbk"]:
        text = f"the HSM of the source {name} is {_state(source)}, its driver is {source['driver']}, its MBK is {'there' if source['mbk'] else 'missing'}"
        problems.append(Problem("source_not_ready", name, text, "bring the source back to operation first"))
    needed = (source["mbk"] or {}).get("m")
    if (
        limits.operation == "initial_sync"
        and limits.cards_available is not None
        and needed is not None
        and limits.cards_available < needed
    ):
        text = f"{limits.cards_available} MBK card(s) are at hand, {needed} out of {source['mbk']['n']} are needed"
        problems.append(Problem("not_enough_cards", name, text, "call more card holders before anything is started"))
    return problems


def check_certificate(node: Facts, limits: PreflightOptions, now: datetime.datetime) -> list[Problem]:
    expires = _time(node.get("tls_expires_at"))
    if expires is None or (expires - now).total_seconds() >= limits.min_certificate_days * 86400:
        return []
    text = f"the TLS certificate of {node['name']} expires at {node['tls_expires_at']}, in less than {limits.min_certificate_days:g} days"
    remedy = "renew it, and name the new fingerprint in tls_fingerprint before the node changes to it"
    return [Problem("certificate_expiring", node["name"], text, remedy)]


def check_backup(node: Facts, limits: PreflightOptions, now: datetime.datetime) -> list[Problem]:
    if (
        limits.max_backup_hours is None
        or node["name"] in limits.confirmed_backups
        or node["hsm_state"] == "factory_reset"
    ):
        return []
    made = _time(node.get("last_backup_at"))
    if made is not None and (now - made).total_seconds() <= limits.max_backup_hours * 3600:
        return []
    text = (
        f"the last backup of {node['name']} {'is of ' + node['last_backup_at'] if made else 'is not known to the node'}"
    )
    remedy = f"make a backup not older than {limits.max_backup_hours:g} h, or confirm one manually by name and reason"
    return [Problem("backup_too_old" if made else "backup_unknown", node["name"], text, remedy)]


def check_state(node: Facts, limits: PreflightOptions) -> list[Problem]:
    name, state = node["name"], node["hsm_state"]
    if state == "alarm":
        if node["alarm"] == "external_erase":
            remedy = "somebody erased it on purpose: make sure who, acknowledge the alarm in Webconf, then restore it (initial_sync)"
        else:
            remedy = "do not use, reset or restore this HSM before you know what happened: an alarm may mean that it was tampered with"
        code = "hsm_erased" if node["alarm"] == "external_erase" else "hsm_alarm"
        if code == "hsm_erased" and limits.operation == "initial_sync":
            return []
        return [Problem(code, name, f"the HSM of {name} is in alarm: {node['alarm']}", remedy)]
    wanted = ("operational",) if limits.operation == "key_sync" else ("operational", "factory_reset")
    if state not in wanted:
        remedy = (
            "restore it first (initial_sync)"
            if state == "factory_reset"
            else "bring it back to operation in Webconf, page Security"
        )
        return [Problem("hsm_not_operational", name, f"the HSM of {name} is {_state(node)}", remedy)]
    return []


def check_driver_and_jobs(node: Facts) -> list[Problem]:
    problems = []
    if node["driver"] != "running":
        text = f"the HSM driver of {node['name']} is {node['driver']}"
        problems.append(Problem("driver_stopped", node["name"], text, "start it in Webconf, page Services"))
    if node["running"]:
        text = f"{node['running']['kind']} {node['running']['id']} is running on {node['name']}"
        problems.append(
            Problem(f"{node['running']['kind']}_in_progress", node["name"], text, "let it end, or cancel it")
        )
    return problems


def check_compatibility(source: Facts, node: Facts) -> list[Problem]:
    """What must be equal on all nodes: versions, MBK, FIPS mode, and label and activation of each slot that both have."""
    name, problems = node["name"], []
    for code, what, fact in (
        ("cluster_mismatch", "cluster", "cluster_id"),
        ("appliance_version_mismatch", "appliance version", "appliance_version"),
        ("hsm_firmware_mismatch", "HSM firmware", "hsm_firmware"),
        ("fips_mode_mismatch", "FIPS mode", "fips"),
    ):
        if node[fact] != source[fact]:
            text = f"{what} of {name} is {node[fact]}, of {source['name']} {source[fact]}"
            problems.append(Problem(code, name, text, "make them equal before keys are moved"))
    if node["mbk"] and source["mbk"] and node["mbk"]["check_value"] != source["mbk"]["check_value"]:
        text = f"the HSM of {name} holds MBK {node['mbk']['name']} ({node['mbk']['check_value']}), {source['name']} another one"
        problems.append(
            Problem(
                "mbk_mismatch",
                name,
                text,
                "an HSM under another MBK is never overwritten: find out which MBK is the right one",
            )
        )
    wanted = {slot["slot"]: slot for slot in source["slots"]}
    for slot in node["slots"]:
        other = wanted.get(slot["slot"])
        for fact in ("label", "activation"):
            if other is not None and slot[fact] != other[fact]:
                text = f"slot {slot['slot']} of {name} has the {fact} {slot[fact]}, on {source['name']} {other[fact]}"
                problems.append(
                    Problem(
                        "slot_mismatch", name, text, "applications address keys by slot: make them equal on all nodes"
                    )
                )
    return problems


def _state(node: Facts) -> str:
    return {"factory_reset": "in Factory Reset Mode"}.get(node["hsm_state"], str(node["hsm_state"]))


def _time(text: t.Any) -> datetime.datetime | None:
    try:
        time = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else None
