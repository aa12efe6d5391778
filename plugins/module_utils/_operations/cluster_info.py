# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read all nodes of a cluster and compare their keys with those of the source. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_SPEC, Params, Spec, node_endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Limits
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import (
    ClusterReading,
    NodeAddress,
    read_cluster,
)
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import AdminWebView, UnreadView
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_endpoint, ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewSource
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb

#: How the cluster is read. utrust_preflight and utrust_sync_plan have these options, too.
READ_SPEC: t.Final[Spec] = {
    "source": {"type": "str", "required": True},
    "hosts": {"type": "list", "elements": "str"},
    "max_parallel": {"type": "int", "default": 16},
    "node_timeout": {"type": "float", "default": 60.0},
}
#: Why EJBCA of a node is not contacted: a person excluded its view, or an earlier task of this run found a crypto token that cannot be activated.
LEFT_OUT, FAILING = "left_out", "activation_failing"
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
    "ejbca_unread": {"type": "str", "choices": [LEFT_OUT, FAILING]},
}
ARGUMENT_SPEC: t.Final[Spec] = {
    **READ_SPEC,
    **VIEW_SPEC,
    "nodes": {"type": "list", "elements": "dict", "options": NODE_SPEC},
    "keys": {"type": "bool", "default": True, "no_log": False},
}
RULES: t.Final[Spec] = {"required_one_of": [("hosts", "nodes")], "mutually_exclusive": [("hosts", "nodes")]}


def _open(node: Params) -> Appliance:
    if not node["client_cert"] and not node["bearer_token"]:
        raise UtrustError(
            f"reading {node['inventory_host']}: no credentials are set. Set client_cert, bearer_token or bearer_token_file for this node, "
            "for example in the variable utrust_client_cert",
            code="credentials_missing",
        )
    return TRANSPORTS[node["transport"]](node_endpoint(node), node)


def _address(node: Params, *, view: bool) -> NodeAddress:
    host = node["inventory_host"]
    return NodeAddress(host, node["expect_node"] or host, lambda: _open(node), _view(node) if view else None)


def _view(node: Params) -> ViewSource:
    """Return the EJBCA of a node, or why it is not contacted."""
    host = node["inventory_host"]
    if node["ejbca_unread"] == LEFT_OUT:
        text = f"the variable utrust_ejbca_view of {host} is false, so its EJBCA was not contacted. Remove the variable to read the view again"
        return UnreadView(ViewProblem("ejbca_view_left_out", text), left_out=True)
    if node["ejbca_unread"] == FAILING:
        text = "an earlier task of this run found a crypto token of this node that cannot be activated, so EJBCA was not contacted again"
        return UnreadView(ViewProblem("token_activation_failing", text))
    if node["ejbca"] is None:
        text = f"the account that reads EJBCA of {host} is not set. Set the variable utrust_ejbca_reader_client_cert of this host"
        return UnreadView(ViewProblem("credentials_missing", text))
    return AdminWebView(lambda: _open_admin_web(node), node["ejbca"]["port"])


def _open_admin_web(node: Params) -> AdminWeb:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb

    return AdminWeb(ejbca_endpoint(node), retries=node["retries"])


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
