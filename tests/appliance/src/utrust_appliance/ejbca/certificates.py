# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""X.509 certificates (profile: RFC 5280), signed by a key in an HSM."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from utrust_appliance.ejbca.errors import EjbcaError
from utrust_appliance.ejbca.signer import hash_of
from utrust_appliance.pki import key_usage

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.signer import EcKey, RsaKey

CA_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=365)


def ca_certificate(subject: x509.Name, key: RsaKey | EcKey, issuer: x509.Name | None = None) -> x509.Certificate:
    """A CA certificate: self-signed, or of an issuer outside EJBCA, whose key exists only here."""
    signer = key if issuer in (None, subject) else ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, issuer or subject, key.public_key(), signer.public_key(), CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
    return builder.sign(signer, hash_of(key) if signer is key else hashes.SHA256())


def certificate(
    request: x509.CertificateSigningRequest, issuer: x509.Certificate, key: RsaKey | EcKey
) -> x509.Certificate:
    """Sign a certificate, and verify it with the CA certificate as EJBCA does."""
    builder = _builder(request.subject, issuer.subject, request.public_key(), issuer.public_key(), LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage("digital_signature"), critical=True)
    made = builder.sign(key, hash_of(key))
    try:
        made.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as exc:
        raise EjbcaError(
            500, "The CA certificate does not verify the new certificate, because another key signed it"
        ) from exc
    return made


def read_request(pem: str) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(pem.encode())
    except ValueError as exc:
        raise EjbcaError(400, "certificate_request is not a PKCS#10 request in PEM") from exc
    if not request.is_signature_valid:
        raise EjbcaError(400, "The signature of certificate_request is not valid")
    return request


def issuer_of(pem: str) -> x509.Name:
    return x509.load_pem_x509_certificate(pem.encode()).issuer


def read_name(dn: str) -> x509.Name:
    try:
        return x509.Name.from_rfc4514_string(dn)
    except ValueError as exc:
        raise EjbcaError(400, f"{dn[:100]} is not a distinguished name") from exc


def as_pem(made: x509.Certificate) -> str:
    return made.public_bytes(Encoding.PEM).decode()


def _builder(
    subject: x509.Name, issuer: x509.Name, public: t.Any, issuer_public: t.Any, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=10))
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )
