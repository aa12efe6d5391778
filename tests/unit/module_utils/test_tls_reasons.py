# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates that one side does not accept: each reason has its own sentence and its own remedy."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint, HttpsConnection
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime.datetime.now(datetime.UTC)
CA_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test CA")])


class Authority:
    """A CA that writes certificates with their keys to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = self._write("ca", self._build(CA_NAME, self.key, (-1, 9), ca=True), self.key)

    def issue(self, name: str, days: tuple[int, int], host: str = "localhost") -> Path:
        """Write a certificate that is valid from and to these days after now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return self._write(name, self._build(subject, key, days, host=host), key)

    def _build(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        days: tuple[int, int],
        *,
        ca: bool = False,
        host: str = "localhost",
    ) -> x509.Certificate:
        begin, end = (NOW + datetime.timedelta(days=number) for number in days)
        names: list[x509.GeneralName] = [x509.DNSName(host)]
        if host == "localhost":
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        builder = x509.CertificateBuilder(CA_NAME, subject, key.public_key(), x509.random_serial_number(), begin, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Path:
        path = self.folder / f"{name}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
        return path


@contextlib.contextmanager
def server(certificate: Path, clients: Path | None = None) -> Iterator[int]:
    """Accept one connection, and respond to one request. With `clients`, a client certificate is required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as plain:
            plain.settimeout(10)
            connection = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            try:
                connection.do_handshake()
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            except ssl.SSLError:
                # Without this, the kernel resets the connection, and the client can miss the alert.
                connection.shutdown(socket.SHUT_WR)
                while socket.socket.recv(connection, 65536):
                    pass
            finally:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)


def get(port: int, ca_file: Path, host: str = "localhost", client: Path | None = None) -> int:
    certificate = str(client) if client is not None else None
    connection = HttpsConnection(Endpoint(host, port, certificate, None, str(ca_file), (), 10, 10))
    with contextlib.closing(connection):
        return connection.request("GET", "/", headers={}, limit=100).status


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_valid_certificates_are_accepted(authority: Authority) -> None:
    with server(authority.issue("server", (-1, 1)), authority.file) as port:
        assert get(port, authority.file, client=authority.issue("client", (-1, 1))) == 200


@pytest.mark.parametrize(
    ("days", "host", "address", "words"),
    [
        ((-9, -1), "localhost", "localhost", "its certificate has expired. "),
        ((1, 9), "localhost", "localhost", "its certificate is not valid yet. "),
        ((-1, 1), "node9", "localhost", "its certificate is for another host name. "),
        ((-1, 1), "node9", "127.0.0.1", "its certificate is for another address. "),
    ],
    ids=["expired", "early", "name", "address"],
)
def test_rejected_certificate_has_one_reason(
    authority: Authority, days: tuple[int, int], host: str, address: str, words: str
) -> None:
    """A CA that is trusted has signed the certificate, so the message does not speak of the CA."""
    with server(authority.issue("server", days, host)) as port, pytest.raises(UtrustError) as caught:
        get(port, authority.file, host=address)
    assert caught.value.code == "certificate_not_trusted"
    assert words in str(caught.value)
    assert "Nothing was sent" in str(caught.value)
    assert "another CA" not in str(caught.value)
    assert "signed by" not in str(caught.value)


@pytest.mark.parametrize(("which", "words"), [("leaf", "signed by a CA that is not in"), ("self", "is self-signed")])
def test_certificate_of_another_ca_names_the_file(authority: Authority, tmp_path: Path, which: str, words: str) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    certificate = other.issue("server", (-1, 1)) if which == "leaf" else other.file
    with server(certificate) as port, pytest.raises(UtrustError) as caught:
        get(port, authority.file)
    assert caught.value.code == "certificate_not_trusted"
    assert words in str(caught.value)
    assert str(authority.file) in str(caught.value)
    assert "before you trust another CA" in str(caught.value)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("days", [(-9, -1), (1, 9)], ids=["expired", "early"])
def test_expired_client_certificate_is_named(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, days: tuple[int, int], version: ssl.TLSVersion
) -> None:
    """The message is about the client certificate, not about address, port or power of the node."""
    client = authority.issue("client", days)
    original = ssl.SSLContext.load_cert_chain

    def limited(context: ssl.SSLContext, *arguments: t.Any, **options: t.Any) -> None:
        context.maximum_version = version
        original(context, *arguments, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", limited)
    with server(authority.issue("server", (-1, 1)), authority.file) as port, pytest.raises(UtrustError) as caught:
        get(port, authority.file, client=client)
    assert caught.value.code == "client_certificate_rejected"
    assert f"rejected the client certificate {client}" in str(caught.value)
    assert "has not expired" in str(caught.value)
