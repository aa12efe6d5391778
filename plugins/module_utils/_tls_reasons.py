# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why one side of a TLS handshake does not accept the certificate of the other side. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

if t.TYPE_CHECKING:
    import ssl

    from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint, Peer

#: Alerts with which a server ends an established connection if the client rejects a second handshake.
_RENEGOTIATION = ("HANDSHAKE_FAILURE", "NO_RENEGOTIATION")
_ALERTS_ABOUT_CLIENT = (
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "CERTIFICATE_UNKNOWN",
    "HANDSHAKE_FAILURE",
    "ACCESS_DENIED",
)
#: What each error of X509_verify_cert means, and what to do. Other errors are shown as OpenSSL names them.
_TRUST_ANOTHER = "Compare the certificate fingerprint with the front display of the node before you trust another CA"
_REASONS: t.Final = {
    7: (
        "its certificate is signed by a CA that is not in {ca_file}",
        _TRUST_ANOTHER,
    ),  # the CA has the name of another CA
    9: ("its certificate is not valid yet", "Check the clocks of this machine and of the node"),
    10: ("its certificate has expired", "Check the clock of this machine, then renew the certificate of the node"),
    18: ("its certificate is self-signed, and is not in {ca_file}", _TRUST_ANOTHER),
    19: ("its certificate is signed by a CA that is not in {ca_file}", _TRUST_ANOTHER),
    20: ("its certificate is signed by a CA that is not in {ca_file}", _TRUST_ANOTHER),
    21: ("its certificate is signed by a CA that is not in {ca_file}", _TRUST_ANOTHER),
    62: ("its certificate is for another host name", "Set host to a name in the certificate, or set tls_fingerprint"),
    64: ("its certificate is for another address", "Set host to an address in the certificate, or set tls_fingerprint"),
}


def not_trusted(endpoint: Endpoint, exc: ssl.SSLCertVerificationError) -> UtrustError:
    """Return the error (`certificate_not_trusted`) for a certificate of the server, with one reason and one remedy."""
    unknown = (f"its certificate was rejected: {exc.verify_message.rstrip('.')}", "Correct the certificate")
    reason, remedy = _REASONS.get(exc.verify_code, unknown)
    return UtrustError(
        f"connecting to {endpoint.host}:{endpoint.port}: {reason.format(ca_file=endpoint.ca_file)}. Nothing was sent. {remedy}",
        code="certificate_not_trusted",
    )


def raise_if_client_rejected(endpoint: Endpoint, exc: ssl.SSLError, peer: Peer | None = None) -> None:
    """Raise UtrustError if the error is about the certificate of the client.

    `peer` is the server of a connection whose handshake has ended. The code is `tls_renegotiation_required` or `client_certificate_rejected`.
    """
    reason = (exc.reason or "").upper()
    if peer is not None and peer.tls_version == "TLSv1.2" and any(word in reason for word in _RENEGOTIATION):
        # A server with TLS 1.2 can request the certificate after its handshake only by a second handshake.
        raise UtrustError(
            f"connecting to {endpoint.host}:{endpoint.port}: the front end of the server requests the client certificate by a TLS 1.2 renegotiation "
            f"({exc.reason}). The collection does not renegotiate, because a renegotiation can mix two requests. "
            "Let the front end request the certificate in the first handshake, or enable TLS 1.3",
            code="tls_renegotiation_required",
        ) from exc
    if "ALERT" in reason and any(word in reason for word in _ALERTS_ABOUT_CLIENT):
        raise UtrustError(
            f"connecting to {endpoint.host}:{endpoint.port}: the server rejected the client certificate {endpoint.client_cert or '(not set)'} "
            f"in the TLS handshake ({exc.reason}). Check that the certificate has not expired, "
            "register a certificate for automation in Webconf, page Access, and set client_cert and client_key",
            code="client_certificate_rejected",
        ) from exc
