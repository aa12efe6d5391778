# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API of the simulated EJBCA."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import typing as t
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, DISCONNECTED, FIRST, TOKEN, EjbcaClient, openssl_verifies, request_pem

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def control(hsm: str) -> Iterator[Control]:
    with cluster(nodes=3, joined=2, restored=2, ejbca=True, faults=True, hsm=hsm) as running:
        yield running


def labels(control: Control, node: str) -> list[str]:
    return [key["label"] for key in control.keys(node)]


def test_enroll_certificate_accepted_by_openssl(control: Control, tmp_path: Path) -> None:
    """Every node issues certificates that OpenSSL accepts."""
    for node in ("node1", "node2"):
        response = EjbcaClient(control, node).enroll()
        assert response.status == 201, response
        made, issuer = (
            x509.load_der_x509_certificate(base64.b64decode(text))
            for text in (response.data["certificate"], response.data["certificate_chain"][0])
        )
        assert f"{made.serial_number:X}" == response.data["serial_number"]
        leaf, ca = (item.public_bytes(Encoding.PEM).decode() for item in (made, issuer))
        assert openssl_verifies(leaf, ca, tmp_path)
        public = issuer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert public.decode() == control.public_key("node1", FIRST)


def test_ca_list_same_on_every_node(control: Control) -> None:
    """CA list and download are the same on every node."""
    known = [EjbcaClient(control, node)("GET", "/ca").data["certificate_authorities"] for node in ("node1", "node2")]
    assert known[0] == known[1]
    assert [ca["name"] for ca in known[0]] == [CA]
    subject = known[0][0]["subject_dn"]
    assert EjbcaClient(control, "node2").ca_certificate(subject) == control.ejbca("node1", "issue")["ca_certificate"]
    assert EjbcaClient(control, "node2")("GET", "/ca/CN%3DNobody/certificate/download").status == 404
    assert EjbcaClient(control, "node1")("GET", "/cryptotoken/status").data["status"] == "OK"


def test_generate_key_on_one_node_only(control: Control) -> None:
    """A generated key exists on one node only and can be removed."""
    web = EjbcaClient(control, "node1")
    for alg, spec, kind in (("RSA", "2048", "rsa"), ("EC", "P-384", "ec"), ("ECDSA", "prime256v1", "ec")):
        body = {"key_pair_alias": "restKey", "key_alg": alg, "key_spec": spec}
        assert web("POST", f"/cryptotoken/{TOKEN}/generatekeys", body).status == 201
        assert next(key["type"] for key in control.keys("node1") if key["label"] == "restKey") == kind
        assert "restKey" not in labels(control, "node2")
        again = web("POST", f"/cryptotoken/{TOKEN}/generatekeys", body)
        assert (again.status, again.data["error_code"]) == (409, 409)
        assert "restKey" in again.data["error_message"]
        assert web("POST", f"/cryptotoken/{TOKEN}/restKey/removekeys").status == 200
        assert "restKey" not in labels(control, "node1")
    assert web("POST", f"/cryptotoken/{TOKEN}/restKey/removekeys").status == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/cryptotoken/Nothing/generatekeys", {"key_pair_alias": "a", "key_alg": "RSA", "key_spec": "2048"}, 404, "Nothing"),
        ("POST", f"/cryptotoken/{TOKEN}/generatekeys", {"key_pair_alias": "a", "key_alg": "RSA", "key_spec": "512"}, 400, "512"),
        ("POST", f"/cryptotoken/{TOKEN}/generatekeys", {"key_alg": "RSA", "key_spec": "2048"}, 400, "key_pair_alias"),
        ("POST", f"/cryptotoken/{TOKEN}/generatekeys", {"key_pair_alias": "\ud800", "key_alg": "EC", "key_spec": "P-256"}, 400, "key_pair_alias"),
        ("POST", f"/cryptotoken/{TOKEN}/generatekeys", b"[]", 400, "object"),
        ("POST", f"/cryptotoken/{TOKEN}/generatekeys", b"{", 400, "JSON"),
        ("POST", f"/cryptotoken/{TOKEN}/generatekeys", b" " * 100_000, 413, "more than"),
        ("PUT", f"/cryptotoken/{TOKEN}/activate", {"activation_code": "wrong"}, 403, "activation code"),
        ("PUT", f"/cryptotoken/{TOKEN}/activate", {}, 400, "activation_code"),
        ("GET", f"/cryptotoken/{TOKEN}/activate", None, 405, "GET"),
        ("GET", "/nowhere", None, 404, "nowhere"),
    ],
)  # fmt: skip
def test_errors_use_format_of_ejbca(
    control: Control, method: str, path: str, body: dict[str, t.Any] | bytes | None, status: int, word: str
) -> None:
    """Errors use the format of EJBCA and explain the reason."""
    response = EjbcaClient(control, "node1")(method, path, body)
    assert (response.status, response.data["error_code"]) == (status, status)
    assert word in response.data["error_message"]


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"certificate_request": "no request"}, 400, "PKCS#10"),
        ({"certificate_authority_name": "NoCA"}, 404, "NoCA"),
        ({"certificate_profile_name": "other"}, 404, "ENDUSER"),
        ({"password": ""}, 400, "password"),
    ],
)
def test_enroll_invalid_request_rejected(control: Control, changes: dict[str, t.Any], status: int, word: str) -> None:
    """An invalid enrollment is rejected with its reason."""
    response = EjbcaClient(control, "node1").enroll(**changes)
    assert (response.status, response.data["error_code"]) == (status, status)
    assert word in response.data["error_message"]


