# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates of a cluster: one CA for the nodes and one CA for the clients (profile: RFC 5280)."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
import typing as t
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from utrust_appliance.files import write_private

if t.TYPE_CHECKING:
    from pathlib import Path

LIFETIME = timedelta(days=3650)
_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
_ALL_USAGES = (*_USAGES, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


def key_usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in _ALL_USAGES})


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "utrust-appliance (simulator)"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def sha256(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, certificate: Path, key: Path) -> None:
        encoded = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(key, encoded)
        write_private(certificate, self.pem)


def _build(subject: str, key: ec.EllipticCurvePrivateKey, issuer: Identity | None) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    issuer_key = issuer.key if issuer else key
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer.certificate.subject if issuer else _name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def make_ca(common_name: str) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _build(common_name, key, None)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
    return Identity(builder.sign(key, hashes.SHA256()), key)


def _leaf(ca: Identity, common_name: str, usage: x509.ObjectIdentifier, names: list[x509.GeneralName]) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _build(common_name, key, ca)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage("digital_signature"), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Identity(builder.sign(ca.key, hashes.SHA256()), key)


def make_node(ca: Identity, name: str, address: str) -> Identity:
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName(name)]
    return _leaf(ca, name, ExtendedKeyUsageOID.SERVER_AUTH, names)


def make_client(ca: Identity, common_name: str) -> Identity:
    return _leaf(ca, common_name, ExtendedKeyUsageOID.CLIENT_AUTH, [])


def expiry_of(path: Path) -> str:
    """Expiry of a certificate (PEM), in the format of the contract."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc.isoformat().replace("+00:00", "Z")


def fingerprint_of(certificate: Path) -> str:
    """Certificate fingerprint: `sha256:` and the SHA-256 of the DER."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def read_identity(certificate: Path, key: Path) -> Identity:
    private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    made = x509.load_pem_x509_certificate(certificate.read_bytes())
    return Identity(made, t.cast("ec.EllipticCurvePrivateKey", private))


def server_context(certificate: Path, key: Path, client_ca: Path, client_auth: str = "handshake") -> ssl.SSLContext:
    """TLS settings of a node. A client certificate is optional, so that a client without a certificate gets a problem document.

    With `late`, the server asks after the request, which requires TLS 1.3. With `never`, it does not ask.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_NONE if client_auth == "never" else ssl.CERT_OPTIONAL
    if client_auth == "late":
        context.minimum_version, context.post_handshake_auth = ssl.TLSVersion.TLSv1_3, True
    return context
