# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTPS requests to one server. Private to keyops.utrust.

Only this file opens connections. It uses `http.client` and `ssl` because `module_utils.urls` cannot pin a certificate.
The pin is compared on the connection that carries the request, before the first byte of the request is sent.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import hashlib
import http.client
import re
import socket
import ssl
import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import (
    InvalidResponseError,
    NoResponseError,
    Output,
    TimedSocket,
    read_body,
)
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.module_utils._resolver import resolve
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import watched
from ansible_collections.keyops.utrust.plugins.module_utils._tls_reasons import not_trusted, raise_if_client_rejected

#: Characters of the reason why no response arrived.
MAX_REASON = 300


@dc.dataclass(frozen=True)
class Endpoint:
    """Address of a server, and how both sides authenticate. Paths are on the executing machine.

    Times are in seconds. `connect_timeout` is the deadline of all connection attempts and the TLS handshake together.
    `timeout` is the deadline of one whole exchange: sending the request and reading the whole response.
    """

    host: str
    port: int
    client_cert: str | None
    client_key: str | None
    ca_file: str | None
    tls_fingerprint: tuple[str, ...]
    connect_timeout: float
    timeout: float


class HttpResponse(t.NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def normalize_fingerprint(text: str) -> str:
    """Return `sha256:` and 64 lowercase digits for a SHA-256 fingerprint in any usual notation.

    Raises UtrustError (`tls_fingerprint_invalid`).
    """
    digits = re.sub(
        r"[:\s]", "", re.sub(r"^sha-?256( fingerprint)?[:=]", "", text.strip(), flags=re.IGNORECASE)
    ).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise UtrustError(
            f"tls_fingerprint: {text!r} is not a SHA-256 fingerprint. Copy the 64 hexadecimal digits from the front display of the node",
            code="tls_fingerprint_invalid",
        )
    return "sha256:" + digits


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """Return a context that verifies the server by CA file, by pinned fingerprint (in `HttpsConnection`), or by both.

    Raises UtrustError (`tls_identity_missing`, `ca_file_unreadable`, `client_cert_unreadable`).
    """
    if not endpoint.ca_file and not endpoint.tls_fingerprint:
        raise UtrustError(
            f"connecting to {endpoint.host}: ca_file and tls_fingerprint are missing, so the server cannot be authenticated. "
            "Set tls_fingerprint to the value on the front display of the node, or set ca_file",
            code="tls_identity_missing",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A front end with TLS 1.3 can request the client certificate after it has read the request.
    context.post_handshake_auth = True
    if endpoint.tls_fingerprint:
        # The pin identifies the certificate, which is stronger than a host name.
        context.check_hostname = False
    if endpoint.ca_file:
        try:
            context.load_verify_locations(cafile=endpoint.ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise UtrustError(
                f"ca_file: cannot read CA certificates from {endpoint.ca_file}: {exc}. Set ca_file to a readable PEM file",
                code="ca_file_unreadable",
            ) from exc
    else:
        # Appliances have self-signed certificates, so only the pin can authenticate them.
        context.verify_mode = ssl.CERT_NONE
    if endpoint.client_cert:
        try:
            # A password prompt would block a job without a terminal. The empty password makes an encrypted key an error.
            context.load_cert_chain(endpoint.client_cert, endpoint.client_key, password=lambda: b"")
        except (OSError, ssl.SSLError) as exc:
            raise UtrustError(
                f"client_cert: cannot load {endpoint.client_cert} with key {endpoint.client_key or 'in the same file'}: {exc}. "
                "Set client_cert and client_key to readable PEM files that match, with a key without a passphrase",
                code="client_cert_unreadable",
            ) from exc
    return context


class Peer(t.NamedTuple):
    """The server of a connection: its address, the fingerprint of its certificate, the version of TLS, and its certificate in DER."""

    address: str
    certificate_fingerprint: str
    tls_version: str | None
    certificate: bytes = b""


class HttpsConnection:
    """One connection at a time to one server. Handles bytes and TLS. JSON and retries belong to `_json_client`."""

    def __init__(self, endpoint: Endpoint, *, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._pins = frozenset(normalize_fingerprint(pin) for pin in endpoint.tls_fingerprint)
        self._context = tls_context(endpoint)
        self._connection: http.client.HTTPSConnection | None = None
        #: The server of the last connection.
        self.peer: Peer | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """Make a request that another thread has sent end soon, with an error."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            t.cast(TimedSocket, connection.sock).abort()

    def connect(self) -> Peer:
        """Open a connection, check the identity of the server, and close the connection. No request is sent.

        Raises NoResponseError, and UtrustError if one side does not accept the identity of the other side.
        """
        self.close()
        self._connect()
        self.close()
        return t.cast("Peer", self.peer)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: t.Mapping[str, str],
        body: bytes | t.BinaryIO | None = None,
        output: Output | None = None,
        limit: int,
    ) -> HttpResponse:
        """Send one request and read the whole response. Redirects are not followed.

        The body of a 200 response is written to `output` in chunks. At most `limit` bytes of a body are read.
        The whole exchange must end within the time-out of the endpoint. A body for `output` and an upload get more time, by their size.
        Raises NoResponseError, InvalidResponseError, ResponseTooLargeError, and UtrustError if one side does not accept the identity of the other side.
        Raises RunEndedError before a request that changes something, or between two chunks of its body, if the run of this process has ended.
        """
        _check_text(path, headers)
        # The server may have closed an idle connection. A request on this connection would look like a lost response,
        # so a request that may change something uses a new connection.
        if method != "GET":
            self.close()
        fresh = self._connection is None
        connection = self._connection or self._connect()
        transfer = int(headers.get("Content-Length", 0)) + (limit if output is not None else 0)
        timeout = self._endpoint.timeout + transfer / limits.MIN_TRANSFER_RATE
        try:
            t.cast(TimedSocket, connection.sock).start(self._clock() + timeout, limits.MAX_HEADER_BYTES)
            connection.request(method, path, body=watched(method, body), headers=dict(headers))
            return self._read(connection, output, limit)
        except ssl.SSLError as exc:
            self.close()
            raise_if_client_rejected(self._endpoint, exc, self.peer)
            raise NoResponseError(f"TLS failed: {exc}", sent=True) from exc
        except TimeoutError as exc:
            self.close()
            raise NoResponseError(f"timed out: no complete response within {timeout:g} s", sent=True) from exc
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            reason = _describe(exc)
            if fresh and isinstance(exc, ConnectionError) and self._endpoint.client_cert:
                reason += (
                    f" (a server that rejects the client certificate {self._endpoint.client_cert} can cause this error. "
                    "Check its end, and that it is registered)"
                )
            raise NoResponseError(reason, sent=True) from exc
        except BaseException:
            self.close()
            raise

    def _read(self, connection: http.client.HTTPSConnection, output: Output | None, limit: int) -> HttpResponse:
        timed = t.cast(TimedSocket, connection.sock)  # http.client forgets the socket of a connection that will close
        response = connection.getresponse()
        if response.status < 200:
            raise InvalidResponseError(f"the interim response {response.status} was not requested")
        streamed = output if response.status == 200 else None
        if response.status >= 400:
            limit = limits.MAX_PROBLEM_BYTES
        # Twice the limit is enough for the sizes of chunks.
        timed.allow(2 * limit + limits.MAX_HEADER_BYTES)
        kept = read_body(response, streamed, limit)
        if response.will_close:
            self.close()
        response.close()
        return HttpResponse(response.status, response.headers, kept)

    def _connect(self) -> http.client.HTTPSConnection:
        endpoint = self._endpoint
        connection = http.client.HTTPSConnection(endpoint.host, endpoint.port, context=self._context)
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            try:
                opened = self._open_socket()
                connection.sock = opened
                # If the server has already reset the connection, the ssl module returns a socket that is not connected.
                certificate = opened.getpeercert(binary_form=True) or b""
                fingerprint = "sha256:" + hashlib.sha256(certificate).hexdigest()
                self._check_pin(fingerprint)
                self.peer = Peer(opened.getpeername()[0], fingerprint, opened.version(), certificate)
            except ssl.SSLCertVerificationError as exc:
                raise not_trusted(endpoint, exc) from exc
            except ssl.SSLError as exc:
                raise_if_client_rejected(self._endpoint, exc)
                raise NoResponseError(f"TLS handshake failed: {exc}", sent=False) from exc
            except UnicodeError as exc:
                raise UtrustError(
                    f"connecting to {endpoint.host!a}: the host name cannot be encoded. Set host to a valid host name or address",
                    code="host_invalid",
                ) from exc
            except OSError as exc:
                raise NoResponseError(_describe(exc), sent=False) from exc
            undo.pop_all()
        connection.sock = TimedSocket(connection.sock, self._clock)
        self._connection = connection
        return connection

    def _open_socket(self) -> ssl.SSLSocket:
        """Return a socket after the TLS handshake. All addresses of the name share `connect_timeout` with the handshake. Raises OSError."""
        endpoint = self._endpoint
        deadline = self._clock() + endpoint.connect_timeout
        addresses = resolve(endpoint.host, endpoint.port, endpoint.connect_timeout)
        failure: OSError = OSError("the name has no address")
        for index, (family, kind, protocol, dummy, address) in enumerate(addresses):
            plain = socket.socket(family, kind, protocol)
            try:
                # An address that does not respond must leave time for the others.
                plain.settimeout(self._remaining(deadline) / (len(addresses) - index))
                plain.connect(address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plain.settimeout(self._remaining(deadline))
                return self._context.wrap_socket(plain, server_hostname=endpoint.host)
            except ssl.SSLError:
                plain.close()
                raise
            except OSError as exc:
                plain.close()
                failure = exc
        raise failure

    def _remaining(self, deadline: float) -> float:
        """Return the seconds until a time of the clock. Raises TimeoutError if the time is over."""
        remaining = deadline - self._clock()
        if remaining <= 0:
            raise TimeoutError("timed out")
        return remaining

    def _check_pin(self, actual: str) -> None:
        if self._pins and actual not in self._pins:
            raise UtrustError(
                f"connecting to {self._endpoint.host}:{self._endpoint.port}: its certificate has the fingerprint {actual}, expected: "
                f"{' or '.join(sorted(self._pins))}. Nothing was sent. If the certificate was renewed, compare the new fingerprint with the front display "
                "of the node and add it to tls_fingerprint. Otherwise another machine may have this address",
                code="tls_fingerprint_mismatch",
                actual=actual,
                expected=sorted(self._pins),
            )


def _check_text(path: str, headers: t.Mapping[str, str]) -> None:
    """Raise UtrustError (`option_invalid`) for text that a request cannot carry. The message does not quote a value, because it can be a secret."""
    invalid = [name for name, value in headers.items() if not re.fullmatch(r"[\x20-\x7e]*", value)]
    if invalid or not re.fullmatch(r"[\x21-\x7e]+", path):
        raise UtrustError(
            f"sending a request: {', '.join(invalid) or 'the path'} has a character that is not printable ASCII. Nothing was sent. "
            "Correct the option that sets the value",
            code="option_invalid",
        )


def _describe(exc: Exception) -> str:
    """Return the reason as one printable line. Some exceptions quote what the server sent."""
    return escape_unprintable(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)[:MAX_REASON]
