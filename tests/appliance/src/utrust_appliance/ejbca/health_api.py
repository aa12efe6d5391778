# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The servlet of the health check: who may call it, the form of its errors, and the shared response of concurrent requests."""

from __future__ import annotations

import asyncio
import typing as t
from urllib.parse import parse_qs

from aiohttp import web

from utrust_appliance.ejbca.health_check import check_health
from utrust_appliance.ejbca.target import ejbca_of

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode

Result = tuple[int, str]
_HTML = "<html><head><title>Error</title></head><body>{}</body></html>"
_RUNNING: dict[tuple[str, str, str], asyncio.Task[Result]] = {}


async def health(request: web.Request) -> web.Response:
    ejbca = ejbca_of(request)
    flags = ejbca.state.flags
    if "ANY" not in flags.health_ips and request.remote not in flags.health_ips:
        return _error(ejbca, 401, "")
    status, text = await _shared(ejbca, request.query_string)
    if status != 200:
        return _error(ejbca, status, text)
    return web.Response(text=text, content_type="text/plain")


async def _shared(ejbca: EjbcaNode, query: str) -> Result:
    """From 8.2 on, a request that arrives during a check gets the response of that check. From 9.0 on, only with the same parameters."""
    flags = ejbca.state.flags
    if not flags.since(8, 2):
        return await _check(ejbca, query)
    key = (ejbca.node.cluster.id, ejbca.node.name, query if flags.since(9) else "")
    if key not in _RUNNING:
        task = asyncio.get_running_loop().create_task(_check(ejbca, query))
        _RUNNING[key] = task
        task.add_done_callback(lambda done: _RUNNING.pop(key, None))
    return await asyncio.shield(_RUNNING[key])


async def _check(ejbca: EjbcaNode, query: str) -> Result:
    if ejbca.state.flags.health_delay:
        await asyncio.sleep(ejbca.state.flags.health_delay)
    return await asyncio.to_thread(check_health, ejbca, parse_qs(query, keep_blank_values=True))


def _error(ejbca: EjbcaNode, status: int, text: str) -> web.Response:
    if ejbca.state.flags.health_html or status == 401:
        return web.Response(status=status, text=_HTML.format(text), content_type="text/html")
    return web.Response(status=status, text=f"{text}\n", content_type="text/plain")
