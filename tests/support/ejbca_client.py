# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Minimal client of the simulated EJBCA, and certificate checks with openssl."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import typing as t
from urllib.parse import quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.control import Control

REST = "/ejbca/ejbca-rest-api/v1"
HEALTH = "/ejbca/publicweb/healthcheck/ejbcahealth"
TOKEN, CA, FIRST = "SigningToken", "IssuingCA", "signKey-2025"
DISCONNECTED = "CA: Error CA Token is disconnected, CA Name : IssuingCA"


class Response(t.NamedTuple):
    """A response of EJBCA."""

    status: int
    data: t.Any
    text: str


class EjbcaClient:
    """`EjbcaClient(control, "node1")("PUT", "/cryptotoken/T/deactivate")`. Paths below /ejbca and /simulator are used unchanged."""

    def __init__(self, control: Control, node: str, *, client: str | None = "operator") -> None:
        self._place = urlsplit(control.ejbca(node, "status")["url"])
        self._tls = ssl.create_default_context(cafile=str(control.ca_file))
        if client:
            self._tls.load_cert_chain(*control.client(client))

    def __call__(self, method: str, path: str, body: dict[str, t.Any] | bytes | None = None) -> Response:
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        whole = path if path.startswith(("/ejbca", "/simulator")) else REST + path
        connection = http.client.HTTPSConnection(
            str(self._place.hostname), self._place.port, timeout=30, context=self._tls
        )
        try:
            connection.request(method, whole, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        is_json = "json" in response.headers.get("Content-Type", "")
        return Response(response.status, json.loads(text) if is_json else None, text)

    def health(self) -> tuple[int, str]:
        response = self("GET", HEALTH)
        return response.status, response.text.strip()

    def enroll(self, ca: str = CA, **changes: t.Any) -> Response:
        body = {
            "certificate_request": request_pem(),
            "certificate_profile_name": "ENDUSER",
            "end_entity_profile_name": "EMPTY",
            "certificate_authority_name": ca,
            "username": "someone",
            "password": "enrollment-code",
            "include_chain": True,
        }
        return self("POST", "/certificate/pkcs10enroll", {**body, **changes})

    def ca_certificate(self, subject: str) -> str:
        return self("GET", f"/ca/{quote(subject, safe='')}/certificate/download").text


def request_pem(common_name: str = "someone") -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def openssl_verifies(certificate: str, ca: str, folder: Path) -> bool:
    """Whether openssl accepts the certificate with this CA."""
    (folder / "leaf.pem").write_text(certificate, encoding="ascii")
    (folder / "ca.pem").write_text(ca, encoding="ascii")
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-partial_chain",
        "-CAfile",
        str(folder / "ca.pem"),
        str(folder / "leaf.pem"),
    ]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
