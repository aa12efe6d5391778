# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scripted counterparts: they answer what a test tells them, note every call, and know nothing else."""

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
from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint, HttpResponse

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance

ENDPOINT = Endpoint("127.0.0.2", 8443, None, None, None, ("ab" * 32,), 1.0, 1.0)


class FakeAppliance:
    """Implements the protocol `Appliance`: each method gives its answers in turn, the last one again and again.

    An answer that is an exception is raised. A method without an answer must not be called.
    """

    def __init__(self, capabilities: frozenset[str] | None = None, **answers: t.Any) -> None:
        everything = frozenset({KEY_LIST, RESTORE_JOB, STAGED_IMPORT})
        self.capabilities = everything if capabilities is None else capabilities
        self.calls: list[str] = []
        self._answers = {
            method: collections.deque(answer if isinstance(answer, list) else [answer])
            for method, answer in answers.items()
        }

    def __getattr__(self, method: str) -> t.Callable[..., t.Any]:
        if method.startswith("_") or method not in self._answers:
            raise AttributeError(f"{method} was called and must not be")

        def call(*dummy: t.Any) -> t.Any:
            self.calls.append(method)
            answers = self._answers[method]
            answer = answers.popleft() if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

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
    """Stands where `_http.HttpsConnection` stands: the answers are given in turn, every request is noted."""

    def __init__(self, *answers: HttpResponse | Exception) -> None:
        self.requests: list[Request] = []
        self._answers = list(answers)

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
    ) -> HttpResponse:
        content = body if body is None or isinstance(body, bytes) else body.read()
        self.requests.append(Request(method, path, dict(headers), content))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if output is not None and answer.status == 200:
            output(answer.body)
        return answer


def answer(
    status: int, document: t.Any = None, *, media_type: str = "application/json", **headers: str
) -> HttpResponse:
    """An answer; a document that is not bytes is sent as JSON. Headers are written with underscores."""
    message = http.client.HTTPMessage(email.message.Message().policy)
    message["Content-Type"] = media_type
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return HttpResponse(status, message, document if isinstance(document, bytes) else json.dumps(document).encode())


def problem(status: int, code: str, **members: t.Any) -> HttpResponse:
    headers = {"Retry_After": str(members.pop("retry_after"))} if "retry_after" in members else {}
    document = {"type": f"urn:keyops:utrust:{code}", "title": code, "status": status, "code": code, "detail": "why"}
    return answer(status, {**document, **members}, media_type="application/problem+json", **headers)
