# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create certificate requests and verify certificates. Private to keyops.utrust.

The Python library cryptography is required. Every controller has it, because ansible-core requires it. A bastion may not have it.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UtrustError

if t.TYPE_CHECKING:
    from cryptography import x509


def require_cryptography() -> None:
    """Raise UtrustError (`python_library_missing`) if the library is missing."""
    try:
        import cryptography  # noqa: F401 - only tests whether the import works
    except ImportError as exc:
        raise UtrustError(
            "reading certificates: the Python library cryptography is missing on the machine that executes this task. Install it there, "
            "or run the task on the controller with connection=local",
            code="python_library_missing",
        ) from exc


def test_csr(common_name: str) -> str:
    """Return a PKCS#10 request (PEM) for a new key that is not stored."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode("ascii")


def signer_of(certificate: bytes, issuer: bytes) -> str:
    """Return the key fingerprint of the issuer that signed the certificate (both DER). Raises ApiError (`certificate_signature_invalid`)."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        parent = _load(issuer)
        _load(certificate).verify_directly_issued_by(parent)
        return key_fingerprint(parent)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ApiError(
            f"verifying the test certificate: the public key of the CA does not match its signature ({type(exc).__name__}). "
            "Do not use the CA on this node. Compare the keys of the node with the source",
            code="certificate_signature_invalid",
        ) from exc


def active_certificate(chain: str) -> tuple[str, str]:
    """Return key fingerprint and end of validity of the first certificate in a PEM file. Raises ApiError (`response_invalid`)."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        certificate = x509.load_pem_x509_certificates(chain.encode())[0]
        fingerprint = key_fingerprint(certificate)
    except (IndexError, ValueError, TypeError, OverflowError, UnsupportedAlgorithm) as exc:
        raise ApiError(
            f"reading the certificate of a CA: the response is not a readable PEM certificate: {exc}. Check the CA in EJBCA",
            code="response_invalid",
        ) from exc
    return fingerprint, certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def key_fingerprint(certificate: x509.Certificate) -> str:
    """Return the key fingerprint of an HSM key: SHA-256 of the DER SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(public).hexdigest()}"


def _load(der: bytes) -> x509.Certificate:
    from cryptography import x509

    return x509.load_der_x509_certificate(der)
