# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Judge a cluster before anything is changed: every problem of every node at once. Private to keyops.utrust.

The rules of a single node are in module_utils/_preflight. Pure functions.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import (
    INITIAL_SYNC,
    KEY_SYNC,
    RENEW_CA,
    check_backup,
    check_cards,
    check_certificate,
    check_hsm_serial,
    check_members_connected,
    check_members_managed,
    check_no_node_twice,
    check_settings,
    check_source,
    check_state,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    SourceFacts,
    check_clock_skew,
    check_compatibility,
    check_complete_keys,
    check_driver_and_jobs,
    check_mbk,
)

if t.TYPE_CHECKING:
    import datetime

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading
    from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem


class PreflightOptions(t.NamedTuple):
    """What the operator requires. Times have their unit in the name. `max_backup_hours` None means that backups are not checked.

    `confirmed_backups` are names of nodes. `managed` are the names of nodes that are hosts of this run, also outside of --limit.
    """

    operation: str = KEY_SYNC
    max_clock_skew: float = 60.0
    min_certificate_days: float = 14.0
    max_backup_hours: float | None = None
    confirmed_backups: frozenset[str] = frozenset()
    cards_available: int | None = None
    managed: frozenset[str] = frozenset()
    ignored_members: frozenset[str] = frozenset()
    #: Serial numbers by inventory host, as the card holders read them at the front display.
    hsm_serials: t.Mapping[str, str] = {}
    #: A rollout counts members that are down against the quorum, so for a rollout they are not a problem of their own.
    members_may_be_down: bool = False


def unmanaged_members(source: Node, options: PreflightOptions) -> list[str]:
    """Return the joined members that are not a host of this run and are not ignored."""
    known = {source.name, *options.managed, *options.ignored_members}
    return [member.node for member in source.members if member.joined and member.node not in known]


def check_cluster(reading: ClusterReading, options: PreflightOptions, now: datetime.datetime) -> list[Problem]:
    """Return every problem of every node, those of the members and of the source first."""
    source = reading.source_node
    nodes = {each.host: each.node for each in reading.readings if each.node is not None}
    problems = [
        *([] if options.members_may_be_down else check_members_connected(source)),
        *check_members_managed(source, unmanaged_members(source, options)),
        *check_no_node_twice(nodes),
        *check_source(source),
        *check_driver_and_jobs(source),
    ]
    if options.operation == RENEW_CA:
        problems += check_complete_keys(source)
    if options.operation == INITIAL_SYNC:
        problems += check_cards(source, options.cards_available)
    for each in reading.readings:
        problems += _check_node(each, source, options, now)
    return _without_duplicates(problems)


def _check_node(reading: NodeReading, source: Node, options: PreflightOptions, now: datetime.datetime) -> list[Problem]:
    node = reading.node
    problems = [reading.problem] if reading.problem is not None else []
    if node is None:
        return problems
    problems += [
        *check_clock_skew(node.name, node.clock, reading.clock_skew, options.max_clock_skew),
        *check_certificate(node, options.min_certificate_days, now),
    ]
    if node.name not in options.confirmed_backups:
        problems += check_backup(node, options.max_backup_hours, now)
    if node is source:
        return problems
    problems += [*check_state(node, options.operation), *check_settings(node, source)]
    if options.operation != INITIAL_SYNC or node.running is None or node.running[0] != "restore":
        problems += check_driver_and_jobs(node)  # a running restore is watched to its end
    problems += check_hsm_serial(node, options.hsm_serials.get(reading.host))
    facts = source_facts(source)
    problems += check_compatibility(node, facts)
    return problems + (check_mbk(node, facts) if source.mbk is not None else [])


def source_facts(source: Node) -> SourceFacts:
    return SourceFacts(
        f"the source {source.name}",
        source.cluster_id,
        source.appliance_version,
        source.hsm_firmware,
        t.cast(t.Any, source.mbk),
    )


def _without_duplicates(problems: t.Iterable[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


def node_states(reading: ClusterReading) -> dict[str, dict[str, t.Any]]:
    """Return the state of each node by its inventory host, for a comparison after the run. A node that was not read has no state."""
    return {
        each.host: {
            "name": each.name,
            "hsm_state": each.node.hsm_state if each.node is not None else None,
            "keys_digest": each.node.keys_digest if each.node is not None else None,
        }
        for each in reading.readings
    }


def problems_result(action: str, problems: t.Sequence[Problem]) -> dict[str, t.Any]:
    """Return the result of an action that found these problems: one line for each problem, so that every output shows a list."""
    if not problems:
        return {"msg": f"{action}: no problems found", "problems": [], "codes": []}
    nodes = list(dict.fromkeys(problem.node for problem in problems))
    return {
        "failed": True,
        "msg": f"{action}: {len(problems)} problem(s) on {', '.join(nodes)}. Nothing was changed",
        "code": problems[0].code,
        "codes": list(dict.fromkeys(problem.code for problem in problems)),
        "problems": [problem.line for problem in problems],
        "_ansible_verbose_always": True,
    }
