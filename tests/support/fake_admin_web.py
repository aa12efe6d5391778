# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""EJBCA's Admin Web behind a fake connection: pages by path, sessions, and what a test changes."""

from __future__ import annotations

import hashlib
import typing as t
from urllib.parse import parse_qs, urlsplit

from ansible_collections.keyops.utrust.plugins.module_utils import _json_client
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support import ejbca_pages as samples
from tests.support.ejbca_pages import Generation, Row, Token, html_response
from tests.support.fakes import ENDPOINT, FakeConnection, make_response

if t.TYPE_CHECKING:
    import pytest
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

BASE = "/ejbca/adminweb/"
LIST, TOKEN, DOWNLOAD = (
    f"{BASE}cryptotoken/{name}" for name in ("cryptotokens.xhtml", "cryptotoken.xhtml", "cryptoTokenDownloads")
)
HEALTH = "/ejbca/publicweb/healthcheck/ejbcahealth"


class SampleKey(t.NamedTuple):
    """A public key: PEM, SubjectKeyID, key fingerprint."""

    pem: bytes
    subject_key_id: str
    fingerprint: str

    @classmethod
    def make(cls, seed: str) -> SampleKey:
        private = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
        public = private.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            hashlib.sha1(raw, usedforsecurity=False).hexdigest(),
            "sha256:" + hashlib.sha256(der).hexdigest(),
        )

    def row(self, alias: str) -> Row:
        return Row(alias, self.subject_key_id)


class FakeAdminWeb(FakeConnection):
    """Serves crypto tokens and public keys. `respond` can replace the response of a path, and gets how often the path was requested."""

    def __init__(
        self, *tokens: Token, keys: t.Mapping[tuple[int, str], SampleKey] | None = None, generation: Generation = "G8"
    ) -> None:
        super().__init__()
        self.tokens, self.keys, self.generation = list(tokens), dict(keys or {}), generation
        self.respond: t.Callable[[str, int], HttpResponse | Exception | None] = lambda dummy_path, dummy_count: None
        self.logins = 0
        self._sessions: set[str] = set()

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def count(self, start: str) -> int:
        return len([path for path in self.paths if path.startswith(start)])

    def expire(self) -> None:
        self._sessions.clear()

    def use(self, monkeypatch: pytest.MonkeyPatch) -> AdminWeb:
        """Return the client, which uses this connection."""
        from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb

        monkeypatch.setattr(_json_client, "HttpsConnection", self)
        return AdminWeb(ENDPOINT, retries=2, sleep=lambda dummy: None)

    def request(self, method: str, path: str, **more: t.Any) -> HttpResponse:
        assert method == "GET"
        self._responses = [self._serve(path, more["headers"])]
        return super().request(method, path, **more)

    def _serve(self, path: str, headers: t.Mapping[str, str]) -> t.Any:
        changed = self.respond(path, self.paths.count(path) + 1)
        if changed is not None:
            return changed
        dummy, dummy, session = headers.get("Cookie", "").partition("JSESSIONID=")
        new: dict[str, str] = {}
        if path.startswith(BASE) and session not in self._sessions:
            self.logins += 1
            self._sessions.add(f"s{self.logins}")
            new = {"Set-Cookie": f"JSESSIONID=s{self.logins}; path=/ejbca/adminweb; secure; HttpOnly"}
        expired = bool(session and new)
        response = html_response(samples.page("<h1>Session has timed out.</h1>")) if expired else self._page(path)
        for name, value in new.items():
            response.headers[name] = value
        return response

    def _page(self, path: str) -> HttpResponse:
        place, query = urlsplit(path).path, parse_qs(urlsplit(path).query, keep_blank_values=True)
        if place == BASE:
            return html_response(samples.home())
        if place == LIST:
            return html_response(samples.token_list(*self.tokens, generation=self.generation))
        number = int(query["cryptoTokenId"][0])
        token = next((token for token in self.tokens if token.id == number), None)
        if place == TOKEN and token is not None:
            return html_response(samples.token_page(token, generation=self.generation))
        key = self.keys.get((number, query["alias"][0])) if place == DOWNLOAD else None
        if key is None:
            return html_response(samples.page("<h1>An exception has occurred.</h1>"), 500)
        return make_response(200, key.pem, media_type="application/octet-stream")
