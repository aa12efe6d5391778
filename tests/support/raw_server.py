# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TLS server that sends any bytes. No honest server library can violate HTTP as its responses do."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint

#: Sends a response to one request. The connection is closed afterwards.
Respond = t.Callable[[ssl.SSLSocket], None]
#: A server gives up after so many seconds. No client waits that long.
GIVE_UP = 60.0


@functools.cache
def _identity() -> tuple[bytes, bytes]:
    """Return a self-signed certificate (DER), and PEM of certificate and key."""
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder, "server.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-keyout", str(pem), "-out", f"{pem}.crt", "-subj", "/CN=raw", "-days", "2"]
        subprocess.run(command, check=True, capture_output=True)
        certificate = Path(f"{pem}.crt").read_text(encoding="ascii")
        return ssl.PEM_cert_to_DER_cert(certificate), (pem.read_text(encoding="ascii") + certificate).encode()


def reply(document: t.Any, status: int = 200, *headers: str, media_type: str = "application/json") -> bytes:
    """Return the bytes of an honest response. A document that is not bytes is encoded as JSON."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = [
        f"HTTP/1.1 {status} X",
        "Connection: close",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def send(data: bytes) -> Respond:
    return lambda connection: connection.sendall(data)


def send_for_ever(start: bytes, repeated: bytes, *, pause: float = 0.0) -> Respond:
    """Send the start, and then the same bytes until the client closes the connection."""

    def respond(connection: ssl.SSLSocket) -> None:
        connection.sendall(start)
        end = time.monotonic() + GIVE_UP
        while time.monotonic() < end:
            connection.sendall(repeated)
            time.sleep(pause)

    return respond


def reset(start: bytes = b"") -> Respond:
    """Send some bytes and reset the connection."""

    def respond(connection: ssl.SSLSocket) -> None:
        connection.sendall(start)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return respond


class RawServer:
    """Answers each request with the respond that `route` returns for its method and path. `requests` has all requests.

    Without `reads_bodies` it accepts connections and reads nothing.
    """

    def __init__(self, route: t.Callable[[str, str], Respond], *, reads_bodies: bool = True) -> None:
        self.requests: list[tuple[str, str]] = []
        self._route = route
        self._reads_bodies = reads_bodies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
            pem.write(_identity()[1])
            pem.flush()
            self._context.load_cert_chain(pem.name)

    def __enter__(self) -> t.Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *dummy: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def endpoint(self, timeout: float) -> Endpoint:
        pin = hashlib.sha256(_identity()[0]).hexdigest()
        host, port = self._listener.getsockname()
        return Endpoint(host, port, None, None, None, (pin,), 10.0, timeout)

    def _accept(self) -> None:
        while True:
            try:
                connection, dummy = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        # A client that gives up ends the connection in the middle of a write.
        with contextlib.suppress(OSError, ValueError):
            plain.settimeout(GIVE_UP)
            with self._context.wrap_socket(plain, server_side=True) as connection:
                if not self._reads_bodies:
                    time.sleep(GIVE_UP)
                method, path = _read_request(connection)
                self.requests.append((method, path))
                self._route(method, path)(connection)


def _read_request(connection: ssl.SSLSocket) -> tuple[str, str]:
    """Read one request with its body. Return its method and path."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (part := connection.recv(65536)):
            raise ConnectionError("the client closed the connection")
        received += part
    head, body = received.split(b"\r\n\r\n", 1)
    lines = head.decode("ascii").split("\r\n")
    headers = {name.lower(): value.strip() for name, dummy, value in (line.partition(":") for line in lines[1:])}
    left = int(headers.get("content-length", 0)) - len(body)
    while left > 0:
        left -= len(connection.recv(65536)) or left
    method, path, dummy = lines[0].split(" ")
    return method, path
