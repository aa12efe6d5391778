# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guided restore."""

from __future__ import annotations

import typing as t

from aiohttp import web

from utrust_appliance.errors import Problem
from utrust_appliance.jobs.restores import RUNNING
from utrust_appliance.web.checks import (
    NAME,
    Query,
    idempotency_key_of,
    integer,
    json_object,
    made_once,
    members,
    name_of,
    object_id,
    one_of,
)
from utrust_appliance.web.middleware import NODE

if t.TYPE_CHECKING:
    from utrust_appliance.node import Node


def _may_restore(node: Node, pin_pad: str, source: str) -> Node:
    """Whether a guided restore can start now; returns the source. Names first, then states."""
    pads = {pad["name"]: pad for pad in node.pin_pads()}
    if pin_pad not in pads:
        raise Problem("pin_pad_not_configured", f"{pin_pad} is not configured on {node.name}", configured=list(pads))
    other = node.cluster.nodes.get(source)
    if other is None or not other.config.joined:
        raise Problem("source_not_a_member", f"{source} has not joined the cluster {node.cluster.name}")
    node.require_driver()
    node.require_idle()
    state, dummy = node.state()
    if not node.behaviour.restore_allowed(state):
        mbk = node.hsm.mbk()
        detail = f"the HSM of {node.name} is {state}" + (
            f" under MBK {mbk.name}; a guided restore would overwrite it" if mbk else ""
        )
        raise Problem("not_factory_reset", detail)
    if pads[pin_pad]["status"] != "ready":
        where = f" at {pads[pin_pad]['address']}" if pads[pin_pad]["address"] else ""
        raise Problem("pin_pad_unavailable", f"{pin_pad} is configured{where} but does not answer")
    if other is node:
        raise Problem("source_not_ready", f"{source} is this node itself")
    if not other.reachable():
        raise Problem("source_not_ready", f"{source} does not answer")
    if other.state()[0] != "operational":
        raise Problem("source_not_ready", f"the HSM of {source} is {other.state()[0]}, not operational")
    return other


async def preview(request: web.Request) -> web.Response:
    node, query = request.app[NODE], Query(request)
    pin_pad, source = query.required("pin_pad", name_of), query.required("source", name_of)
    query.done()
    other = _may_restore(node, pin_pad, source)
    mbk = other.hsm.mbk()
    if mbk is None:
        raise Problem("source_not_ready", f"the HSM of {source} holds no MBK")
    keys, digest = other.inventory()
    data = {
        "node": node.name,
        "hsm_serial": node.serial,
        "tls_fingerprint": node.tls_fingerprint,
        "pin_pad": next(pad for pad in node.pin_pads() if pad["name"] == pin_pad),
        "source": {"node": source, "key_count": len(keys), "inventory_digest": digest},
        "mbk": mbk.as_dict(),
        "cards_required": mbk.m,
        "cards_total": mbk.n,
    }
    return web.json_response(data)


async def list_restores(request: web.Request) -> web.Response:
    query = Query(request)
    key = query.get("idempotency_key", idempotency_key_of, "")
    state = query.get("state", one_of("running", "finished"), "")
    query.done()
    restores = [
        data
        for data in request.app[NODE].restores.list()
        if key in ("", data["idempotency_key"]) and state in ("", "running" if data["state"] in RUNNING else "finished")
    ]
    return web.json_response({"restores": restores})


async def start_restore(request: web.Request) -> web.Response:
    node = request.app[NODE]
    Query(request).done()
    made_once(request, "")
    data, digest = await json_object(request)
    members(data, required={"pin_pad": NAME, "source": NAME}, optional={})
    once = made_once(request, digest)
    made = node.store.made_by(once)
    if made:
        restore = node.restores.get(made)
    else:
        restore = node.restores.start(once, data["pin_pad"], _may_restore(node, data["pin_pad"], data["source"]))
    return web.json_response(restore, status=201, headers={"Location": f"{request.path}/{restore['id']}"})


async def get_restore(request: web.Request) -> web.Response:
    query, restore_id = Query(request), object_id(request, "restore_id")
    wait = query.get("wait", integer(0, 60), 0)
    sequence = query.get("sequence", integer(0, 2147483647), 0)
    query.done()
    return web.json_response(await request.app[NODE].restores.wait(restore_id, sequence, wait))


async def cancel_restore(request: web.Request) -> web.Response:
    restore_id = object_id(request, "restore_id")
    Query(request).done()
    return web.json_response(request.app[NODE].restores.cancel(restore_id))


ROUTES = [
    ("GET", "/hsm/restore-preview", preview),
    ("GET", "/hsm/restores", list_restores),
    ("POST", "/hsm/restores", start_restore),
    ("GET", "/hsm/restores/{restore_id}", get_restore),
    ("DELETE", "/hsm/restores/{restore_id}", cancel_restore),
]
