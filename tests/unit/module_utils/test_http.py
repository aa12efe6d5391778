# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS context and certificate fingerprints, without a connection."""

from __future__ import annotations

import dataclasses as dc
import http.client
import socket
import ssl
import subprocess
import time
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import (
    HttpsConnection,
    normalize_fingerprint,
    tls_context,
)
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import NoResponseError

from tests.support.fakes import ENDPOINT

if t.TYPE_CHECKING:
    from pathlib import Path

DIGITS = "0123456789abcdef" * 4
COLONS = ":".join(DIGITS[i : i + 2] for i in range(0, 64, 2))


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a self-signed certificate, its key, its encrypted key, and another key."""
    folder = tmp_path_factory.mktemp("pems")
    subject = ["-subj", "/CN=operator", "-days", "2"]
    for command in (
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-keyout", "client.key", "-out", "client.pem", *subject],
        ["ec", "-in", "client.key", "-aes128", "-passout", "pass:hunter2", "-out", "locked.key"],
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-keyout", "other.key", "-out", "other.pem", *subject],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    (folder / "no.pem").write_text("not a PEM file\n", encoding="ascii")
    return folder


@pytest.mark.parametrize(
    "written",
    [
        DIGITS,
        DIGITS.upper(),
        COLONS,
        COLONS.upper(),
        "sha256:" + DIGITS,
        "SHA256:" + DIGITS,
        "SHA-256=" + COLONS.upper(),
        "sha256 Fingerprint=" + COLONS.upper(),
        "SHA256 Fingerprint: " + COLONS,
        f"  {DIGITS}\n",
        " ".join(DIGITS[i : i + 4] for i in range(0, 64, 4)),
    ],
)
def test_normalize_fingerprint_accepts_usual_notations(written: str) -> None:
    assert normalize_fingerprint(written) == "sha256:" + DIGITS


@pytest.mark.parametrize(
    "written",
    ["", "sha256:", DIGITS[:-1], DIGITS + "0", "g" + DIGITS[1:], "sha1:" + DIGITS[:40], "md5:" + DIGITS, "none", "*"],
)
def test_normalize_fingerprint_rejects_other_text(written: str) -> None:
    with pytest.raises(UtrustError, match="front display") as caught:
        normalize_fingerprint(written)
    assert caught.value.code == "tls_fingerprint_invalid"
    assert repr(written) in str(caught.value)


def test_tls_context_requires_ca_file_or_fingerprint() -> None:
    with pytest.raises(UtrustError, match="ca_file and tls_fingerprint are missing") as caught:
        tls_context(dc.replace(ENDPOINT, tls_fingerprint=()))
    assert caught.value.code == "tls_identity_missing"


def test_tls_context_with_ca_file_verifies_chain(pems: Path) -> None:
    """With a pin the host name is not checked."""
    ca_file = str(pems / "client.pem")
    alone = tls_context(dc.replace(ENDPOINT, ca_file=ca_file, tls_fingerprint=()))
    assert (alone.verify_mode, alone.check_hostname) == (ssl.CERT_REQUIRED, True)
    both = tls_context(dc.replace(ENDPOINT, ca_file=ca_file))
    assert (both.verify_mode, both.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert alone.minimum_version == both.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("name", ["missing.pem", "no.pem"])
def test_tls_context_names_unreadable_ca_file(pems: Path, name: str) -> None:
    with pytest.raises(UtrustError) as caught:
        tls_context(dc.replace(ENDPOINT, ca_file=str(pems / name)))
    assert caught.value.code == "ca_file_unreadable"
    assert str(pems / name) in str(caught.value)


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("missing.pem", "client.key"),
        ("client.pem", "missing.key"),
        ("client.pem", "other.key"),
        ("client.pem", "locked.key"),
        ("client.pem", None),
        ("no.pem", "client.key"),
    ],
)
def test_tls_context_names_unusable_client_certificate(pems: Path, certificate: str, key: str | None) -> None:
    """OpenSSL does not prompt for the passphrase of an encrypted key."""
    endpoint = dc.replace(ENDPOINT, client_cert=str(pems / certificate), client_key=str(pems / key) if key else None)
    with pytest.raises(UtrustError, match="without a passphrase") as caught:
        tls_context(endpoint)
    assert caught.value.code == "client_cert_unreadable"
    assert str(pems / certificate) in str(caught.value)


def test_tls_context_loads_client_certificate(pems: Path) -> None:
    tls_context(dc.replace(ENDPOINT, client_cert=str(pems / "client.pem"), client_key=str(pems / "client.key")))


@pytest.mark.parametrize("pins", [(), ("sha256:" + "0" * 64,)])
def test_connection_that_the_server_resets_before_the_handshake(
    pems: Path, pins: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No response, as for every other lost connection. The ssl module returns a socket that is not connected."""

    def connect(connection: http.client.HTTPSConnection) -> None:
        connection.sock = ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="node1")

    monkeypatch.setattr(http.client.HTTPSConnection, "connect", connect)
    client = HttpsConnection(dc.replace(ENDPOINT, ca_file=str(pems / "client.pem"), tls_fingerprint=pins))
    with pytest.raises(NoResponseError):
        client.request("GET", "/api/v1/node", headers={}, limit=1)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/v1/\u00fc", {}),
        ("/api/v1/ node", {}),
        ("/", {"X": "a\r\nB: c"}),
        ("/", {"X": "a\u00fc"}),
        ("/", {"X": "secret\n"}),
    ],
)
def test_request_rejects_text_that_http_cannot_carry(path: str, headers: dict[str, str]) -> None:
    """The message does not quote the value, because it can be a token. Nothing is connected."""
    with pytest.raises(UtrustError, match="not printable ASCII") as caught:
        HttpsConnection(ENDPOINT).request("GET", path, headers=headers, limit=1)
    assert caught.value.code == "option_invalid"
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_host_name_that_cannot_be_encoded_is_an_error() -> None:
    with pytest.raises(UtrustError, match="the host name cannot be encoded") as caught:
        HttpsConnection(dc.replace(ENDPOINT, host="\u00fc" * 70)).request("GET", "/", headers={}, limit=1)
    assert caught.value.code == "host_invalid"


def test_connect_timeout_covers_all_addresses_and_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several addresses, and a server that accepts the connection but never begins the handshake, share one deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *dummy, **options: [address] * 20)
        connection = HttpsConnection(dc.replace(ENDPOINT, port=port, connect_timeout=0.5))
        started = time.monotonic()
        with pytest.raises(NoResponseError) as caught:
            connection.request("GET", "/", headers={}, limit=10)
    assert not caught.value.sent
    assert time.monotonic() - started < 2.0
