# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The application of one node: its CAs sign with the node's own HSM, and their key mappings come from the database of all nodes."""

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
CA, SUBJECT, FIRST_ALIAS = "IssuingCA", "CN=Issuing CA,O=utrust-appliance (reference)", "signKey-2025"
HEALTHY = "ALLOK"


def open_database(folder: Path, url: str | None) -> SharedDatabase:
    """The database of a cluster, with its crypto token; the token's activation code is in a file of its own, as a PIN letter is."""
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
    """What the REST interface, the Admin Web's stand-in and the console work with. One request at a time, as a lock sees to."""

    def __init__(self, node: Node, database: SharedDatabase) -> None:
        self.node = node
        self._database = database
        self._lock = threading.RLock()
        self._tokens = {settings.name: CryptoToken(node, database, settings.name) for settings in database.tokens()}

    def start(self) -> None:
        """Auto-activation at start, and the first CA where the database has none."""
        with self._lock:
            active = [token.active for token in self._tokens.values()]
            if any(active) and not self._database.authorities():
                token = self.token(TOKEN)
                if token.fingerprint(FIRST_ALIAS) is None:
                    token.generate(FIRST_ALIAS, "rsa-3072")
                self.create(CA, SUBJECT, TOKEN, FIRST_ALIAS)

    def token(self, name: str) -> CryptoToken:
        if name not in self._tokens:
            raise EjbcaError(404, f"There is no crypto token {name}")
        return self._tokens[name]

    # What EJBCA's REST interface offers

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
        """A certificate, and the CA's, signed with the CA's current key by this node's HSM."""
        wanted = certificates.read_request(request)
        with self._lock:
            authority = self._database.authority(ca)
            key = self.token(authority.token).key(authority.current_alias)
            issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
            made = certificates.certificate(wanted, issuer, key)
            self._database.record(
                serial_number=f"{made.serial_number:X}",
                authority=ca,
                node=self.node.name,
                alias=authority.current_alias,
                certificate=certificates.as_pem(made),
            )
            return made, issuer

    def health(self) -> tuple[int, str]:
        """EJBCA's health check. It looks at each CA's current key only: one that is mapped as next or previous may be missing."""
        with self._lock:
            if problem := self._database.problem():
                return 500, f"DB: Error creating connection to database: {problem}"
            offline = [
                f"CA: Error CA Token is disconnected, CA Name : {authority.name}"
                for authority in self._database.authorities()
                if authority.in_health_check and not self._sees(authority.token, authority.current_alias)
            ]
            return (500, "\n".join(offline)) if offline else (200, HEALTHY)

    # What EJBCA offers in its Admin Web only

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
                            place: alias and {"alias": alias, "seen": self._sees(authority.token, alias)}
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
        """A new CA whose current key is the one under that alias; it signs its own certificate, on this node."""
        subject = certificates.read_name(subject_dn)
        with self._lock:
            if any(name == known.name or subject_dn == known.subject_dn for known in self._database.authorities()):
                raise EjbcaError(409, f"There is a CA {name}, or one with the subject {subject_dn}, already")
            made = certificates.ca_certificate(subject, self.token(token).key(alias))
            authority = CertificateAuthority(
                name, subject_dn, token, alias, certificates.as_pem(made), in_health_check=in_health_check
            )
            self._database.put_authority(authority)
            return authority

    def set_next_key(self, ca: str, alias: str | None) -> CertificateAuthority:
        """Map a key as the CA's next. Nothing is tested: any node may map what only another one holds."""
        with self._lock:
            authority = replace(self._database.authority(ca), next_alias=alias)
            self._database.put_authority(authority)
            return authority

    def renew(self, ca: str, alias: str | None = None) -> CertificateAuthority:
        """Renew a CA with the given key, else with the one that is mapped as next, else with a new one. All nodes use it at once.

        The key is tested on this node first. When that fails, the renewal is refused, or a second key is made under the same alias.
        """
        with self._lock:
            authority = self._database.authority(ca)
            token, settings = self.token(authority.token), self._database.token(authority.token)
            wanted = alias or authority.next_alias
            if wanted is None:
                wanted = _following(authority.current_alias, token.aliases())
                token.replace(wanted, authority.current_alias)
            try:
                key = token.key(wanted)
            except TokenOfflineError:
                if not settings.second_key:
                    raise
                token.replace(wanted, authority.current_alias)
                key = token.key(wanted)
            made = certificates.ca_certificate(certificates.read_name(authority.subject_dn), key)
            renewed = replace(
                authority,
                current_alias=wanted,
                previous_alias=authority.current_alias,
                next_alias=None,
                certificate=certificates.as_pem(made),
            )
            self._database.put_authority(renewed)
            return renewed

    def settings(
        self, token: str, *, auto_activation: bool | None = None, second_key: bool | None = None
    ) -> dict[str, t.Any]:
        """Settings of a crypto token; like all of them, they are the same on every node."""
        with self._lock:
            known = self._database.token(token)
            changed = replace(
                known,
                auto_activation=known.auto_activation if auto_activation is None else auto_activation,
                second_key=known.second_key if second_key is None else second_key,
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
            "second_key": settings.second_key,
            "keys": {alias: token.fingerprint(alias) for alias in token.aliases()} if active else {},
        }

    def _sees(self, token: str, alias: str) -> bool:
        try:
            return self.token(token).fingerprint(alias) is not None
        except TokenOfflineError:
            return False


def _following(alias: str, known: list[str]) -> str:
    """signKey-2025 -> signKey-202500001 -> signKey-202500002: EJBCA appends or raises a number of five digits."""
    stem, number = (alias[:-5], int(alias[-5:])) if alias[-5:].isdecimal() else (alias, 0)
    while True:
        number += 1
        if (following := f"{stem}{number:05d}") not in known:
            return following
