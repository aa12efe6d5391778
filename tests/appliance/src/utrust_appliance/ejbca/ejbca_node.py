# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EJBCA of one node. Its CAs sign with the HSM of the node, and the shared database has their key mappings."""

from __future__ import annotations

import hashlib
import secrets
import threading
import typing as t
from dataclasses import replace

from cryptography import x509

from utrust_appliance.ejbca import certificates
from utrust_appliance.ejbca.crypto_token import CryptoToken
from utrust_appliance.ejbca.database import CertificateAuthority, SharedDatabase, TokenSettings
from utrust_appliance.ejbca.errors import EjbcaError, TokenOfflineError
from utrust_appliance.files import write_private

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.node import Node

TOKEN, SLOT = "SigningToken", 0
CA, SUBJECT, FIRST_ALIAS = "IssuingCA", "CN=Issuing CA,O=utrust-appliance (simulator)", "signKey-2025"
HEALTHY = "ALLOK"


def open_database(folder: Path, url: str | None) -> SharedDatabase:
    """Open the database of a cluster and create its crypto token. The activation code of the token is in a separate file."""
    folder.mkdir(mode=0o700, exist_ok=True)
    database = SharedDatabase(url or f"sqlite:///{folder}/database.sqlite3")
    code = folder / "activation-code"
    if not code.exists():
        write_private(code, f"{secrets.token_urlsafe(12)}\n".encode())
    if not database.tokens():
        digest = hashlib.sha256(code.read_text(encoding="ascii").strip().encode()).hexdigest()
        database.put_token(TokenSettings(TOKEN, SLOT, digest))
    return database


