# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read all nodes of a cluster and compare their keys with those of the source. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import (
    INCOMPLETE_TRANSPORTS,
    TRANSPORTS,
)
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_SPEC, Params, Spec, node_endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Limits
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import (
    ClusterReading,
    NodeAddress,
    read_cluster,
)
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_source import SharedView, view_source
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import UNREAD_OPTION, ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance

#: How the cluster is read. utrust_preflight and utrust_sync_plan have these options, too.
READ_SPEC: t.Final[Spec] = {
    "source": {"type": "str", "required": True},
    "hosts": {"type": "list", "elements": "str"},
    "max_parallel": {"type": "int", "default": 16},
    "node_timeout": {"type": "float", "default": 60.0},
}
#: Option of the modules that can read the EJBCA views, too.
VIEW_SPEC: t.Final[Spec] = {"ejbca_view": {"type": "bool", "default": False}}
NODE_SPEC: t.Final[Spec] = {
    "inventory_host": {"type": "str", "required": True},
    **{
        name: {key: value for key, value in option.items() if key != "fallback"}
        for name, option in CONNECTION_SPEC.items()
        if name != "members"
    },
    "ejbca": ejbca_option(required=False),
    "ejbca_unread": UNREAD_OPTION,
}
ARGUMENT_SPEC: t.Final[Spec] = {
    **READ_SPEC,
    **VIEW_SPEC,
    "nodes": {"type": "list", "elements": "dict", "options": NODE_SPEC},
    "keys": {"type": "bool", "default": True, "no_log": False},
}
RULES: t.Final[Spec] = {"required_one_of": [("hosts", "nodes")], "mutually_exclusive": [("hosts", "nodes")]}


def _open(node: Params) -> Appliance:
    if node["transport"] not in INCOMPLETE_TRANSPORTS and not node["client_cert"] and not node["bearer_token"]:
        raise UtrustError(
            f"reading {node['inventory_host']}: no credentials are set. Set client_cert, bearer_token or bearer_token_file for this node, "
            "for example in the variable utrust_client_cert",
            code="credentials_missing",
        )
    return TRANSPORTS[node["transport"]](node_endpoint(node), node)


def _address(node: Params, *, view: bool) -> NodeAddress:
    """Return how a node is read. Where its keys are those of its EJBCA view, the view is read once for both."""
    host = node["inventory_host"]
    name = node["expect_node"] or host
    if node["transport"] not in INCOMPLETE_TRANSPORTS:
        return NodeAddress(host, name, lambda: _open(node), view_source(host, node) if view else None)
    own = {**node, **{option: (node["assisted"] or {}).get(option) for option in ("ejbca", "ejbca_unread")}}
    shared = SharedView(view_source(host, own))
    return NodeAddress(host, name, lambda: _open({**node, "shared_view": shared}), shared)


def read(params: Params) -> ClusterReading:
    """Read the cluster of the options. Raises UtrustError if the source is missing or cannot be read."""
    if params["max_parallel"] < 1 or not params["node_timeout"] > 0:
        raise UtrustError(
            "reading the cluster: max_parallel must be 1 or more, and node_timeout more than 0 seconds. Correct the option",
            code="option_invalid",
        )
    view = params.get("ejbca_view", False)
    addresses = {address.host: address for address in (_address(node, view=view) for node in params["nodes"] or ())}
    source = addresses.pop(params["source"], None)
    if source is None:
        raise UtrustError(
            f"reading the cluster: the source {params['source']!r} is not among the nodes. Name a host of the inventory as the source",
            code="source_missing",
        )
    limits = Limits(params["max_parallel"], params["node_timeout"])
    return read_cluster(source, list(addresses.values()), limits, keys=params.get("keys", True))


def run(invocation: Invocation) -> Result:
    return {"changed": False, **read(invocation.params).to_dict()}


OPERATION: t.Final = Operation("utrust_cluster_info", ARGUMENT_SPEC, RULES, run, one_node=False)
