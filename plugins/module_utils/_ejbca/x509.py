# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create certificate requests and verify certificates. Private to keyops.utrust.

The Python library cryptography is required. Every controller has it, because ansible-core requires it. A bastion may not have it.
"""

from __future__ import annotations

import datetime
import hashlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import IssuedCertificate
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UtrustError

if t.TYPE_CHECKING:
    from cryptography import x509


#: The clock of the node can be ahead of the clock of this machine.
MAX_CLOCK_DIFFERENCE: t.Final = datetime.timedelta(minutes=5)


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


class CertificateRequest(t.NamedTuple):
    """A PKCS#10 request (PEM), and the key fingerprint of its public key."""

    pem: str
    public_key_sha256: str


def test_csr(common_name: str) -> CertificateRequest:
    """Return a request for a new key that is not stored."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return CertificateRequest(request.public_bytes(Encoding.PEM).decode("ascii"), key_fingerprint(request))


def check_test_certificate(
    certificate: bytes, issuer: bytes, request: CertificateRequest, now: datetime.datetime
) -> IssuedCertificate:
    """Return the facts of the certificate that the issuer signed for this request (both DER), valid at `now`.

    An older certificate proves nothing about the node, because every node can read it from the database.
    Raises ApiError (`certificate_signature_invalid`, `certificate_mismatch`, `certificate_not_valid`).
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        child, parent = _load(certificate), _load(issuer)
        child.verify_directly_issued_by(parent)
        signer, public_key, serial = key_fingerprint(parent), key_fingerprint(child), f"{child.serial_number:X}"
        begin, end = child.not_valid_before_utc, child.not_valid_after_utc
    except (InvalidSignature, ValueError, TypeError, OverflowError, UnsupportedAlgorithm) as exc:
        raise ApiError(
            f"verifying the test certificate: the public key of the CA does not match its signature ({type(exc).__name__}). "
            "Do not use the CA on this node. Compare the keys of the node with the source",
            code="certificate_signature_invalid",
        ) from exc
    if public_key != request.public_key_sha256:
        raise ApiError(
            f"verifying the test certificate: certificate {serial} has another public key than the request, so it was not made for this test. "
            "Check EJBCA on this node",
            code="certificate_mismatch",
        )
    if not begin - MAX_CLOCK_DIFFERENCE <= now < end:
        raise ApiError(
            f"verifying the test certificate: certificate {serial} is valid from {begin:%Y-%m-%dT%H:%M:%SZ} to {end:%Y-%m-%dT%H:%M:%SZ}, not now. "
            "Check the clock of the node and the certificate profile",
            code="certificate_not_valid",
        )
    return IssuedCertificate(serial, signer)


def active_certificate(chain: str) -> tuple[str, str, bool]:
    """Return key fingerprint, end of validity, and whether subject and issuer are equal, of the first certificate in a PEM file.

    Raises ApiError (`response_invalid`).
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        certificate = x509.load_pem_x509_certificates(chain.encode())[0]
        fingerprint = key_fingerprint(certificate)
        is_root = certificate.subject == certificate.issuer
    except (IndexError, ValueError, TypeError, OverflowError, UnsupportedAlgorithm) as exc:
        raise ApiError(
            f"reading the certificate of a CA: the response is not a readable PEM certificate: {exc}. Check the CA in EJBCA",
            code="response_invalid",
        ) from exc
    return fingerprint, certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"), is_root


def key_fingerprint(certificate: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Return the key fingerprint: SHA-256 of the DER SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(public).hexdigest()}"


def _load(der: bytes) -> x509.Certificate:
    from cryptography import x509

    return x509.load_der_x509_certificate(der)
