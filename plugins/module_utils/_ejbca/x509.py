# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates: making a request for a throw-away key, and verifying what came back. Private to keyops.utrust.

Needs the Python library cryptography, which ansible-core itself needs, so every controller has it; another machine may not.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UtrustError

if t.TYPE_CHECKING:
    from cryptography import x509


def require_cryptography() -> None:
    """Raises UtrustError (`python_library_missing`) where the library is not there."""
    try:
        import cryptography  # noqa: F401 - only whether it is there
    except ImportError as exc:
        raise UtrustError(
            "reading certificates: the Python library cryptography is missing on the machine that executes this; install it there, or use "
            "connection=local, because a controller has it",
            code="python_library_missing",
        ) from exc


def test_csr(common_name: str) -> str:
    """A PKCS#10 request (PEM) for a key that nobody keeps."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode("ascii")


def signer_of(certificate: bytes, issuer: bytes) -> str:
    """Fingerprint of the issuer's public key, under which the certificate (both DER) verifies. Raises ApiError (`certificate_signature_invalid`)."""
    from cryptography.exceptions import InvalidSignature

    try:
        parent = _load(issuer)
        _load(certificate).verify_directly_issued_by(parent)
    except (InvalidSignature, ValueError, TypeError) as exc:
        raise ApiError(
            f"verifying the certificate that the node issued: it does not verify under the CA's public key ({type(exc).__name__})",
            code="certificate_signature_invalid",
        ) from exc
    return key_fingerprint(parent)


def active_certificate(chain: str) -> tuple[str, str]:
    """Fingerprint of the public key and end of validity of the first certificate of a PEM file. Raises ApiError (`response_invalid`)."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError as exc:
        raise ApiError(
            f"reading a CA's certificate: it is no certificate in PEM: {exc}", code="response_invalid"
        ) from exc
    return key_fingerprint(certificate), certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def key_fingerprint(certificate: x509.Certificate) -> str:
    """As the inventory of an HSM has it: SHA-256 of the DER SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(public).hexdigest()}"


def _load(der: bytes) -> x509.Certificate:
    from cryptography import x509

    return x509.load_der_x509_certificate(der)
