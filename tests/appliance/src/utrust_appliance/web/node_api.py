# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""API of the node, its keys and its PIN pads."""

from __future__ import annotations

import base64
import binascii
import hashlib

from aiohttp import web

from utrust_appliance.web.checks import MAX_TAGS, Query, bad, entity_tags, integer
from utrust_appliance.web.middleware import NODE


async def get_node(request: web.Request) -> web.Response:
    Query(request).done()
    return web.json_response(request.app[NODE].describe())


async def list_keys(request: web.Request) -> web.Response:
    node, query = request.app[NODE], Query(request)
    limit = query.get("limit", integer(1, 1000), 100)
    start = query.get("cursor", _position, 0)
    query.done()
    node.require_driver()
    keys, digest = node.list_keys()
    if start and start >= len(keys):
        raise bad("cursor points beyond the last key")
    usable = "".join("01"[key.usable] for key in keys)  # the digest does not depend on it
    tag = hashlib.sha256(f"{digest} {usable}".encode()).hexdigest()[:32]
    headers = {"ETag": f'W/"{tag}"'}
    known = entity_tags(request, "If-None-Match")
    if tag in known or "*" in known:
        return web.Response(status=304, headers=headers)
    page, end = keys[start : start + limit], start + limit
    data = {
        "hsm_keys": [key.as_dict() for key in page],
        "next_cursor": _cursor(end) if end < len(keys) else None,
        "keys_digest": digest,
    }
    return web.json_response(data, headers=headers)


async def list_pin_pads(request: web.Request) -> web.Response:
    Query(request).done()
    return web.json_response({"pin_pads": request.app[NODE].pin_pads()})


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"after:{position}".encode()).decode()


def _position(dummy_name: str, cursor: str) -> int:
    if not 1 <= len(cursor) <= MAX_TAGS:
        raise bad(f"cursor must have 1 to {MAX_TAGS} characters")
    try:
        word, dummy, position = base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").partition(":")
    except (binascii.Error, ValueError) as exc:
        raise bad("cursor was not created by this node") from exc
    if word != "after" or not position.isdecimal() or len(position) > 9:
        raise bad("cursor was not created by this node")
    return int(position)


ROUTES = [
    ("GET", "/node", get_node),
    ("GET", "/hsm/keys", list_keys),
    ("GET", "/hsm/pin-pads", list_pin_pads),
]
