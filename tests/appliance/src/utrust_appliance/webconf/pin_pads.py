# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pages of the simulated PIN pads. They represent hardware, so they are a separate site without a login.

The site listens on 127.0.0.1 only, at a secret URL that `utrust-appliance status` shows. It uses the same operations as the commands. A PIN occurs
only in the body of one request.
"""

from __future__ import annotations

import hmac
import secrets
import typing as t

from aiohttp import web

from utrust_appliance import SERVER
from utrust_appliance.addresses import listen
from utrust_appliance.errors import ApiError, OperationError
from utrust_appliance.webconf import forms
from utrust_appliance.webconf.render import harden, live, render, see_other, static, version
from utrust_appliance.webconf.request_context import field

if t.TYPE_CHECKING:
    from utrust_appliance.admin_operations import AdminOperations

ADDRESS = "127.0.0.1"
Handler = t.Callable[[web.Request], t.Awaitable[web.StreamResponse]]


class PinPadSite:
    """The site of all PIN pads of a cluster."""

    def __init__(self, operations: AdminOperations) -> None:
        self._do = operations.operations
        self._token = secrets.token_urlsafe(24)
        self._socket = listen(ADDRESS, 0)
        self.url = f"http://{ADDRESS}:{self._socket.getsockname()[1]}/{self._token}"
        app = web.Application()
        app.router.add_get("/static/{name}", static)
        for method, path, handler in (
            ("GET", "/", self._nodes),
            ("GET", "/{node}/", self._pad),
            ("GET", "/{node}/live", self._live),
            ("POST", "/{node}/{action:insert|remove|pin|cancel}", self._act),
        ):
            app.router.add_route(method, "/{token}" + path, self._guarded(handler))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    def _guarded(self, handler: Handler) -> Handler:
        async def wrapped(request: web.Request) -> web.StreamResponse:
            try:
                if not hmac.compare_digest(
                    request.match_info["token"].encode("utf-8", "surrogatepass"), self._token.encode()
                ):
                    raise ApiError("not_found", "the page does not exist")
                if request.method == "POST":
                    forms.require_same_origin(request)
                response = await handler(request)
            except ApiError as problem:
                response = web.Response(status=problem.status, text=f"{problem.title}: {problem.detail}\n")
            except OperationError as exc:
                response = web.Response(status=404, text=f"{exc}\n")
            response.headers["Server"] = SERVER
            return harden(response)

        return wrapped

    async def _nodes(self, dummy_request: web.Request) -> web.StreamResponse:
        names = [node["node"] for node in self._do["status"]()["nodes"]]
        return render("pin_pads.html", pads={name: self._facts(name) for name in names})

    async def _pad(self, request: web.Request) -> web.StreamResponse:
        return self._page(request.match_info["node"])

    async def _live(self, request: web.Request) -> web.StreamResponse:
        return live(request, "pin_pad_live.html", message=None, **self._facts(request.match_info["node"]))

    async def _act(self, request: web.Request) -> web.StreamResponse:
        node, action = request.match_info["node"], request.match_info["action"]
        fields = await forms.form(request)
        pin_pad = self._facts(node)["pad"]["name"]
        try:
            if action == "insert":
                self._do["card_insert"](node=node, card=field(fields, "card"), pin_pad=pin_pad)
            elif action == "pin":
                self._do["pin"](node=node, pin=field(fields, "pin"), pin_pad=pin_pad)
            else:
                self._do[{"remove": "card_remove", "cancel": "pinpad_cancel"}[action]](node=node, pin_pad=pin_pad)
        except OperationError as exc:
            return self._page(node, status=409, message=str(exc))
        return see_other("./")

    def _page(self, node: str, *, status: int = 200, message: str | None = None) -> web.Response:
        facts = self._facts(node)
        return render("pin_pad.html", status, message=message, **facts)

    def _facts(self, node: str) -> dict[str, t.Any]:
        """The data of a PIN pad page. A change of `state` updates the page. The remaining time is not part of `state`."""
        status, cards = self._do["pinpad_status"](node=node), self._do["card_list"]()
        restore = status["restore"]
        pads = {pad["name"]: pad for pad in status["pin_pads"]}
        pad = pads[restore["pin_pad"]] if restore else next(iter(pads.values()))
        last = status["last"]
        now = restore and [restore["id"], restore["sequence"]]
        state = [pad["status"], now, last and [last["id"], last["state"]], status["card"], cards]
        return {
            "node": node,
            "pad": pad,
            "restore": restore,
            "last": last,
            "card": status["card"],
            "cards": cards,
            "state": state,
            "version": version(state),
        }