def test_enroll_broken_signature_rejected(control: Control) -> None:
    """A request with a broken signature is rejected."""
    lines = request_pem().strip().splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[-1] ^= 1
    broken = f"{lines[0]}\n{base64.b64encode(der).decode()}\n{lines[-1]}\n"
    assert "not valid" in EjbcaClient(control, "node1").enroll(certificate_request=broken).data["error_message"]


def test_login_required_except_health_check(control: Control) -> None:
    """Only registered clients have access, except for the health check."""
    anonymous, guest = EjbcaClient(control, "node1", client=None), EjbcaClient(control, "node1", client="guest")
    assert (anonymous("GET", "/ca").status, guest("GET", "/ca").status) == (401, 403)
    assert guest("GET", "/ca").data["error_code"] == 403
    assert anonymous.health() == (200, "ALLOK")


def test_health_check_reports_offline_token(control: Control) -> None:
    """The health check reports an offline token as disconnected."""
    control.fault("alarm", node="node2")
    try:
        assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)
        assert EjbcaClient(control, "node2").enroll().status == 503
        assert EjbcaClient(control, "node1").health() == (200, "ALLOK")
    finally:
        control.clear_faults()
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")


def test_unjoined_node_has_no_ejbca(control: Control) -> None:
    """A node that has not joined does not have EJBCA."""
    with pytest.raises(OperationError, match="node3 does not have EJBCA"):
        control.ejbca("node3", "status")
    assert "utrust_ejbca_port" in control.inventory_file.read_text(encoding="utf-8").partition("node2:")[2]
    assert "utrust_ejbca_port" not in control.inventory_file.read_text(encoding="utf-8").partition("node3:")[2]


def test_log_has_requests_without_activation_code(control: Control) -> None:
    """The log of the node has all requests and no activation code."""
    control.clear_log()
    code = (control.folder / "ejbca" / "activation-code").read_text(encoding="ascii").strip()
    assert (
        EjbcaClient(control, "node1")("PUT", f"/cryptotoken/{TOKEN}/activate", {"activation_code": code}).status == 200
    )
    (entry,) = control.requests("node1")
    assert (entry["method"], entry["status"], entry["client"]) == ("PUT", 200, "operator")
    assert code not in json.dumps(control.log("node1")) + (control.folder / "log").read_text(encoding="utf-8")


def test_ejbca_uses_tls_identity_of_node(control: Control) -> None:
    """EJBCA uses the TLS certificate of its node."""
    place = urlsplit(control.ejbca("node1", "status")["url"])
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((str(place.hostname), int(place.port or 0))))
    assert f"sha256:{hashlib.sha256(der).hexdigest()}" == control.node("node1")["tls_fingerprint"]
