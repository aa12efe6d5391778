# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The application beside the reference appliance, as EJBCA's REST clients and load balancers meet it."""

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


def test_every_node_issues_certificates_that_openssl_accepts(control: Control, tmp_path: Path) -> None:
    for node in ("node1", "node2"):
        answer = EjbcaClient(control, node).enroll()
        assert answer.status == 201, answer
        made, issuer = (
            x509.load_der_x509_certificate(base64.b64decode(text))
            for text in (answer.data["certificate"], answer.data["certificate_chain"][0])
        )
        assert f"{made.serial_number:X}" == answer.data["serial_number"]
        leaf, ca = (item.public_bytes(Encoding.PEM).decode() for item in (made, issuer))
        assert openssl_verifies(leaf, ca, tmp_path)
        public = issuer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert public.decode() == control.public_key("node1", FIRST)


def test_ca_list_and_download_name_the_same_ca_on_every_node(control: Control) -> None:
    known = [EjbcaClient(control, node)("GET", "/ca").data["certificate_authorities"] for node in ("node1", "node2")]
    assert known[0] == known[1]
    assert [ca["name"] for ca in known[0]] == [CA]
    subject = known[0][0]["subject_dn"]
    assert EjbcaClient(control, "node2").ca_certificate(subject) == control.ejbca("node1", "issue")["ca_certificate"]
    assert EjbcaClient(control, "node2")("GET", "/ca/CN%3DNobody/certificate/download").status == 404
    assert EjbcaClient(control, "node1")("GET", "/cryptotoken/status").data["status"] == "OK"


def test_generated_key_is_on_that_node_only_and_can_be_removed_again(control: Control) -> None:
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
        ("POST", f"/cryptotoken/{TOKEN}/generatekeys", b" " * 100_000, 413, "larger"),
        ("PUT", f"/cryptotoken/{TOKEN}/activate", {"activation_code": "wrong"}, 403, "activation code"),
        ("PUT", f"/cryptotoken/{TOKEN}/activate", {}, 400, "activation_code"),
        ("GET", f"/cryptotoken/{TOKEN}/activate", None, 405, "GET"),
        ("GET", "/nowhere", None, 404, "nowhere"),
    ],
)  # fmt: skip
def test_refusals_are_error_objects_that_name_what_is_wrong(
    control: Control, method: str, path: str, body: dict[str, t.Any] | bytes | None, status: int, word: str
) -> None:
    answer = EjbcaClient(control, "node1")(method, path, body)
    assert (answer.status, answer.data["error_code"]) == (status, status)
    assert word in answer.data["error_message"]


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"certificate_request": "no request"}, 400, "PKCS#10"),
        ({"certificate_authority_name": "NoCA"}, 404, "NoCA"),
        ({"certificate_profile_name": "other"}, 404, "ENDUSER"),
        ({"password": ""}, 400, "password"),
    ],
)
def test_enrollment_is_refused_by_its_reason(
    control: Control, changes: dict[str, t.Any], status: int, word: str
) -> None:
    answer = EjbcaClient(control, "node1").enroll(**changes)
    assert (answer.status, answer.data["error_code"]) == (status, status)
    assert word in answer.data["error_message"]


def test_request_with_a_broken_signature_gets_no_certificate(control: Control) -> None:
    lines = request_pem().strip().splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[-1] ^= 1
    broken = f"{lines[0]}\n{base64.b64encode(der).decode()}\n{lines[-1]}\n"
    assert "not valid" in EjbcaClient(control, "node1").enroll(certificate_request=broken).data["error_message"]


def test_only_registered_clients_are_let_in_but_the_health_check_asks_nobody(control: Control) -> None:
    nobody, guest = EjbcaClient(control, "node1", client=None), EjbcaClient(control, "node1", client="guest")
    assert (nobody("GET", "/ca").status, guest("GET", "/ca").status) == (401, 403)
    assert guest("GET", "/ca").data["error_code"] == 403
    assert nobody.health() == (200, "ALLOK")


def test_offline_token_is_what_the_health_check_calls_disconnected(control: Control) -> None:
    control.fault("alarm", node="node2")
    try:
        assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)
        assert EjbcaClient(control, "node2").enroll().status == 503
        assert EjbcaClient(control, "node1").health() == (200, "ALLOK")
    finally:
        control.clear_faults()
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")


def test_node_that_has_not_joined_has_no_application(control: Control) -> None:
    with pytest.raises(OperationError, match="node3 has no application"):
        control.ejbca("node3", "status")
    assert "utrust_ejbca_port" in control.inventory_file.read_text(encoding="utf-8").partition("node2:")[2]
    assert "utrust_ejbca_port" not in control.inventory_file.read_text(encoding="utf-8").partition("node3:")[2]


def test_requests_are_in_the_log_of_the_node_and_no_activation_code_is(control: Control) -> None:
    control.clear_log()
    code = (control.folder / "ejbca" / "activation-code").read_text(encoding="ascii").strip()
    assert (
        EjbcaClient(control, "node1")("PUT", f"/cryptotoken/{TOKEN}/activate", {"activation_code": code}).status == 200
    )
    (entry,) = control.requests("node1")
    assert (entry["method"], entry["status"], entry["client"]) == ("PUT", 200, "operator")
    assert code not in json.dumps(control.log("node1")) + (control.folder / "log").read_text(encoding="utf-8")


def test_application_has_the_tls_identity_of_its_node(control: Control) -> None:

    place = urlsplit(control.ejbca("node1", "status")["url"])
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((str(place.hostname), int(place.port or 0))))
    assert f"sha256:{hashlib.sha256(der).hexdigest()}" == control.node("node1")["tls_fingerprint"]
