# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fakes with prepared responses. They record every call."""

from __future__ import annotations

import collections
import email.message
import http.client
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    KEY_LIST,
    RESTORE_JOB,
    STAGED_IMPORT,
)
from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint, HttpResponse, Peer
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import ResponseTooLargeError

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance

ENDPOINT = Endpoint("127.0.0.2", 8443, None, None, None, ("ab" * 32,), 1.0, 1.0)


#: Placeholder in a prepared response for the Idempotency-Key that the request names.
KEY_OF_REQUEST = "idempotency-key-of-the-request"


class FakeAppliance:
    """Implements the protocol `Appliance`. Each method returns its prepared results in turn and repeats the last result.

    A result that is an exception is raised. A method without a result must not be called.
    """

    def __init__(self, capabilities: frozenset[str] | None = None, **results: t.Any) -> None:
        everything = frozenset({KEY_LIST, RESTORE_JOB, STAGED_IMPORT})
        self.capabilities = everything if capabilities is None else capabilities
        self.calls: list[str] = []
        self._results = {
            method: collections.deque(result if isinstance(result, list) else [result])
            for method, result in results.items()
        }

    def __getattr__(self, method: str) -> t.Callable[..., t.Any]:
        if method.startswith("_") or method not in self._results:
            raise AttributeError(f"{method} was called, but has no prepared result")

        def call(*dummy: t.Any) -> t.Any:
            self.calls.append(method)
            results = self._results[method]
            result = results.popleft() if len(results) > 1 else results[0]
            if isinstance(result, BaseException):
                raise result
            return result

        return call

    @property
    def appliance(self) -> Appliance:
        return t.cast("Appliance", self)


class Request(t.NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None


class FakeConnection:
    """Replaces `_http.HttpsConnection`. Returns the prepared responses in turn and records every request."""

    peer: Peer | None = Peer("127.0.0.2", "sha256:" + "ab" * 32, "TLSv1.3")

    def __init__(self, *responses: HttpResponse | Exception) -> None:
        self.requests: list[Request] = []
        self._responses = list(responses)

    def __call__(self, dummy: Endpoint) -> FakeConnection:
        return self

    @property
    def sent(self) -> list[tuple[str, str]]:
        return [(request.method, request.path) for request in self.requests]

    def close(self) -> None:
        pass

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: t.Mapping[str, str],
        body: bytes | t.BinaryIO | None = None,
        output: t.Callable[[bytes], object] | None = None,
        limit: int = 0,
    ) -> HttpResponse:
        content = body if body is None or isinstance(body, bytes) else body.read()
        self.requests.append(Request(method, path, dict(headers), content))
        response = self._responses.pop(0)
        if isinstance(response, Exception):
            raise response
        named = path.partition("idempotency_key=")[2]
        response = response._replace(body=response.body.replace(KEY_OF_REQUEST.encode(), named.encode()))
        if output is not None and response.status == 200:
            if len(response.body) > limit:
                raise ResponseTooLargeError(f"the response is larger than {limit} bytes")
            output(response.body)
        return response


def make_response(
    status: int, document: t.Any = None, *, media_type: str = "application/json", **headers: str
) -> HttpResponse:
    """Return a response. A document that is not bytes is encoded as JSON. Underscores in header names become hyphens."""
    message = http.client.HTTPMessage(email.message.Message().policy)
    message["Content-Type"] = media_type
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return HttpResponse(status, message, document if isinstance(document, bytes) else json.dumps(document).encode())


def make_problem(status: int, code: str, **members: t.Any) -> HttpResponse:
    headers = {"Retry_After": str(members.pop("retry_after"))} if "retry_after" in members else {}
    document = {"type": f"urn:keyops:utrust:{code}", "title": code, "status": status, "code": code, "detail": "why"}
    return make_response(status, {**document, **members}, media_type="application/problem+json", **headers)
