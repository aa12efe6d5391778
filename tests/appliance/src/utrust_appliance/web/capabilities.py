# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Functions that a node does not offer: operations fail with not_supported, and unknown facts are null (docs/api/bridges.md)."""

from __future__ import annotations

import json
import typing as t

from aiohttp import web

from utrust_appliance.errors import ApiError
from utrust_appliance.web.checks import bad
from utrust_appliance.web.middleware import NODE, PAGES, Handler

if t.TYPE_CHECKING:
    from utrust_appliance.behavior import Behavior

# The capability of each operation that requires one.
REQUIRED = {
    ("GET", "/hsm/keys"): "key_list",
    ("POST", "/hsm/imports/{import_id}/apply"): "staged_import",
    ("GET", "/cluster/claim"): "cluster_claim",
    ("PUT", "/cluster/claim"): "cluster_claim",
    ("DELETE", "/cluster/claim"): "cluster_claim",
}
RESTORE_PATHS = ("/hsm/restore-preview", "/hsm/restores", "/hsm/restores/{restore_id}", "/hsm/pin-pads")
NAMES = {
    "key_list": "this node does not list its keys",
    "staged_import": "this node does not stage imports, the upload is the commit",
    "cluster_claim": "this node does not offer the claim of the cluster",
}
DIGESTS = ("keys_digest", "key_count", "unusable_key_count")
PACKAGE_FACTS = ("source", "cluster_id", "mbk", "key_count", "keys_digest")


@web.middleware
async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
    resource = request.match_info.route.resource
    if request.match_info.handler in request.app.get(PAGES, ()) or resource is None:
        return await handler(request)
    node, path = request.app[NODE], resource.canonical.removeprefix("/api/v1")
    capability = REQUIRED.get((request.method, path))
    if capability is not None and capability not in node.capabilities():
        raise ApiError("not_supported", NAMES[capability])
    if node.behavior.restore_from == "nothing" and path in RESTORE_PATHS:
        raise ApiError("not_supported", "this node does not offer guided restores")
    if "expect_keys_digest" in request.query and node.behavior.key_list == "no":
        raise bad("this node does not list its keys, so it cannot compare expect_keys_digest")
    return without_unknown(await handler(request), node.behavior)


def without_unknown(response: web.StreamResponse, behavior: Behavior) -> web.StreamResponse:
    """Replace the facts that the node does not know by null."""
    unknown = behavior.key_list == "no" or behavior.packages == "opaque"
    if not unknown or not isinstance(response, web.Response) or response.content_type != "application/json":
        return response
    data = json.loads(response.text or "null")
    _hide(data, behavior)
    response.text = json.dumps(data)
    return response


def _hide(data: t.Any, behavior: Behavior) -> None:
    if isinstance(data, list):
        for item in data:
            _hide(item, behavior)
        return
    if not isinstance(data, dict):
        return
    hidden: set[str] = set(DIGESTS) if behavior.key_list == "no" else set()
    if behavior.packages == "opaque":
        hidden |= {*PACKAGE_FACTS} if {"sha256", "size"} <= set(data) else {"rows"}
    for name in hidden & set(data):
        data[name] = None
    for value in data.values():
        _hide(value, behavior)
