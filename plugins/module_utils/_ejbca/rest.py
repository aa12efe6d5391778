# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""EJBCA's REST interface. Private to keyops.utrust.

Paths and members are those of EJBCA's published OpenAPI description. Verified against the appliance simulator in tests/appliance, never against EJBCA.
The HTTP status decides whether a request was rejected. The text of EJBCA is shown to people only.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import json
import secrets
import time
import typing as t
import urllib.parse

from ansible_collections.keyops.utrust.plugins.module_utils import _json
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca import x509
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.health import plain_health
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import (
    Authority,
    IssuedCertificate,
    Profiles,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JSON, Api, JsonClient, ProblemDetails
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_AUTHORITIES, MAX_LONG_TEXT
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable, unescape_printable

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint, HttpResponse

REST = "/ejbca/ejbca-rest-api/v1"
SUCCESS = range(200, 300)


def _text(response: HttpResponse) -> str:
    """Return the message of EJBCA's error object, or else the body as one line."""
    text = response.body.decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(_json.decode(response.body)["error_message"])
    return escape_unprintable(" ".join(text.split()))[:MAX_LONG_TEXT]


def _read_problem(response: HttpResponse) -> ProblemDetails:
    return ProblemDetails("ejbca_rejected", _text(response), {})


EJBCA_API = Api(
    name="EJBCA",
    read_problem=_read_problem,
    repeatable=frozenset({"GET"}),
    # EJBCA's 503 is a final response: a crypto token or a CA is offline.
    not_started=frozenset(),
    lost=frozenset(),
    retry_unsent=True,
    unreachable_code="ejbca_unreachable",
    unreachable_remedy="Check address and port of EJBCA",
    login_remedy="Check the client certificate and its role in EJBCA",
)


class EjbcaRest:
    """EJBCA of one node. Implements the protocol `EjbcaNode`."""

    def __init__(self, endpoint: Endpoint, *, retries: int = 3, sleep: t.Callable[[float], None] = time.sleep) -> None:
        self._client = JsonClient(endpoint, EJBCA_API, retries=retries, sleep=sleep)

    def close(self) -> None:
        self._client.close()

    def health(self) -> str | None:
        return plain_health(self._client)

    def authorities(self) -> list[Authority]:
        x509.require_cryptography()
        entries = _get_field(self._call("GET", "/ca"), "certificate_authorities", list)
        if len(entries) > MAX_AUTHORITIES:
            raise ApiError(
                f"reading EJBCA's response: it has {len(entries)} CAs, at most {MAX_AUTHORITIES} are accepted. Check the address of EJBCA",
                code="response_too_large",
            )
        return [self._authority(entry) for entry in entries]

    def _authority(self, entry: t.Any) -> Authority:
        """Return a CA. A CA that has no certificate yet, or an unusual one, must not hide the other CAs."""
        name, subject = _get_field(entry, "name", str), ""
        try:
            subject = _get_field(entry, "subject_dn", str)
            path = f"{REST}/ca/{_quote(unescape_printable(subject))}/certificate/download"
            chain = self._client.exchange("GET", path, ok=SUCCESS).body.decode("utf-8", "replace")
            return Authority(name, subject, *x509.active_certificate(chain))
        except ApiError as exc:
            return Authority(name, subject, None, None, None, str(exc))

    def generate(self, crypto_token: str, alias: str, key_alg: str, key_spec: str) -> None:
        body = {"key_pair_alias": alias, "key_alg": key_alg, "key_spec": key_spec}
        self._send("POST", f"/cryptotoken/{_quote(crypto_token)}/generatekeys", body)

    def reactivate(self, crypto_token: str) -> None:
        self._send("PUT", f"/cryptotoken/{_quote(crypto_token)}/deactivate")

    def issue_test_certificate(self, ca: str, profiles: Profiles, username: str) -> IssuedCertificate:
        x509.require_cryptography()
        request = x509.test_csr(username)
        body = {
            "certificate_request": request.pem,
            "certificate_profile_name": profiles.certificate,
            "end_entity_profile_name": profiles.end_entity,
            "certificate_authority_name": ca,
            "username": username,
            "password": secrets.token_urlsafe(16),  # the end entity is used only once
            "include_chain": True,
        }
        document = self._call("POST", "/certificate/pkcs10enroll", body)
        chain = _get_field(document, "certificate_chain", list)
        if not chain:
            raise ApiError(
                f"enrolling at CA {ca}: the response has no certificate of the CA. Check the CA in EJBCA's Admin Web",
                code="response_invalid",
            )
        certificate, issuer = _decode_base64(_get_field(document, "certificate", str)), _decode_base64(chain[0])
        return x509.check_test_certificate(certificate, issuer, request, datetime.datetime.now(datetime.UTC))

    def _call(self, method: str, path: str, body: dict[str, t.Any] | None = None) -> t.Any:
        return self._client.call(method, REST + path, ok=SUCCESS, headers=_HEADERS, body=_encode(body)).document

    def _send(self, method: str, path: str, body: dict[str, t.Any] | None = None) -> None:
        self._client.exchange(method, REST + path, ok=SUCCESS, headers=_HEADERS, body=_encode(body))


_HEADERS: t.Final = {"Content-Type": JSON}


def _encode(body: dict[str, t.Any] | None) -> bytes | None:
    return json.dumps(body).encode() if body is not None else None


def _quote(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _get_field(document: t.Any, name: str, kind: type[t.Any]) -> t.Any:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, kind):
        raise ApiError(
            f"reading EJBCA's response: {name!r} is missing or is not of type {kind.__name__}. Check the version of EJBCA",
            code="response_invalid",
        )
    return value


def _decode_base64(text: t.Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as exc:
        raise ApiError(
            "reading EJBCA's response: a certificate is not in Base64. Check the version of EJBCA",
            code="response_invalid",
        ) from exc
