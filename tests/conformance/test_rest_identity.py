# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The transport `rest` against the appliance simulator: authentication."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import ssl
import subprocess
import threading
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UnreachableError, UtrustError
from utrust_appliance.testing import cluster

from tests.support.rest import connected

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

FILES = {"client_cert": "client.pem", "client_key": "client.key"}
WRONG = "sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, keys=1, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    running.clear_log()
    yield running
    running.clear_faults()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foreign CA and a client certificate of this CA."""
    folder = tmp_path_factory.mktemp("foreign")
    for name in ("ca", "client"):
        command = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        files = ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(["openssl", *command, *files], cwd=folder, check=True, capture_output=True)
    return folder


def pin(control: Control, node: str = "node1") -> str:
    return str(control.node(node)["tls_fingerprint"])


def own_pin(foreign: Path) -> str:
    der = ssl.PEM_cert_to_DER_cert((foreign / "ca.pem").read_text(encoding="ascii"))
    return hashlib.sha256(der).hexdigest()


def other_name(control: Control) -> str:
    """Another form of the node address that is not in its certificate."""
    return hex(int(ipaddress.ip_address(control.node("node1")["address"])))


def nothing_was_sent(control: Control) -> bool:
    return all(control.requests(node["node"]) == [] for node in control.status()["nodes"])


# Node


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(lambda dummy: {}, id="CA and pin"),
        pytest.param(lambda dummy: {"tls_fingerprint": ()}, id="CA alone"),
        pytest.param(lambda dummy: {"ca_file": None}, id="pin alone"),
        pytest.param(lambda control: {"tls_fingerprint": (WRONG, pin(control))}, id="the next pin and this one"),
        pytest.param(lambda control: {"tls_fingerprint": (pin(control).upper(),)}, id="pin in capitals"),
        pytest.param(lambda control: {"ca_file": None, "host": other_name(control)}, id="pin under another name"),
        pytest.param(lambda control: {"host": other_name(control)}, id="CA and pin under another name"),
    ],
)
def test_node_with_valid_identity_accepted(control: Control, changes: t.Callable[[Control], dict[str, t.Any]]) -> None:
    """A node with a valid identity is accepted."""
    with connected(control, **changes(control)) as node:
        assert node.node().name == "node1"
    assert [request["client"] for request in control.requests("node1")] == ["operator"]


def test_node_unknown_ca_rejected_without_request(control: Control, foreign: Path) -> None:
    """A certificate of an unknown CA is rejected before any request."""
    with (
        connected(control, ca_file=str(foreign / "ca.pem"), tls_fingerprint=()) as node,
        pytest.raises(UtrustError, match="Nothing was sent") as caught,
    ):
        node.node()
    assert caught.value.code == "certificate_not_trusted"
    assert str(foreign / "ca.pem") in str(caught.value)
    assert "front display" in str(caught.value)
    assert nothing_was_sent(control)


def test_node_other_name_rejected_without_pin(control: Control) -> None:
    """Without a pin, a certificate for another name is rejected."""
    with (
        connected(control, host=other_name(control), tls_fingerprint=()) as node,
        pytest.raises(UtrustError, match="Nothing was sent") as caught,
    ):
        node.node()
    assert caught.value.code == "certificate_not_trusted"
    assert "its certificate is for another " in str(caught.value)
    assert nothing_was_sent(control)


def test_node_unpinned_certificate_gets_no_request(control: Control) -> None:
    """A certificate that is not pinned gets no request, also with the correct CA."""
    with (
        connected(control, tls_fingerprint=(WRONG, pin(control, "node2"))) as node,
        pytest.raises(UtrustError, match="Nothing was sent") as caught,
    ):
        node.node()
    assert caught.value.code == "tls_fingerprint_mismatch"
    assert caught.value.details["actual"] == pin(control)
    assert caught.value.details["expected"] == sorted([WRONG, pin(control, "node2")])
    for words in (pin(control), WRONG, "front display", "another machine may have this address"):
        assert words in str(caught.value)
    assert nothing_was_sent(control)


def test_node_pin_does_not_replace_ca(control: Control, foreign: Path) -> None:
    """If both are set, the pin does not replace the CA."""
    with connected(control, ca_file=str(foreign / "ca.pem")) as node, pytest.raises(UtrustError) as caught:
        node.node()
    assert caught.value.code == "certificate_not_trusted"
    assert nothing_was_sent(control)


def test_node_pin_checked_for_post(control: Control) -> None:
    """The pin is also checked for POST."""
    with connected(control, tls_fingerprint=(WRONG,)) as node, pytest.raises(UtrustError) as caught:
        node.start_restore("front-usb", "node1")
    assert caught.value.code == "tls_fingerprint_mismatch"
    assert nothing_was_sent(control)


# Client


def test_client_token_without_certificate_accepted(control: Control) -> None:
    """A bearer token is accepted without a certificate."""
    with connected(control, client_cert=None, client_key=None, bearer_token=control.token) as node:
        assert node.node().name == "node1"
    assert [request["client"] for request in control.requests("node1")] == ["token"]


def test_client_wrong_token_rejected_not_quoted(control: Control) -> None:
    """A wrong token is rejected, and the message does not contain it."""
    with (
        connected(control, client_cert=None, client_key=None, bearer_token="wrong-token") as node,
        pytest.raises(ApiError) as caught,
    ):
        node.node()
    assert (caught.value.code, caught.value.details["http_status"]) == ("unauthenticated", 401)
    assert "wrong-token" not in str(caught.value)


def test_client_without_login_rejected(control: Control) -> None:
    """A client without a login is rejected."""
    with connected(control, client_cert=None, client_key=None) as node, pytest.raises(ApiError) as caught:
        node.node()
    assert (caught.value.code, caught.value.details["http_status"]) == ("unauthenticated", 401)
    assert "Webconf, page Access" in str(caught.value)


def test_client_unregistered_rejected(control: Control) -> None:
    """A client that is not registered is rejected."""
    certificate, key = control.client("guest")
    with (
        connected(control, client_cert=str(certificate), client_key=str(key)) as node,
        pytest.raises(ApiError) as caught,
    ):
        node.node()
    assert (caught.value.code, caught.value.details["http_status"]) == ("forbidden", 403)
    for words in ("CN=guest", "Webconf, page Access"):
        assert words in str(caught.value)


def test_client_foreign_ca_rejected_and_named(control: Control, foreign: Path) -> None:
    """The message names a rejected client certificate of a foreign CA."""
    certificate, key = str(foreign / "client.pem"), str(foreign / "client.key")
    with (
        connected(control, client_cert=certificate, client_key=key) as node,
        pytest.raises(UnreachableError, match="rejects the client certificate") as caught,
    ):
        node.node()
    assert certificate in str(caught.value)
    assert nothing_was_sent(control)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
@pytest.mark.parametrize("certificate", ["client.pem", None])
def test_client_rejected_in_handshake_named(
    control: Control, foreign: Path, version: ssl.TLSVersion, certificate: str | None
) -> None:
    """The message names the client certificate that a server rejects with a TLS alert."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(foreign / "ca.pem", foreign / "ca.key")
    context.load_verify_locations(control.folder / "client-ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def refuse() -> None:
        plain, dummy = server.accept()
        secured = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        with contextlib.suppress(ssl.SSLError):
            secured.do_handshake()
        # Read the data of the client, because close() would discard the alert otherwise.
        with socket.socket(fileno=secured.detach()) as rest:
            rest.shutdown(socket.SHUT_WR)
            while rest.recv(1 << 16):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=refuse)
        thread.start()
        port = server.getsockname()[1]
        where: dict[str, t.Any] = {
            "host": "127.0.0.1",
            "port": port,
            "ca_file": None,
            "tls_fingerprint": (own_pin(foreign),),
            **{name: str(foreign / file) if certificate else None for name, file in FILES.items()},
        }
        with connected(control, **where) as node, pytest.raises(UtrustError) as caught:
            node.node()
        thread.join()
    assert caught.value.code == "client_certificate_rejected"
    for words in (f"127.0.0.1:{port}", where["client_cert"] or "(not set)", "Webconf, page Access"):
        assert words in str(caught.value)


