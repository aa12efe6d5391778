# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CAs of EJBCA: one unusual CA must not hide the others."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _json_client
from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca import x509 as ejbca_x509
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.rest import EjbcaRest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, ResponseLostError
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import (
    InvalidResponseError,
    ResponseTooLargeError,
)
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.fakes import ENDPOINT, FakeConnection, make_response


def pem(issuer: str = "CA") -> bytes:
    """Return a certificate of an Ed25519 key."""
    key = Ed25519PrivateKey.generate()
    name, issued_by = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in ("CA", issuer))
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issued_by, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    return builder.sign(key, None).public_bytes(Encoding.PEM)


def test_authorities_with_unusual_entries_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CA without a subject, without a certificate, or with an unreadable one has a problem. The others have their facts."""
    entries = [{"name": name, "subject_dn": f"CN={name}"} for name in ("Good", "None", "Broken")]
    connection = FakeConnection(
        make_response(200, {"certificate_authorities": [{"name": "NoSubject"}, *entries]}),
        make_response(200, pem(), media_type="text/plain"),
        make_response(404, b"no certificate"),
        make_response(200, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    )
    monkeypatch.setattr(_json_client, "HttpsConnection", connection)
    found = EjbcaRest(ENDPOINT).authorities()
    assert [(ca.name, ca.public_key_sha256 is not None, ca.problem is None) for ca in found] == [
        ("NoSubject", False, False),
        ("Good", True, True),
        ("None", False, False),
        ("Broken", False, False),
    ]


@pytest.mark.parametrize("failure", [InvalidResponseError("two lengths"), ResponseTooLargeError("too large")], ids=str)
def test_generate_with_unusable_response_is_lost(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    """EJBCA may have generated the key, so the operation reads the HSM."""
    monkeypatch.setattr(_json_client, "HttpsConnection", FakeConnection(failure))
    with pytest.raises(ResponseLostError):
        EjbcaRest(ENDPOINT).generate("token", "alias", "EC", "P-256")


@pytest.mark.parametrize(("issuer", "is_root"), [("CA", True), ("Root", False)])
def test_self_signed_certificate_is_of_a_root(issuer: str, is_root: bool) -> None:
    assert ejbca_x509.active_certificate(pem(issuer).decode())[2] is is_root


def test_authorities_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        _json_client,
        "HttpsConnection",
        FakeConnection(make_response(200, {"certificate_authorities": [{}] * (limits.MAX_AUTHORITIES + 1)})),
    )
    with pytest.raises(ApiError) as caught:
        EjbcaRest(ENDPOINT).authorities()
    assert caught.value.code == "response_too_large"


def test_certificate_with_unsupported_key_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library does not support every algorithm, for example SM2."""

    def unsupported(dummy: object) -> str:
        raise UnsupportedAlgorithm("SM2")

    monkeypatch.setattr(ejbca_x509, "key_fingerprint", unsupported)
    der = x509.load_pem_x509_certificate(pem()).public_bytes(Encoding.DER)
    with pytest.raises(ApiError):
        ejbca_x509.active_certificate(pem().decode())
    with pytest.raises(ApiError):
        ejbca_x509.check_test_certificate(
            der, der, ejbca_x509.CertificateRequest("", ""), datetime.datetime.now(datetime.UTC)
        )
