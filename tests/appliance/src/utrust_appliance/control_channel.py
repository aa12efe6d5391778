# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control channel: a Unix socket in a private temporary folder. Each request and each response is one line of JSON."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import shutil
import tempfile
import typing as t
from pathlib import Path

from utrust_appliance.errors import ApiError, OperationError

if t.TYPE_CHECKING:
    from utrust_appliance.admin_operations import AdminOperations

LOG = logging.getLogger(__name__)
PREFIX = "utrust-appliance-"
MAX_LINE = 256 * 1024 * 1024
MAX_PATH = 100  # the kernel accepts 104 (macOS) or 108 (Linux) bytes


class ControlChannel:
    """Server of the control channel."""

    def __init__(self, operations: AdminOperations) -> None:
        self._operations = operations
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        if len(str(folder).encode()) > MAX_PATH - len("/control"):
            folder.rmdir()
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self._folder = folder
        self.path = folder / "control"
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._handle_client, self.path, limit=MAX_LINE)
        self.path.chmod(0o600)

    async def _handle_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                response = await self._respond(line)
                writer.write(json.dumps(response).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            LOG.debug("the client closed the control channel")
        finally:
            writer.close()

    async def _respond(self, line: bytes) -> dict[str, t.Any]:
        try:
            request = json.loads(line)
            operation = self._operations.operations.get(request["op"])
            if operation is None:
                raise OperationError(f"The operation {request['op']} does not exist.")
            result = operation(**request.get("args", {}))
            if inspect.isawaitable(result):
                result = await result
        except (OperationError, ApiError) as exc:
            return {"error": exc.detail if isinstance(exc, ApiError) else str(exc)}
        except Exception as exc:
            LOG.exception("control channel: the operation failed")
            return {"error": f"{type(exc).__name__}: {exc}"}
        return {"result": result}

    def stop(self) -> None:
        if self._server:
            self._server.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def remove_stale(path: Path) -> None:
    """Remove the folder of a killed process."""
    if path.parent.name.startswith(PREFIX):
        shutil.rmtree(path.parent, ignore_errors=True)