class EjbcaNode:
    """The EJBCA of one node, used by REST API and admin operations. A lock serializes all requests."""

    def __init__(self, node: Node, database: SharedDatabase) -> None:
        self.node = node
        self._database = database
        self._lock = threading.RLock()
        self._tokens = {settings.name: CryptoToken(node, database, settings.name) for settings in database.tokens()}

    def start(self) -> None:
        """Activate tokens automatically, and create the first CA in an empty database."""
        with self._lock:
            active = [token.active for token in self._tokens.values()]
            if any(active) and not self._database.authorities():
                token = self.token(TOKEN)
                if token.fingerprint(FIRST_ALIAS) is None:
                    token.generate(FIRST_ALIAS, "rsa-3072")
                self.create(CA, SUBJECT, TOKEN, FIRST_ALIAS)

    def token(self, name: str) -> CryptoToken:
        if name not in self._tokens:
            raise EjbcaError(404, f"The crypto token {name} does not exist")
        return self._tokens[name]

    # REST API of EJBCA

    def authorities(self) -> list[CertificateAuthority]:
        return self._database.authorities()

    def activate(self, token: str, code: str) -> None:
        with self._lock:
            self.token(token).activate(code)

    def deactivate(self, token: str) -> None:
        with self._lock:
            self.token(token).deactivate()

    def generate(self, token: str, alias: str, kind: str) -> None:
        with self._lock:
            self.token(token).generate(alias, kind)

    def remove(self, token: str, alias: str) -> None:
        with self._lock:
            self.token(token).remove(alias)

    def issue(self, ca: str, request: str) -> tuple[x509.Certificate, x509.Certificate]:
        """Issue a certificate with the current key of the CA in the HSM of this node. Returns the certificate and the CA certificate."""
        csr = certificates.read_request(request)
        with self._lock:
            authority = self._database.authority(ca)
            key = self.token(authority.token).key(authority.current_alias)
            issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
            made = certificates.certificate(csr, issuer, key)
            self._database.record(
                serial_number=f"{made.serial_number:X}",
                authority=ca,
                node=self.node.name,
                alias=authority.current_alias,
                certificate=certificates.as_pem(made),
            )
            return made, issuer

    def health(self) -> tuple[int, str]:
        """The health check of EJBCA. It tests only the current key of each CA, not the next and previous keys."""
        with self._lock:
            if problem := self._database.problem():
                return 500, f"DB: Error creating connection to database: {problem}"
            offline = [
                f"CA: Error CA Token is disconnected, CA Name : {authority.name}"
                for authority in self._database.authorities()
                if authority.in_health_check and not self._is_available(authority.token, authority.current_alias)
            ]
            return (500, "\n".join(offline)) if offline else (200, HEALTHY)

    # Admin Web of EJBCA

    def describe(self) -> dict[str, t.Any]:
        with self._lock:
            return {
                "node": self.node.name,
                "crypto_tokens": [self._describe_token(settings) for settings in self._database.tokens()],
                "certificate_authorities": [
                    {
                        "name": authority.name,
                        "crypto_token": authority.token,
                        **{
                            place: alias and {"alias": alias, "available": self._is_available(authority.token, alias)}
                            for place, alias in (
                                ("current", authority.current_alias),
                                ("next", authority.next_alias),
                                ("previous", authority.previous_alias),
                            )
                        },
                    }
                    for authority in self._database.authorities()
                ],
            }

    def create(
        self, name: str, subject_dn: str, token: str, alias: str, *, in_health_check: bool = True
    ) -> CertificateAuthority:
        """Create a self-signed CA with the key of this alias, on this node."""
        subject = certificates.read_name(subject_dn)
        with self._lock:
            if any(name == known.name or subject_dn == known.subject_dn for known in self._database.authorities()):
                raise EjbcaError(409, f"A CA with the name {name} or the subject {subject_dn} already exists")
            made = certificates.ca_certificate(subject, self.token(token).key(alias))
            authority = CertificateAuthority(
                name, subject_dn, token, alias, certificates.as_pem(made), in_health_check=in_health_check
            )
            self._database.put_authority(authority)
            return authority

    def set_next_key(self, ca: str, alias: str | None) -> CertificateAuthority:
        """Set the next key of a CA. The key is not tested, so it can be missing on this node."""
        with self._lock:
            authority = replace(self._database.authority(ca), next_alias=alias)
            self._database.put_authority(authority)
            return authority

    def renew(self, ca: str, alias: str | None = None) -> CertificateAuthority:
        """Renew a CA with the given key, else with its next key, else with a new key. All nodes use the new key immediately.

        The key is tested on this node first. If the test fails, the renewal is rejected or another key is generated under the same alias.
        """
        with self._lock:
            authority = self._database.authority(ca)
            token, settings = self.token(authority.token), self._database.token(authority.token)
            new_alias = alias or authority.next_alias
            if new_alias is None:
                new_alias = _following(authority.current_alias, token.aliases())
                token.replace(new_alias, authority.current_alias)
            try:
                key = token.key(new_alias)
            except TokenOfflineError:
                if not settings.regenerate_next_key:
                    raise
                token.replace(new_alias, authority.current_alias)
                key = token.key(new_alias)
            made = certificates.ca_certificate(certificates.read_name(authority.subject_dn), key)
            renewed = replace(
                authority,
                current_alias=new_alias,
                previous_alias=authority.current_alias,
                next_alias=None,
                certificate=certificates.as_pem(made),
            )
            self._database.put_authority(renewed)
            return renewed

    def settings(
        self, token: str, *, auto_activation: bool | None = None, regenerate_next_key: bool | None = None
    ) -> dict[str, t.Any]:
        """Change settings of a crypto token on all nodes."""
        with self._lock:
            known = self._database.token(token)
            changed = replace(
                known,
                auto_activation=known.auto_activation if auto_activation is None else auto_activation,
                regenerate_next_key=known.regenerate_next_key if regenerate_next_key is None else regenerate_next_key,
            )
            self._database.put_token(changed)
            return self._describe_token(changed)

    # Inside

    def _describe_token(self, settings: TokenSettings) -> dict[str, t.Any]:
        token = self.token(settings.name)
        active = token.active
        return {
            "name": settings.name,
            "slot": settings.slot,
            "active": active,
            "auto_activation": settings.auto_activation,
            "regenerate_next_key": settings.regenerate_next_key,
            "keys": {alias: token.fingerprint(alias) for alias in token.aliases()} if active else {},
        }

    def _is_available(self, token: str, alias: str) -> bool:
        try:
            return self.token(token).fingerprint(alias) is not None
        except TokenOfflineError:
            return False


def _following(alias: str, known: list[str]) -> str:
    """signKey-2025 -> signKey-202500001 -> signKey-202500002: EJBCA appends or increments a number with five digits."""
    stem, number = (alias[:-5], int(alias[-5:])) if alias[-5:].isdecimal() else (alias, 0)
    while True:
        number += 1
        if (following := f"{stem}{number:05d}") not in known:
            return following
