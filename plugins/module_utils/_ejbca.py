# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""EJBCA's REST interface and health check, over the same pinned connection as the appliance's API. Private to keyops.utrust.

Paths and members are those of EJBCA's published OpenAPI description. Verified against the reference application in tests/appliance; has not met
EJBCA. An error is told in EJBCA's own words; its HTTP status decides nothing but whether it is one.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import secrets
import time
import typing as t
import urllib.parse

from ansible_collections.keyops.utrust.plugins.module_utils import _x509
from ansible_collections.keyops.utrust.plugins.module_utils._application import Authority, Enrolled, Profiles
from ansible_collections.keyops.utrust.plugins.module_utils._errors import AnswerLost, ApiError, Unreachable
from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint, Exchange, NoAnswer, TooLarge, Wire

REST = "/ejbca/ejbca-rest-api/v1"
HEALTH = "/ejbca/publicweb/healthcheck/ejbcahealth"
HEALTHY = "ALLOK"
MAX_WORDS = 500


class Ejbca:
    """The application of one node; implements the protocol `Application`."""

    def __init__(self, endpoint: Endpoint, *, retries: int = 3, sleep: t.Callable[[float], None] = time.sleep) -> None:
        self._wire = Wire(endpoint)
        self._where = f"{endpoint.host}:{endpoint.port}"
        self._retries = retries
        self._sleep = sleep

    def close(self) -> None:
        self._wire.close()

    def health(self) -> str | None:
        exchange = self._exchange("GET", HEALTH)
        text = _words(exchange)
        if exchange.status == 200 and text == HEALTHY:
            return None
        return text or f"HTTP {exchange.status}"

    def authorities(self) -> list[Authority]:
        _x509.require_library()
        listed = _member(self._json("GET", f"{REST}/ca"), "certificate_authorities", list)
        found = []
        for entry in listed:
            subject = _member(entry, "subject_dn", str)
            path = f"{REST}/ca/{urllib.parse.quote(subject, safe='')}/certificate/download"
            fingerprint, not_after = _x509.active_certificate(
                self._accepted("GET", path).body.decode("utf-8", "replace")
            )
            found.append(Authority(_member(entry, "name", str), subject, fingerprint, not_after))
        return found

    def generate(self, crypto_token: str, alias: str, key_alg: str, key_spec: str) -> None:
        body = {"key_pair_alias": alias, "key_alg": key_alg, "key_spec": key_spec}
        self._accepted("POST", f"{REST}/cryptotoken/{_segment(crypto_token)}/generatekeys", body)

    def reactivate(self, crypto_token: str) -> None:
        self._accepted("PUT", f"{REST}/cryptotoken/{_segment(crypto_token)}/deactivate")

    def prove(self, ca: str, profiles: Profiles, username: str) -> Enrolled:
        _x509.require_library()
        body = {
            "certificate_request": _x509.throw_away_request(username),
            "certificate_profile_name": profiles.certificate,
            "end_entity_profile_name": profiles.end_entity,
            "certificate_authority_name": ca,
            "username": username,
            "password": secrets.token_urlsafe(16),  # of an end entity that is used once
            "include_chain": True,
        }
        answer = self._json("POST", f"{REST}/certificate/pkcs10enroll", body)
        chain = _member(answer, "certificate_chain", list)
        if not chain:
            raise ApiError(
                f"enrolling at {self._where}: the answer has no certificate of the CA", code="response_invalid"
            )
        signer = _x509.signer_of(_der(_member(answer, "certificate", str)), _der(chain[0]))
        return Enrolled(_member(answer, "serial_number", str), signer)

    def _json(self, method: str, path: str, body: dict[str, t.Any] | None = None) -> t.Any:
        exchange = self._accepted(method, path, body)
        try:
            return json.loads(exchange.body)
        except ValueError as exc:
            raise ApiError(
                f"{method} {path} at {self._where}: the answer (HTTP {exchange.status}) is no JSON; is this address EJBCA's?",
                code="response_not_json",
            ) from exc

    def _accepted(self, method: str, path: str, body: dict[str, t.Any] | None = None) -> Exchange:
        exchange = self._exchange(method, path, body)
        if not 200 <= exchange.status < 300:
            raise ApiError(
                f"{method} {path} at {self._where}: HTTP {exchange.status}: {_words(exchange)}",
                code="ejbca_rejected",
                http_status=exchange.status,
            )
        return exchange

    def _exchange(self, method: str, path: str, body: dict[str, t.Any] | None = None) -> Exchange:
        """A GET is repeated when no answer came; nothing else ever is. EJBCA's 503 is an answer: a token or CA that is offline."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        content = json.dumps(body).encode() if body is not None else None
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._wire.exchange(method, path, headers=headers, body=content)
            except TooLarge as exc:
                raise ApiError(f"{method} {path} at {self._where}: {exc}", code="response_too_large") from exc
            except NoAnswer as exc:
                if exc.sent and method != "GET":
                    raise AnswerLost(
                        f"{method} {path} at {self._where}: the answer was lost ({exc}); it is not sent again",
                        code="response_lost",
                    ) from exc
                if attempt > self._retries:
                    raise Unreachable(
                        f"{method} {path} at {self._where}: no answer after {attempt} attempt(s): {exc}. Check address and port of EJBCA",
                        code="ejbca_unreachable",
                    ) from exc
            self._sleep(0.5 * 2.0 ** (attempt - 1))


def _segment(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _words(exchange: Exchange) -> str:
    """What EJBCA says: the message of its error object, or the text."""
    text = exchange.body.decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error_message"])
    return " ".join(text.split())[:MAX_WORDS]


def _member(document: t.Any, name: str, kind: type[t.Any]) -> t.Any:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, kind):
        raise ApiError(f"reading EJBCA's answer: {name!r} is missing or no {kind.__name__}", code="response_invalid")
    return value


def _der(text: t.Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as exc:
        raise ApiError("reading EJBCA's answer: a certificate is not in Base64", code="response_invalid") from exc
