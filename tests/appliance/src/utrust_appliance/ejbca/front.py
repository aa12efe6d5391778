# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of the front end of a node: what a proxy, a balancer or a cut connection makes of a response."""

from __future__ import annotations

import typing as t

from aiohttp import web

from utrust_appliance.ejbca.target import EJBCA

Handler = t.Callable[[web.Request], t.Awaitable[web.StreamResponse]]
_GATEWAY = (
    "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr /><center>nginx</center></body></html>"
)


@web.middleware
async def at_front(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Apply the flag `response` of the node to the paths of the flag `response_path`."""
    kind = request.app[EJBCA].state.flags.has_response(request.path)
    if kind == "bad_gateway":
        return web.Response(status=502, text=_GATEWAY.format("502 Bad Gateway"), content_type="text/html")
    if kind == "unavailable":
        return web.Response(
            status=503, text=_GATEWAY.format("503 Service Temporarily Unavailable"), content_type="text/html"
        )
    if kind == "redirect":
        return web.Response(status=302, headers={"Location": f"https://elsewhere.example{request.path_qs}"})
    response = await handler(request)
    if kind == "truncated" and isinstance(response, web.Response) and isinstance(response.body, bytes):
        return await _cut(request, response)
    return response


async def _cut(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Announce the whole body, send a half, and close the connection."""
    body = bytes(t.cast("bytes", whole.body))
    part = web.StreamResponse(status=whole.status, headers=whole.headers)
    part.content_length = len(body)
    await part.prepare(request)
    await part.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    raise ConnectionResetError("closed by a flag")
