# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fault API: HTTP on 127.0.0.1 with `up --fault-port N`, for tests in other languages.

    GET /faults               list kinds and active faults
    POST /faults              set a fault: {"name": …, "node": …, "method": …, "path": …, "count": …, "params": {…}}; only the name is required
    DELETE /faults            clear all faults; /faults/NUMBER-OR-NAME clears these faults

Every request requires `Authorization: Bearer` with the token in D/fault.token. Every start creates a new token.
"""

from __future__ import annotations

import hmac
import json
import secrets
import typing as t

from aiohttp import web

from utrust_appliance.errors import OperationError
from utrust_appliance.files import write_private

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.admin_operations import AdminOperations

HOST = "127.0.0.1"
MEMBERS: dict[str, type] = {"name": str, "node": str, "method": str, "path": str, "count": int, "params": dict}


class FaultApi:
    """Server of the fault API."""

    def __init__(self, operations: AdminOperations, folder: Path) -> None:
        self._operations = operations
        self._token = secrets.token_urlsafe(32)
        write_private(folder / "fault.token", self._token.encode() + b"\n")
        app = web.Application(middlewares=[self._authenticate])
        app.router.add_get("/faults", self._list)
        app.router.add_post("/faults", self._set)
        app.router.add_delete("/faults", self._clear)
        app.router.add_delete("/faults/{which}", self._clear)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self, port: int) -> str:
        """Start the server. Returns its URL. Port 0 selects a free port."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, port)
        try:
            await site.start()
        except OSError as exc:
            raise OperationError(f"--fault-port: cannot listen on {HOST} port {port}: {exc.strerror or exc}.") from exc
        return f"http://{HOST}:{self._runner.addresses[0][1]}/faults"

    async def stop(self) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _authenticate(
        self, request: web.Request, handler: t.Callable[[web.Request], t.Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(authorization, f"Bearer {self._token}".encode()):
            return web.json_response({"error": "Send the token of D/fault.token as Authorization: Bearer."}, status=401)
        try:
            return await handler(request)
        except OperationError as exc:
            return web.json_response({"error": str(exc)}, status=400)

    async def _list(self, dummy_request: web.Request) -> web.Response:
        return web.json_response(
            {"kinds": self._operations.do_fault_kinds(), "active": self._operations.do_fault_list()}
        )

    async def _set(self, request: web.Request) -> web.Response:
        try:
            fault = json.loads(await request.read())
        except ValueError as exc:
            raise OperationError(f"The body is not JSON: {exc}.") from exc
        if not isinstance(fault, dict) or "name" not in fault:
            raise OperationError(f"The body must be a JSON object with a name. Members: {', '.join(MEMBERS)}.")
        for member, value in fault.items():
            if member not in MEMBERS or not isinstance(value, MEMBERS[member]):
                raise OperationError(
                    f"The member {member} is unknown or has the wrong type. Members: {', '.join(MEMBERS)}."
                )
        return web.json_response(self._operations.do_fault_set(**fault), status=201)

    async def _clear(self, request: web.Request) -> web.Response:
        which = request.match_info.get("which")
        cleared = self._operations.do_fault_clear(which=int(which) if which and which.isdecimal() else which)
        return web.json_response({"cleared": cleared})
