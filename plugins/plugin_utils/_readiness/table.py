# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All rows of readiness. Pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import check_no_node_twice
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.access_rows import (
    certificate_rows,
    duplicates_of,
    ejbca_rows,
    health_row,
    identity_row,
    login_row,
    route_rows,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.node_rows import (
    NodeContext,
    Rules,
    fact_rows,
    not_contacted,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.rows import NOT_CHECKED, Row, refused_by

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
    from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.access_rows import Certificates
    from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.reading import Readings


class Given(t.NamedTuple):
    """What the inventory has of a host: its page map, and its client certificates by account."""

    page_map: t.Any
    certificates: Certificates


def node_table(readings: Readings, given: t.Mapping[str, Given], rules: Rules) -> list[Row]:
    """Return the rows of all nodes, the source first."""
    duplicates = duplicates_of(readings.contacts, {host: node["port"] for host, node in readings.nodes.items()})
    duplicates |= _same_nodes(readings)
    rows = []
    for host in readings.nodes:
        if readings.has_joined(host):
            rows += _rows_of(readings, host, given[host], duplicates, rules)
        else:
            reading = readings.reading(host)
            error: t.Any = reading.problem if reading is not None else readings.error
            rows.append(not_contacted(host, error, known=reading is not None))
    return rows


def _rows_of(readings: Readings, host: str, given: Given, duplicates: t.Mapping[str, str], rules: Rules) -> list[Row]:
    options, reading, view = readings.nodes[host], readings.reading(host), readings.view(host)
    source = readings.cluster.source_node if readings.cluster is not None else None
    time = view.server_time if view is not None else None
    context = NodeContext(host, options["transport"], given.page_map, reading, source, time, readings.elapsed)
    token = bool(options["bearer_token"])
    error = readings.error if host == readings.source else None
    return [
        *route_rows(host, readings.contacts[host], options["tls_fingerprint"] or (), rules),
        *certificate_rows(host, given.certificates, rules, token=token),
        _login(context, error),
        identity_row(context, view, duplicates),
        *fact_rows(context, rules),
        *ejbca_rows(context, view),
        health_row(host, readings.health.get(host)),
    ]


def _login(context: NodeContext, error: UtrustError | None) -> Row:
    if error is not None:
        return refused_by(context.host, "login", error)
    return login_row(context)


def _same_nodes(readings: Readings) -> dict[str, str]:
    """Return the reason for each host that is the same node as another host."""
    found = readings.cluster.readings if readings.cluster is not None else ()
    nodes = {each.host: each.node for each in found if each.node is not None}
    problems = check_no_node_twice(nodes)
    return {host: problem.text for problem in problems for host in nodes if f" {host} " in f" {problem.text} "}


def states_of(rows: t.Iterable[Row]) -> dict[str, dict[str, str]]:
    """Return the state of each step of each node, for the record."""
    states: dict[str, dict[str, str]] = {}
    for row in rows:
        states.setdefault(row.node, {})[row.step] = row.state
    return states


def unchecked(rows: t.Iterable[Row]) -> list[str]:
    """Return node and step of each row that nobody checked."""
    return [f"{row.node}: {row.step}" for row in rows if row.state == NOT_CHECKED]
