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
from utrust_appliance.ejbca.admin_web.sessions import Sessions
from utrust_appliance.ejbca.crypto_token import CryptoToken
from utrust_appliance.ejbca.database import NG, CertificateAuthority, SharedDatabase, TokenSettings
from utrust_appliance.ejbca.errors import EjbcaError, TokenOfflineError
from utrust_appliance.ejbca.health_check import check_health
from utrust_appliance.ejbca.node_state import NodeState
from utrust_appliance.files import write_private

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.node import Node

TOKEN, SLOT = "SigningToken", 0
CA, SUBJECT, FIRST_ALIAS = "IssuingCA", "CN=Issuing CA,O=utrust-appliance (simulator)", "signKey-2025"
ISSUER = "CN=Root CA,O=utrust-appliance (simulator)"
TOKEN_ID = -1467483297


def open_database(folder: Path, url: str | None) -> SharedDatabase:
    """Open the database of a cluster and create its crypto token. The activation code of the token is in a separate file."""
    folder.mkdir(mode=0o700, exist_ok=True)
    database = SharedDatabase(url or f"sqlite:///{folder}/database.sqlite3")
    code = folder / "activation-code"
    if not code.exists():
        write_private(code, f"{secrets.token_urlsafe(12)}\n".encode())
    if not database.tokens():
        digest = hashlib.sha256(code.read_text(encoding="ascii").strip().encode()).hexdigest()
        database.put_token(TokenSettings(TOKEN, SLOT, digest, id=TOKEN_ID))
    return database


