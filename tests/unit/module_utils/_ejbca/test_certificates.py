# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate that proves a signature of a node: it is for the request of this test, and of no other time."""

from __future__ import annotations

import base64
import datetime
import json
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _json_client
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca import x509 as ejbca_x509
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import IssuedCertificate, Profiles
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.rest import EjbcaRest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.fakes import ENDPOINT, FakeConnection, make_response

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

NOW = datetime.datetime.now(datetime.UTC)
HOUR = datetime.timedelta(hours=1)
CA_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Gate")])
CA_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for dummy in range(2))
PublicKey = t.Any


def issue(
    public_key: PublicKey,
    *,
    begin: datetime.datetime = NOW - HOUR,
    end: datetime.datetime = NOW + HOUR,
    signer: ec.EllipticCurvePrivateKey = CA_KEY,
    subject: x509.Name | None = None,
) -> bytes:
    name = subject or x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "key-gate")])
    builder = x509.CertificateBuilder(CA_NAME, name, public_key, x509.random_serial_number(), begin, end)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)


CA = issue(CA_KEY.public_key(), subject=CA_NAME)


class Ejbca(FakeConnection):
    """Returns a certificate that `make` builds from the public key of the request."""

    def __init__(self, make: t.Callable[[PublicKey], bytes]) -> None:
        super().__init__()
        self._make = make

    def request(self, method: str, path: str, **more: t.Any) -> HttpResponse:
        request = x509.load_pem_x509_csr(json.loads(more["body"])["certificate_request"].encode())
        certificate = base64.b64encode(self._make(request.public_key())).decode()
        document = {
            "certificate": certificate,
            "certificate_chain": [base64.b64encode(CA).decode()],
            "serial_number": "1",
        }
        self._responses = [make_response(201, document)]
        return super().request(method, path, **more)


def enroll(monkeypatch: pytest.MonkeyPatch, make: t.Callable[[PublicKey], bytes]) -> IssuedCertificate:
    monkeypatch.setattr(_json_client, "HttpsConnection", Ejbca(make))
    return EjbcaRest(ENDPOINT).issue_test_certificate("Gate", Profiles("p", "e"), "key-gate")


def test_certificate_of_this_request_proves_the_signer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The serial number is that of the certificate, not what the response says beside it."""
    made: list[bytes] = []

    def make(public_key: PublicKey) -> bytes:
        made.append(issue(public_key))
        return made[0]

    issued = enroll(monkeypatch, make)

    assert issued.signed_by == ejbca_x509.key_fingerprint(x509.load_der_x509_certificate(CA))
    assert issued.serial_number == f"{x509.load_der_x509_certificate(made[0]).serial_number:X}"


YESTERDAY = issue(OTHER_KEY.public_key(), begin=NOW - 24 * HOUR, end=NOW + 1000 * HOUR)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda dummy: YESTERDAY, "certificate_mismatch"),
        (lambda dummy: CA, "certificate_mismatch"),
        (lambda dummy: issue(OTHER_KEY.public_key()), "certificate_mismatch"),
        (lambda dummy: issue(CA_KEY.public_key()), "certificate_mismatch"),
        (lambda key: issue(key, begin=NOW - 3 * HOUR, end=NOW - HOUR), "certificate_not_valid"),
        (lambda key: issue(key, end=NOW), "certificate_not_valid"),
        (lambda key: issue(key, begin=NOW + HOUR, end=NOW + 2 * HOUR), "certificate_not_valid"),
        (lambda key: issue(key, signer=OTHER_KEY), "certificate_signature_invalid"),
        (lambda dummy: b"0", "certificate_signature_invalid"),
        (lambda dummy: b"", "certificate_signature_invalid"),
    ],
    ids=[
        "yesterday",
        "the CA",
        "another key",
        "the key of the CA",
        "over",
        "ends now",
        "later",
        "other CA",
        "bytes",
        "empty",
    ],
)
def test_other_certificate_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, make: t.Callable[[PublicKey], bytes], code: str
) -> None:
    """A node that cannot sign can hand back a certificate that another node issued before."""
    with pytest.raises(ApiError) as refused:
        enroll(monkeypatch, make)
    assert refused.value.code == code
