# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""API of the guided restore."""

from __future__ import annotations

from aiohttp import web

from utrust_appliance.jobs.preview import preview, require_restorable
from utrust_appliance.store import JOB_CHANGES
from utrust_appliance.web.checks import (
    NAME,
    Query,
    idempotency_key,
    idempotency_key_of,
    integer,
    json_object,
    made_once,
    members,
    name_of,
    object_id,
    one_of,
)
from utrust_appliance.web.middleware import NODE, late


async def preview_restore(request: web.Request) -> web.Response:
    query = Query(request)
    pin_pad, source = query.required("pin_pad", name_of), query.required("source", name_of)
    query.done()
    return web.json_response(preview(request.app[NODE], pin_pad, source))


async def list_restores(request: web.Request) -> web.Response:
    query = Query(request)
    key = query.get("idempotency_key", idempotency_key_of, "")
    state = query.get("state", one_of("running", "finished"), "")
    query.done()
    restores = request.app[NODE].restores.list(key, {"": None, "running": True, "finished": False}[state])
    return web.json_response({"restores": restores})


async def start_restore(request: web.Request) -> web.Response:
    node = request.app[NODE]
    Query(request).done()
    with node.turns.receiving(idempotency_key(request)):
        data, digest = await json_object(request)
        members(data, required={"pin_pad": NAME, "source": NAME}, optional={})
        once = made_once(request, digest)
        await late(request)
        if made := node.store.made_by(once):
            restore = node.restores.get(made)
        else:
            source = require_restorable(node, data["pin_pad"], data["source"])
            restore = node.restores.start(once, data["pin_pad"], source)
    return web.json_response(restore, status=201, headers={"Location": f"{request.path}/{restore['id']}"})


async def get_restore(request: web.Request) -> web.Response:
    query, restore_id = Query(request), object_id(request, "restore_id")
    wait = query.get("wait", integer(0, 60), 0)
    sequence = query.get("sequence", integer(0, JOB_CHANGES), 0)
    query.done()
    return web.json_response(await request.app[NODE].restores.wait(restore_id, sequence, wait))


async def cancel_restore(request: web.Request) -> web.Response:
    restore_id = object_id(request, "restore_id")
    Query(request).done()
    return web.json_response(request.app[NODE].restores.cancel(restore_id))


ROUTES = [
    ("GET", "/hsm/restore-preview", preview_restore),
    ("GET", "/hsm/restores", list_restores),
    ("POST", "/hsm/restores", start_restore),
    ("GET", "/hsm/restores/{restore_id}", get_restore),
    ("DELETE", "/hsm/restores/{restore_id}", cancel_restore),
]
