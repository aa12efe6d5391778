# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control channel: a Unix socket in a private temporary folder, a line of JSON for each question and each answer."""

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
MAX_PATH = 100  # the kernel takes 104 (macOS) or 108 (Linux) bytes


class ControlChannel:
    """Listens while the appliance runs."""

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
        self._server = await asyncio.start_unix_server(self._converse, self.path, limit=MAX_LINE)
        self.path.chmod(0o600)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            LOG.debug("the other end of the control channel went away")
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, t.Any]:
        try:
            question = json.loads(line)
            operation = self._operations.operations.get(question["op"])
            if operation is None:
                raise OperationError(f"this appliance knows no operation {question['op']}")
            result = operation(**question.get("args", {}))
            if inspect.isawaitable(result):
                result = await result
        except (OperationError, ApiError) as exc:
            return {"refused": exc.detail if isinstance(exc, ApiError) else str(exc)}
        except Exception as exc:
            LOG.exception("control channel: the operation failed")
            return {"refused": f"{type(exc).__name__}: {exc}"}
        return {"result": result}

    def stop(self) -> None:
        if self._server:
            self._server.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def remove_stale(path: Path) -> None:
    """The folder of a process that was killed."""
    if path.parent.name.startswith(PREFIX):
        shutil.rmtree(path.parent, ignore_errors=True)
