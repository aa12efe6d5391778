# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ejbca of a node (EJBCA) can do for a gate: data types and one protocol. Private to keyops.utrust.

EJBCA's REST interface generates keys and (de)activates crypto tokens, but neither lists nor tests keys. What it does offer is a certificate: one
that a node issues is a signature by that node's HSM, through that node's crypto token.
"""

from __future__ import annotations

import typing as t


class Authority(t.NamedTuple):
    """A CA as a node's ejbca names it; the fingerprint is that of its certificate's public key."""

    name: str
    subject_dn: str
    public_key_sha256: str
    not_after: str


class IssuedCertificate(t.NamedTuple):
    """An issued certificate: its serial number, and the fingerprint of the public key under which its signature verifies."""

    serial_number: str
    signed_by: str


class Profiles(t.NamedTuple):
    """What an enrolment names beside the CA."""

    certificate: str
    end_entity: str


class EjbcaNode(t.Protocol):
    """The ejbca of one node."""

    def close(self) -> None:
        """Close the connection."""

    def health(self) -> str | None:
        """What the health check complains of; None where it is content."""

    def authorities(self) -> list[Authority]:
        """Its CAs, with their active certificates."""

    def generate(self, crypto_token: str, alias: str, key_alg: str, key_spec: str) -> None:
        """A new key pair in the HSM of this node."""

    def reactivate(self, crypto_token: str) -> None:
        """Deactivate the crypto token; with auto-activation it activates itself again and reads which keys there are."""

    def issue_test_certificate(self, ca: str, profiles: Profiles, username: str) -> IssuedCertificate:
        """Let this node issue a certificate for a key that is thrown away. Raises ApiError where it refuses or the signature does not verify."""