class EjbcaNode:
    """The EJBCA of one node, used by REST API and admin operations. A lock serializes all requests."""

    def __init__(self, node: Node, database: SharedDatabase) -> None:
        self.node = node
        self.database = database
        self.lock = threading.RLock()
        self.state = NodeState()
        self.sessions = Sessions(self.state)
        self._tokens: dict[str, CryptoToken] = {}

    def start(self) -> None:
        """Activate tokens automatically, and create the first CA in an empty database."""
        with self.lock:
            active = [token.active for token in self.tokens()]
            if any(active) and not self.database.authorities():
                token = self.token(TOKEN)
                if token.fingerprint(FIRST_ALIAS) is None:
                    token.generate(FIRST_ALIAS, "rsa-3072")
                self.create(CA, SUBJECT, TOKEN, FIRST_ALIAS, issuer_dn=ISSUER)

    def client_auth(self) -> str:
        """When TLS asks for a client certificate: `handshake`, `late` or `never`."""
        return self.state.flags.client_auth

    def token(self, name: str) -> CryptoToken:
        self.database.token(name)  # rejects unknown names
        if name not in self._tokens:
            self._tokens[name] = CryptoToken(self.node, self.database, name, self.state)
        return self._tokens[name]

    def tokens(self) -> list[CryptoToken]:
        return [self.token(settings.name) for settings in self.database.tokens()]

    # REST API of EJBCA

    def authorities(self) -> list[CertificateAuthority]:
        return self.database.authorities()

    def activate(self, token: str, code: str) -> None:
        with self.lock:
            self.token(token).activate(code)

    def deactivate(self, token: str) -> None:
        """Deactivate a token. The NG token closes all sessions of its slot, so the other NG tokens of the slot are inactive, too."""
        with self.lock:
            settings = self.token(token).settings
            if settings.type == NG:
                for other in self.tokens():
                    if (other.settings.type, other.settings.slot) == (NG, settings.slot):
                        other.close()
            self.token(token).deactivate()

    def generate(self, token: str, alias: str, kind: str) -> None:
        with self.lock:
            self.token(token).generate(alias, kind)

    def remove(self, token: str, alias: str) -> None:
        with self.lock:
            self.token(token).remove(alias)

    def issue(self, ca: str, request: str) -> tuple[x509.Certificate, x509.Certificate]:
        """Issue a certificate with the current key of the CA in the HSM of this node. Returns the certificate and the CA certificate."""
        csr = certificates.read_request(request)
        with self.lock:
            authority = self.database.authority(ca)
            key = self.token(authority.token).key(authority.current_alias)
            issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
            made = certificates.certificate(csr, issuer, key)
            self.database.record(
                serial_number=f"{made.serial_number:X}",
                authority=ca,
                node=self.node.name,
                alias=authority.current_alias,
                certificate=certificates.as_pem(made),
            )
            return made, issuer

    def health(self) -> tuple[int, str]:
        """The health check without parameters, for people who look at the simulator."""
        with self.lock, self.state.observing():
            return check_health(self, {})

    # Admin Web of EJBCA

    def describe(self) -> dict[str, t.Any]:
        with self.lock, self.state.observing():
            return {
                "node": self.node.name,
                "crypto_tokens": [self._describe_token(settings) for settings in self.database.tokens()],
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
                    for authority in self.database.authorities()
                ],
            }

    def create(
        self,
        name: str,
        subject_dn: str,
        token: str,
        alias: str,
        *,
        in_health_check: bool = True,
        issuer_dn: str | None = None,
    ) -> CertificateAuthority:
        """Create a CA with the key of this alias, on this node. It is self-signed, or of an issuer outside EJBCA."""
        subject = certificates.read_name(subject_dn)
        with self.lock:
            if any(name == known.name or subject_dn == known.subject_dn for known in self.database.authorities()):
                raise EjbcaError(409, f"A CA with the name {name} or the subject {subject_dn} already exists")
            issuer = certificates.read_name(issuer_dn) if issuer_dn is not None else None
            made = certificates.ca_certificate(subject, self.token(token).key(alias), issuer)
            authority = CertificateAuthority(
                name, subject_dn, token, alias, certificates.as_pem(made), in_health_check=in_health_check
            )
            self.database.put_authority(authority)
            return authority

    def set_next_key(self, ca: str, alias: str | None) -> CertificateAuthority:
        """Set the next key of a CA. The key is not tested, so it can be missing on this node."""
        with self.lock:
            authority = replace(self.database.authority(ca), next_alias=alias)
            self.database.put_authority(authority)
            return authority

    def renew(self, ca: str, alias: str | None = None) -> CertificateAuthority:
        """Renew a CA with the given key, else with its next key, else with a new key. All nodes use the new key immediately.

        The key is tested on this node first. If the test fails, the renewal is rejected or another key is generated under the same alias.
        """
        with self.lock:
            authority = self.database.authority(ca)
            token, settings = self.token(authority.token), self.database.token(authority.token)
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
            issuer = certificates.issuer_of(authority.certificate)
            made = certificates.ca_certificate(certificates.read_name(authority.subject_dn), key, issuer)
            renewed = replace(
                authority,
                current_alias=new_alias,
                previous_alias=authority.current_alias,
                next_alias=None,
                certificate=certificates.as_pem(made),
            )
            self.database.put_authority(renewed)
            return renewed

    def settings(self, token: str, **changes: t.Any) -> dict[str, t.Any]:
        """Change settings of a crypto token on all nodes. The value None keeps a setting."""
        with self.lock, self.state.observing():
            present = {name: value for name, value in changes.items() if value is not None}
            changed = replace(self.database.token(token), **present)
            self.database.put_token(changed)
            return self._describe_token(changed)

    def create_token(self, name: str, slot: int, **settings: t.Any) -> dict[str, t.Any]:
        """Create a crypto token on all nodes, with the activation code of the first token."""
        with self.lock, self.state.observing():
            made = TokenSettings(name, slot, self.database.token(TOKEN).code_sha256, **settings)
            self.database.put_token(made)
            return self._describe_token(made)

    def delete_token(self, name: str) -> None:
        """Delete a crypto token, not its keys. A token of a CA cannot be deleted."""
        with self.lock:
            self.token(name)
            self.database.delete_token(name)
            self._tokens.pop(name, None)

    def is_used(self, token: str) -> bool:
        return any(authority.token == token for authority in self.database.authorities())

    # Inside

    def _describe_token(self, settings: TokenSettings) -> dict[str, t.Any]:
        token = self.token(settings.name)
        active = token.active
        return {
            "name": settings.name,
            "id": settings.id,
            "type": settings.type,
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