# Network


def test_network_closed_port_unreachable(control: Control) -> None:
    """A closed port is unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with connected(control, host="127.0.0.1", port=free, retries=2) as node, pytest.raises(UnreachableError) as caught:
        node.node()
    assert caught.value.code == "node_unreachable"
    for words in (f"127.0.0.1:{free}", "3 attempt(s)", "Connection refused", "Check address"):
        assert words in str(caught.value)


def test_network_reset_connection_unreachable(control: Control) -> None:
    """A node that resets connections is unreachable."""
    control.fault("node_down", node="node1")
    with connected(control, retries=2) as node, pytest.raises(UnreachableError) as caught:
        node.node()
    assert caught.value.code == "node_unreachable"
    assert control.connections("node1") == 3


def test_network_silent_server_unreachable(control: Control) -> None:
    """A server that never responds is unreachable."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        connected(control, host="127.0.0.1", port=server.getsockname()[1], connect_timeout=0.2) as node,
        pytest.raises(UnreachableError) as caught,
    ):
        node.node()
    assert caught.value.code == "node_unreachable"
    assert "timed out" in str(caught.value)


def test_network_slow_node_unreachable(control: Control) -> None:
    """A node that responds too late is unreachable."""
    control.fault("latency", node="node1", seconds=30)
    with connected(control, timeout=0.3) as node, pytest.raises(UnreachableError) as caught:
        node.node()
    assert caught.value.code == "node_unreachable"
    assert "timed out" in str(caught.value)


def test_network_without_tls_unreachable(control: Control) -> None:
    """A service without TLS is unreachable."""

    def respond_without_tls() -> None:
        connection, dummy = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            connection.recv(1 << 16)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=respond_without_tls)
        thread.start()
        with (
            connected(control, host="127.0.0.1", port=server.getsockname()[1]) as node,
            pytest.raises(UnreachableError, match="TLS") as caught,
        ):
            node.node()
        thread.join()
    assert caught.value.code == "node_unreachable"
