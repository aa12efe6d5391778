# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log of a node: every TCP connection and every request, one JSON object a line, without bodies and other headers."""

from __future__ import annotations

import json
import os
import typing as t
from datetime import UTC, datetime

if t.TYPE_CHECKING:
    from pathlib import Path


class RequestLog:
    """D/nodes/<name>/requests.jsonl."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.recording = False  # set after the self-test of the start

    def connection(self, peer: str) -> None:
        self._write({"event": "connection", "peer": peer})

    def handshake_failed(self, peer: str, reason: str) -> None:
        self._write({"event": "handshake_failed", "peer": peer, "reason": reason})

    def request(self, facts: dict[str, t.Any]) -> None:
        self._write({"event": "request", **facts})

    def entries(self) -> list[dict[str, t.Any]]:
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]  # a crash can truncate the last line

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)

    def _write(self, entry: dict[str, t.Any]) -> None:
        if not self.recording:
            return
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry})
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)
