# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a server requests the client certificate: in the handshake, after the request, or by a renegotiation."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import hashlib
import socket
import ssl
import subprocess
import threading
import time
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpsConnection, tls_context
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import NoResponseError

from tests.support.fakes import ENDPOINT

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint, Peer

TIMEOUT = 10.0


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pems")
    for name in ("server", "client", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def endpoint_of(pems: Path, port: int, client: str | None = "client") -> Endpoint:
    der = ssl.PEM_cert_to_DER_cert((pems / "server.pem").read_text(encoding="ascii"))
    files = (str(pems / f"{client}.pem"), str(pems / f"{client}.key")) if client else (None, None)
    return dc.replace(
        ENDPOINT,
        host="127.0.0.1",
        port=port,
        client_cert=files[0],
        client_key=files[1],
        tls_fingerprint=(hashlib.sha256(der).hexdigest(),),
        connect_timeout=TIMEOUT,
        timeout=TIMEOUT,
    )


class Server:
    """Accepts one connection, and responds to each request with the subject of the client certificate."""

    def __init__(self, pems: Path, *, late: bool, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self._late = late
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pems / "server.pem", pems / "server.key")
        self._context.load_verify_locations(pems / "client.pem")
        self._context.maximum_version = version
        self._context.verify_mode = ssl.CERT_OPTIONAL if late else ssl.CERT_REQUIRED
        self._context.post_handshake_auth = late
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.late_requests = 0

    def __enter__(self) -> t.Self:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._listener.close()
        self._thread.join(TIMEOUT)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            plain = self._listener.accept()[0]
            plain.settimeout(TIMEOUT)
            with self._context.wrap_socket(plain, server_side=True) as connection:
                while self._respond(connection):
                    pass

    def _respond(self, connection: ssl.SSLSocket) -> bool:
        request = b""
        while b"\r\n\r\n" not in request:
            part = connection.recv(4096)
            if not part:
                return False
            request += part
        if self._late and not connection.getpeercert():
            connection.verify_client_post_handshake()
            self.late_requests += 1
        # The certificate arrives with the next bytes that are read, so the server writes a part first.
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        if self._late and not connection.getpeercert():
            connection.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
                connection.recv(1)
            connection.settimeout(TIMEOUT)
        certificate: t.Any = connection.getpeercert() or {}
        names = dict(part for rdn in certificate.get("subject", ()) for part in rdn)
        body = str(names.get("commonName", "")).encode()
        connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return True


def test_context_allows_late_certificates_and_no_renegotiation() -> None:
    context = tls_context(ENDPOINT)
    assert context.post_handshake_auth
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("late", [False, True], ids=["in the handshake", "after the request"])
def test_client_certificate_is_sent_when_the_server_asks(pems: Path, late: bool) -> None:
    """The same connection serves the next request without another certificate."""
    with Server(pems, late=late) as server:
        connection = HttpsConnection(endpoint_of(pems, server.port))
        bodies = [connection.request("GET", "/", headers={}, limit=100).body for dummy in range(3)]
        connection.close()
    assert bodies == [b"client"] * 3
    assert server.late_requests == int(late)


def test_client_certificate_is_sent_with_tls_1_2(pems: Path) -> None:
    with Server(pems, late=False, version=ssl.TLSVersion.TLSv1_2) as server:
        connection = HttpsConnection(endpoint_of(pems, server.port))
        assert connection.request("GET", "/", headers={}, limit=100).body == b"client"
        assert connection.peer is not None
        assert connection.peer.tls_version == "TLSv1.2"
        connection.close()


def test_peer_has_address_and_certificate_of_the_server(pems: Path) -> None:
    with Server(pems, late=False) as server:
        endpoint = endpoint_of(pems, server.port)
        connection = HttpsConnection(endpoint)
        assert connection.peer is None
        connection.request("GET", "/", headers={}, limit=100)
        connection.close()
    peer = t.cast("Peer", connection.peer)
    assert peer[:3] == ("127.0.0.1", f"sha256:{endpoint.tls_fingerprint[0]}", "TLSv1.3")
    assert hashlib.sha256(peer.certificate).hexdigest() == endpoint.tls_fingerprint[0]


def test_connect_checks_the_pin_and_sends_nothing(pems: Path) -> None:
    """Readiness connects without a request, and has the certificate afterwards."""
    with Server(pems, late=False) as server:
        endpoint = endpoint_of(pems, server.port)
        peer = HttpsConnection(endpoint).connect()
        assert hashlib.sha256(peer.certificate).hexdigest() == endpoint.tls_fingerprint[0]
    with Server(pems, late=False) as server:
        other = HttpsConnection(dc.replace(endpoint_of(pems, server.port), tls_fingerprint=("ab" * 32,)))
        with pytest.raises(UtrustError) as caught:
            other.connect()
    assert caught.value.code == "tls_fingerprint_mismatch"


@pytest.mark.parametrize("client", ["other", None])
def test_late_certificate_that_is_rejected_is_an_error(pems: Path, client: str | None) -> None:
    """A wrong certificate ends the connection. Without a certificate, the server decides what it shows."""
    with Server(pems, late=True) as server:
        connection = HttpsConnection(endpoint_of(pems, server.port, client))
        if client is None:
            assert connection.request("GET", "/", headers={}, limit=100).body == b""
        else:
            with pytest.raises((UtrustError, NoResponseError)):
                connection.request("GET", "/", headers={}, limit=100)
        connection.close()


def test_renegotiation_is_refused_by_name(pems: Path) -> None:
    """openssl s_server requests the certificate by a second handshake after it has read the request."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_2", "-cert", "server.pem"]
    server = subprocess.Popen(
        [*command, "-key", "server.key"],
        cwd=pems,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        threading.Thread(target=renegotiate, args=(server,), daemon=True).start()
        connection = HttpsConnection(endpoint_of(pems, port))
        with pytest.raises(UtrustError) as caught:
            request_when_ready(connection)
    finally:
        server.kill()
        server.communicate()
    assert caught.value.code == "tls_renegotiation_required"
    assert "TLS 1.2 renegotiation" in str(caught.value)


def renegotiate(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    with contextlib.suppress(OSError, ValueError):
        for line in server.stdout:
            if b"GET / HTTP" in line:
                server.stdin.write(b"R\n")
                server.stdin.flush()


def request_when_ready(connection: HttpsConnection) -> None:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            connection.request("GET", "/", headers={}, limit=100)
        except NoResponseError as exc:
            if exc.sent:
                raise
            time.sleep(0.05)
