# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data types and protocol of EJBCA on one node. Private to keyops.utrust.

EJBCA's REST interface generates keys and activates crypto tokens, but does not list or test keys.
A test certificate tests a key: its signature is made by the HSM of the node, through the crypto token of the node.
"""

from __future__ import annotations

import typing as t


class Authority(t.NamedTuple):
    """A CA of EJBCA. The fingerprint is the key fingerprint of its active certificate.

    `is_root` is whether subject and issuer of this certificate are equal, or None without a readable certificate.
    """

    name: str
    subject_dn: str
    public_key_sha256: str | None
    not_after: str | None
    is_root: bool | None
    problem: str | None = None


class IssuedCertificate(t.NamedTuple):
    """An issued certificate: its serial number, and the key fingerprint of the CA key that signed the certificate."""

    serial_number: str
    signed_by: str


class Profiles(t.NamedTuple):
    """Profiles of an enrollment."""

    certificate: str
    end_entity: str


class EjbcaNode(t.Protocol):
    """EJBCA of one node. Methods raise `UtrustError`."""

    def close(self) -> None:
        """Close the connection."""

    def health(self) -> str | None:
        """Return the error of the health check, or None if EJBCA is healthy."""

    def authorities(self) -> list[Authority]:
        """Return the CAs with the facts of their active certificates."""

    def generate(self, crypto_token: str, alias: str, key_alg: str, key_spec: str) -> None:
        """Generate a key pair in the HSM of this node."""

    def reactivate(self, crypto_token: str) -> None:
        """Deactivate the crypto token. With auto-activation EJBCA activates the crypto token again and then reads its keys."""

    def issue_test_certificate(self, ca: str, profiles: Profiles, username: str) -> IssuedCertificate:
        """Issue a certificate for a temporary key.

        Raises ApiError if EJBCA rejects the request, or if the certificate was not made for this request.
        """
