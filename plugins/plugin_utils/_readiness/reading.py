# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a cluster for readiness: the source, then only nodes that have joined. Private to keyops.utrust.

Nothing but GET is sent. EJBCA of each node is viewed once.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Limits
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations import cluster_info
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.access_rows import may_check_health
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.contact import contact_nodes, health_of_nodes

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import NodeView
    from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.contact import Contact, Health

Options = t.Mapping[str, t.Any]
_NOT_JOINED: t.Final = "node_not_joined"


class Readings(t.NamedTuple):
    """What was read. `nodes` has the validated options of each host, the source first. `error` is why the source was not read."""

    source: str
    nodes: dict[str, Options]
    cluster: ClusterReading | None
    error: UtrustError | None
    contacts: dict[str, Contact | UtrustError]
    health: dict[str, Health | UtrustError]
    #: Seconds of the reading of the cluster.
    elapsed: float

    def reading(self, host: str) -> NodeReading | None:
        readings = self.cluster.readings if self.cluster is not None else ()
        return next((each for each in readings if each.host == host), None)

    def view(self, host: str) -> NodeView | None:
        views = self.cluster.view.nodes if self.cluster is not None and self.cluster.view is not None else ()
        return next((each for each in views if each.host == host), None)

    def has_joined(self, host: str) -> bool:
        """Whether the node may be contacted. The source has joined, because the operator names it."""
        reading = self.reading(host)
        if host == self.source:
            return True
        return reading is not None and not (reading.problem is not None and reading.problem.code == _NOT_JOINED)


def read_all(params: Options, mark_failing: t.Callable[[ClusterReading], None]) -> Readings:
    """Read the cluster of validated options of utrust_cluster_info. `mark_failing` gets the reading before another request is sent."""
    source, began = params["source"], time.monotonic()
    by_host: dict[str, Options] = {node["inventory_host"]: node for node in params["nodes"]}
    nodes = {source: by_host[source], **by_host}
    readings = Readings(source, nodes, None, None, {}, {}, 0.0)
    try:
        cluster = cluster_info.read(params)
        mark_failing(cluster)
        readings = readings._replace(cluster=cluster)
    except UtrustError as exc:
        readings = readings._replace(error=exc)
    readings = readings._replace(elapsed=time.monotonic() - began)
    limits = Limits(params["max_parallel"], params["node_timeout"])
    joined = {host: node for host, node in nodes.items() if readings.has_joined(host)}
    with_health = {host: node for host, node in joined.items() if may_check_health(readings.view(host))}
    return readings._replace(contacts=contact_nodes(joined, limits), health=health_of_nodes(with_health, limits))
