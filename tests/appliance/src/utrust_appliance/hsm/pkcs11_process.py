# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A PKCS #11 token from outside: the process that has it open, and one question at a time to it.

A PKCS #11 module sees one configuration in a process, so each node's HSM has a process of its own. What goes over the socket is wrapped or
public: no key in clear, no PIN. The process ends when this end of the socket is gone, so it never outlives the appliance, however that ended.
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

LIMIT = 120.0  # seconds for one answer; the slowest question is a key pair RSA 4096


class TokenError(Exception):
    """The token, or its process, did not do what it was asked."""


class Entry(t.NamedTuple):
    """The objects of one key in the token (or of the MBK), as whoever looks for them knows them. Bytes are hexadecimal."""

    number: int
    type: str
    label: str
    id: str
    fingerprint: str | None
    public: str | None


class TokenProcess:
    """The process of one token. Once a question has failed for want of an answer, every further one fails."""

    def __init__(self, folder: Path, module: str, label: str) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(LIMIT)
        self._answers = self._socket.makefile("rb")
        command = [sys.executable, "-P", "-m", "utrust_appliance.hsm.pkcs11_token", str(theirs.fileno()), module, label]
        with theirs:
            # A session of its own: Ctrl-C at the terminal is for the appliance, which then closes its tokens.
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: str, **details: t.Any) -> t.Any:
        """Raises UnwrapError for a key that is not what it is said to be, TokenError for everything else."""
        try:
            self._socket.sendall(json.dumps({"question": question, "details": details}).encode() + b"\n")
            line = self._answers.readline()
        except OSError as exc:
            self.close()
            raise TokenError(f"the process of the PKCS #11 token does not answer to {question}: {exc}") from exc
        if not line.endswith(b"\n"):
            self.close()
            raise TokenError(f"the process of the PKCS #11 token ended before it answered to {question}")
        answer = json.loads(line)
        if "unwrap_failed" in answer:
            raise UnwrapError(answer["unwrap_failed"])
        if "failed" in answer:
            raise TokenError(answer["failed"])
        return answer["result"]

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
