# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authentication of the API, and its entries in the request log."""

from __future__ import annotations

import hashlib
import socket
import ssl
import typing as t

import pytest
from utrust_appliance import __version__, pki
from utrust_appliance.testing import Api, cluster

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=3, joined=2) as running:
        yield running


def test_login_by_certificate_or_token(control: Control) -> None:
    """The operator can log in by certificate or token."""
    assert Api(control, "node1")("GET", "/node").status == 200
    assert Api(control, "node2", client=None)("GET", "/node", authorization=f"Bearer {control.token}").status == 200


def test_login_missing_wrong_or_guest_rejected(control: Control) -> None:
    """A missing or wrong login is unauthenticated, and a guest is forbidden."""
    anonymous = Api(control, "node1", client=None)
    for response in (
        anonymous("GET", "/node"),
        anonymous("GET", "/nowhere"),
        anonymous("GET", "/node", authorization="Bearer wrong"),
    ):
        assert (response.status, response.code) == (401, "unauthenticated")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    guest = Api(control, "node1", client="guest")("GET", "/node")
    assert (guest.status, guest.code) == (403, "forbidden")
    assert "CN=guest" in guest.data["detail"]
    # A token takes precedence over a valid certificate.
    assert Api(control, "node1")("GET", "/node", authorization="Bearer wrong").status == 401


def test_login_foreign_certificate_gets_no_response(control: Control, tmp_path: Path) -> None:
    """A certificate of another CA gets no response."""
    stranger = pki.make_client(pki.make_ca("another"), "operator")
    stranger.write(tmp_path / "c.pem", tmp_path / "c.key")
    api = Api(control, "node1", client=None)
    api._tls.load_cert_chain(tmp_path / "c.pem", tmp_path / "c.key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        api("GET", "/node")


def test_tls_certificate_matches_published_fingerprint(control: Control) -> None:
    """The TLS certificate of a node matches its published fingerprint."""
    for node in control.status()["nodes"]:
        context = ssl.create_default_context(cafile=str(control.ca_file))
        with (
            socket.create_connection((node["address"], node["port"])) as raw,
            context.wrap_socket(raw, server_hostname=node["address"]) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
        assert der is not None
        assert node["tls_fingerprint"] == "sha256:" + hashlib.sha256(der).hexdigest()


def test_log_has_client_and_request_without_secrets(control: Control) -> None:
    """The log has client and request, but no body and no secret."""
    control.clear_log("node1")
    secret = "a-secret-that-does-not-belong-here"
    Api(control, "node1")("POST", "/hsm/packages", {"expect_keys_digest": secret}, idempotency_key="of-this-test-0001")
    Api(control, "node1")("GET", f"/node?password={secret}")
    first, second = control.requests("node1")
    assert (first["method"], first["path"], first["status"], first["client"]) == (
        "POST",
        "/api/v1/hsm/packages",
        400,
        "operator",
    )
    assert first["idempotency_key"] == "of-this-test-0001"
    assert second["status"] == 400
    assert secret not in (control.folder / "nodes/node1/requests.jsonl").read_text(encoding="utf-8")


def test_log_has_bare_connection_of_unjoined_node(control: Control) -> None:
    """The log of a node that has not joined has connections without a request."""
    node = control.node("node3")
    control.clear_log("node3")
    assert control.connections("node3") == 0
    with socket.create_connection((node["address"], node["port"])) as raw:
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(1) == b""
    assert control.connections("node3") == 1
    assert control.requests("node3") == []
    members = Api(control, "node1")("GET", "/node").data["cluster"]["members"]
    assert [(member["node"], member["joined"], member["connection"]) for member in members] == [
        ("node1", True, "connected"),
        ("node2", True, "connected"),
        ("node3", False, "disconnected"),
    ]


def test_responses_identify_simulator(control: Control) -> None:
    """Responses identify the simulator."""
    response = Api(control, "node1")("GET", "/node")
    assert response.headers["Server"] == "utrust-appliance-simulator"
    assert response.data["appliance"]["product"].endswith("(simulator)")
    assert response.data["hsm"]["model"].endswith("(simulator)")
    assert __version__


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16 this is not HTTP\r\n\r\n", 400),
        (b"GET /api/v1/node HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20000 + b"\r\n\r\n", 400),
        (b"GET /api/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 401),
    ],
)
def test_invalid_http_gets_problem_document(control: Control, sent: bytes, status: int) -> None:
    """An invalid HTTP request gets a problem document."""
    node = control.node("node1")
    context = ssl.create_default_context(cafile=str(control.ca_file))
    with (
        socket.create_connection((node["address"], node["port"])) as raw,
        context.wrap_socket(raw, server_hostname=node["address"]) as tls,
    ):
        tls.sendall(sent)
        with tls.makefile("rb") as response:
            content = response.read()
    assert content.startswith((f"HTTP/1.1 {status}".encode(), f"HTTP/1.0 {status}".encode()))
    assert b"application/problem+json" in content
    assert b"utrust-appliance-simulator" in content
