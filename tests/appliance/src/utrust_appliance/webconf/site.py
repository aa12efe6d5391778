# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Webconf as a part of the site of a node."""

from __future__ import annotations

import typing as t

from utrust_appliance.webconf import pages, security
from utrust_appliance.webconf.logins import Sessions, Throttle
from utrust_appliance.webconf.request_context import SESSIONS, THROTTLE

if t.TYPE_CHECKING:
    from aiohttp import web

    from utrust_appliance.node import Node

ROUTES = [*security.ROUTES, *pages.ROUTES]  # the last route of the pages matches all other paths
HANDLERS = frozenset(handler for dummy_method, dummy_path, handler in ROUTES)


def add_webconf(app: web.Application, node: Node) -> None:
    app[SESSIONS] = Sessions(node.cluster.options.session_timeout)
    app[THROTTLE] = Throttle(node.cluster.logins.users.names)
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
