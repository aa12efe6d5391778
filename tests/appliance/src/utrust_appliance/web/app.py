# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The aiohttp application of a node, and its HTTP protocol."""

from __future__ import annotations

import typing as t

from aiohttp import web

from utrust_appliance import SERVER
from utrust_appliance.errors import ApiError
from utrust_appliance.web import claim_api, node_api, package_api, restore_api
from utrust_appliance.web.capabilities import limited
from utrust_appliance.web.claim_api import claimed
from utrust_appliance.web.middleware import (
    NODE,
    PAGES,
    authenticated,
    faulty,
    handle_errors,
    logged,
    problem_response,
    set_server_header,
    without_api,
)
from utrust_appliance.webconf.site import HANDLERS, add_webconf

if t.TYPE_CHECKING:
    from utrust_appliance.node import Node

API = "/api/v1"


def make_app(node: Node) -> web.Application:
    app = web.Application(middlewares=[logged, faulty, without_api, handle_errors, authenticated, claimed, limited])
    app[NODE] = node
    app.on_response_prepare.append(set_server_header)
    for module in (node_api, claim_api, restore_api, package_api):
        for method, path, handler in module.ROUTES:
            app.router.add_route(method, API + path, handler)
    app[PAGES] = HANDLERS
    add_webconf(app, node)
    return app


class Protocol(web.RequestHandler):
    """The protocol of aiohttp, with problem documents for invalid HTTP requests."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            self.log_debug("the connection to %s was cut", request.remote)
            problem = ApiError("internal_error", "the connection was cut")  # the client cannot receive it
        elif status >= 500:
            self.log_exception("Error handling request from %s", request.remote, exc_info=exc)
            problem = ApiError("internal_error", "an unexpected error was logged on the node")
        else:
            problem = ApiError(
                "invalid_request", f"the request is not valid HTTP: {(message or str(exc)).splitlines()[0][:200]}"
            )
        response = problem_response(problem)
        response.headers["Server"] = SERVER
        response.force_close()
        return response
