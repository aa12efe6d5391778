# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client of a token process, which has one PKCS #11 token open.

A PKCS #11 module supports one configuration in a process, so every HSM has its own process. The socket carries only wrapped or public data, never
plaintext keys or PINs. The process ends when the socket is closed, so it always ends with the simulator.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import typing as t

from utrust_appliance.hsm.base import UnwrapError

if t.TYPE_CHECKING:
    from pathlib import Path

LIMIT = 120.0  # seconds for one response; the slowest request generates an RSA 4096 key pair


class TokenError(Exception):
    """A request to the token process failed."""


class Entry(t.NamedTuple):
    """The search criteria for the objects of a key (or the MBK) in the token. Bytes are hexadecimal."""

    number: int
    type: str
    label: str
    id: str
    fingerprint: str | None
    public: str | None


class TokenProcess:
    """A token process. After a missing response, every further request fails."""

    def __init__(self, folder: Path, module: str, label: str) -> None:
        self._socket, remote = socket.socketpair()
        self._socket.settimeout(LIMIT)
        self._lines = self._socket.makefile("rb")
        command = [sys.executable, "-P", "-m", "utrust_appliance.hsm.pkcs11_token", str(remote.fileno()), module, label]
        with remote:
            # A separate session: Ctrl-C reaches only the simulator, which then closes its tokens.
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(remote.fileno(),),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def call(self, method: str, **details: t.Any) -> t.Any:
        """Call a method of the token. Raises UnwrapError for a key that does not match its identity, else TokenError."""
        try:
            self._socket.sendall(json.dumps({"method": method, "details": details}).encode() + b"\n")
            line = self._lines.readline()
        except OSError as exc:
            self.close()
            raise TokenError(f"The process of the PKCS #11 token does not respond to {method}: {exc}.") from exc
        if not line.endswith(b"\n"):
            self.close()
            raise TokenError(f"The process of the PKCS #11 token ended before the response to {method}.")
        response = json.loads(line)
        if "unwrap_failed" in response:
            raise UnwrapError(response["unwrap_failed"])
        if "failed" in response:
            raise TokenError(response["failed"])
        return response["result"]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
