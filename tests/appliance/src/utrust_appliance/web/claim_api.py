# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""API of the claim of the cluster, and the check of the claim for all requests."""

from __future__ import annotations

import asyncio
import re
import typing as t

from aiohttp import web

from utrust_appliance.claims import digest_of
from utrust_appliance.errors import ApiError
from utrust_appliance.keys import is_unicode
from utrust_appliance.web.checks import Query, bad, json_object
from utrust_appliance.web.middleware import NODE, PAGES, Handler, cut
from utrust_appliance.web.restore_api import cancel_restore

HEADER = "Cluster-Claim"
TOKEN = re.compile(r"[A-Za-z0-9_-]{22,64}")
MAX_HOLDER = 200
CONFLICT = 409
TTL = (10, 120)  # seconds: claim_ttl_min and claim_ttl_max of the contract


def claim_digest(request: web.Request) -> str | None:
    """The SHA-256 of the token of the request, or None."""
    values = request.headers.getall(HEADER, [])
    if not values:
        return None
    if len(values) > 1:
        raise bad(f"{HEADER} is given {len(values)} times")
    if not TOKEN.fullmatch(values[0]):
        raise bad(f"{HEADER} must be 22 to 64 letters, digits, underscores or hyphens")
    return digest_of(values[0])


def required_digest(request: web.Request) -> str:
    digest = claim_digest(request)
    if digest is None:
        raise bad(f"{request.method} {request.path} requires the header {HEADER}")
    return digest


@web.middleware
async def claimed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the claim before the state of node and objects. A request with the token renews the claim."""
    if request.match_info.handler in request.app.get(PAGES, ()) or request.match_info.http_exception:
        return await handler(request)
    node, digest = request.app[NODE], claim_digest(request)
    if "cluster_claim" not in node.capabilities():
        return await handler(request)
    claims = node.cluster.claims
    changes = request.method in ("POST", "DELETE") and request.match_info.handler not in (delete_claim, cancel_restore)
    fault = node.cluster.faults.find("end_claim", node.name, request.method, request.path)
    when = fault.params["when"] if fault else None
    if when == "before":
        claims.end_now()
    with claims.request(digest):
        if changes:
            claims.require(digest)
        if when == "during":
            claims.end_now()
        try:
            response = await _in_time(request, handler)
        except ApiError as exc:
            if changes and exc.status == CONFLICT:
                claims.require(digest)  # the end of the claim can be the reason
            raise
    if when == "after":
        claims.end_now()
    return response


async def _in_time(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Close a request that takes too long, because the claim does not end before its requests."""
    limit = asyncio.timeout(request.app[NODE].cluster.options.request_time)
    try:
        async with limit:
            return await handler(request)
    except TimeoutError:
        if limit.expired():
            cut(request)
        raise


async def get_claim(request: web.Request) -> web.Response:
    Query(request).done()
    return web.json_response(request.app[NODE].cluster.claims.describe(claim_digest(request)))


async def put_claim(request: web.Request) -> web.Response:
    Query(request).done()
    node, digest = request.app[NODE], required_digest(request)
    data, dummy = await json_object(request)
    holder, ttl = _claim_request(data)
    node.cluster.claims.put(node, digest, holder, ttl)
    return web.json_response(node.cluster.claims.describe(digest))


async def delete_claim(request: web.Request) -> web.Response:
    Query(request).done()
    digest = required_digest(request)
    request.app[NODE].cluster.claims.release(digest)
    return web.json_response(request.app[NODE].cluster.claims.describe(digest))


def _claim_request(data: dict[str, t.Any]) -> tuple[str, int]:
    """Holder and ttl of a ClaimRequest."""
    for name in ("holder", "ttl"):
        if name not in data:
            raise bad(f"the member {name} is missing")
    if unknown := sorted(set(data) - {"holder", "ttl"}):
        raise bad(f"the member {unknown[0]!r} is unknown")
    holder, ttl = data["holder"], data["ttl"]
    if not isinstance(holder, str) or not 1 <= len(holder) <= MAX_HOLDER or not is_unicode(holder):
        raise bad(f"holder must be a text of 1 to {MAX_HOLDER} characters")
    whole = not isinstance(ttl, bool) and (isinstance(ttl, int) or (isinstance(ttl, float) and ttl.is_integer()))
    if not whole or not TTL[0] <= ttl <= TTL[1]:
        raise bad(f"ttl must be a whole number from {TTL[0]} to {TTL[1]}")
    return holder, int(ttl)


ROUTES = [
    ("GET", "/cluster/claim", get_claim),
    ("PUT", "/cluster/claim", put_claim),
    ("DELETE", "/cluster/claim", delete_claim),
]
