# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON requests to one server: expected statuses, retries, lost responses. Private to keyops.utrust.

One client serves the appliance API and EJBCA. An `Api` describes what differs between the two.
"""

from __future__ import annotations

import json
import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._http import (
    Endpoint,
    HttpResponse,
    HttpsConnection,
    NoResponseError,
    ResponseTooLargeError,
)

JSON = "application/json"
MAX_DELAY = 30.0


class ProblemDetails(t.NamedTuple):
    """Reason of a server for a rejected request."""

    code: str
    text: str
    details: dict[str, t.Any]


class Api(t.NamedTuple):
    """Properties of an API.

    `repeatable` methods may be sent again if no response arrived, or if the status is in `lost`.
    A status in `not_started` means that the server did not start, so every method may be sent again.
    With `retry_unsent`, every method may also be sent again if the connection failed before the request was sent.
    """

    name: str
    read_problem: t.Callable[[HttpResponse], ProblemDetails]
    repeatable: frozenset[str]
    not_started: frozenset[int]
    lost: frozenset[int]
    retry_unsent: bool
    unreachable_code: str
    unreachable_remedy: str
    login_remedy: str


class JsonResponse(t.NamedTuple):
    status: int
    document: t.Any
    content_digest: str | None


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header. A date or an invalid value counts as a missing header."""
    return float(value) if value is not None and value.isascii() and value.isdigit() else None


def delay_before_retry(
    api: Api,
    method: str,
    status: int | None,
    attempt: int,
    *,
    limit: int,
    sent: bool = True,
    retry_after: float | None = None,
) -> float | None:
    """Return the seconds to wait before the request is sent again, or None if it must not be sent again.

    `status` is missing if no response arrived. `attempt` counts from 1, `limit` is the number of retries.
    """
    not_started = status in api.not_started
    lost = (status is None or status in api.lost) and method in api.repeatable
    unsent = status is None and not sent and api.retry_unsent
    if attempt > limit or not (not_started or lost or unsent):
        return None
    return min(retry_after if retry_after is not None else 0.5 * 2.0 ** (attempt - 1), MAX_DELAY)


class JsonClient:
    """Sends requests to one server and returns accepted responses."""

    def __init__(
        self,
        endpoint: Endpoint,
        api: Api,
        *,
        bearer_token: str | None = None,
        retries: int = 3,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = HttpsConnection(endpoint)
        self._api = api
        self._address = f"{endpoint.host}:{endpoint.port}"
        self._auth_headers = {"Authorization": f"Bearer {bearer_token}"} if bearer_token else {}
        self._retries = retries
        self._sleep = sleep

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        """Make a request that another thread has sent end soon, with an error."""
        self._connection.abort()

    def call(
        self,
        method: str,
        path: str,
        *,
        ok: t.Container[int] = (200,),
        headers: t.Mapping[str, str] | None = None,
        body: bytes | t.BinaryIO | None = None,
        output: t.Callable[[bytes], object] | None = None,
    ) -> JsonResponse:
        """Send a request and return the decoded response if its status is in `ok`.

        Raises ApiError for another status and for an invalid response. If no response arrived, raises ResponseLostError if something
        may have changed, and UnreachableError otherwise.
        """
        response = self.exchange(method, path, ok=ok, headers=headers, body=body, output=output)
        streamed = output is not None and response.status == 200
        document = None if streamed else self._decode(method, path, response)
        return JsonResponse(response.status, document, response.headers.get("Content-Digest"))

    def exchange(
        self,
        method: str,
        path: str,
        *,
        ok: t.Container[int] | None = (200,),
        headers: t.Mapping[str, str] | None = None,
        body: bytes | t.BinaryIO | None = None,
        output: t.Callable[[bytes], object] | None = None,
    ) -> HttpResponse:
        """Send a request and return the raw response. Without `ok` every status is accepted. Raises as `call` does."""
        sent = {"Accept": f"{JSON}, application/problem+json", **self._auth_headers, **(headers or {})}
        attempt = 0
        while True:
            attempt += 1
            response: HttpResponse | None = None
            failure: NoResponseError | None = None
            try:
                response = self._connection.request(method, path, headers=sent, body=body, output=output)
            except NoResponseError as exc:
                failure = exc
            except ResponseTooLargeError as exc:
                raise ApiError(f"{self._request(method, path)}: {exc}", code="response_too_large") from exc
            if response is not None and (ok is None or response.status in ok):
                return response
            delay = self._delay(method, response, attempt, sent=failure is None or failure.sent)
            # Bytes that were written to `output` cannot be removed here, so the caller must restart a broken download.
            if delay is None or (output is not None and failure is not None):
                if response is None:
                    raise self._no_response(method, path, attempt, failure) from failure
                raise self._rejection(method, path, response)
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
            self._sleep(delay)

    def _request(self, method: str, path: str) -> str:
        return f"{method} {path} at {self._address}"

    def _delay(self, method: str, response: HttpResponse | None, attempt: int, *, sent: bool) -> float | None:
        if response is None:
            return delay_before_retry(self._api, method, None, attempt, limit=self._retries, sent=sent)
        retry_after = parse_retry_after(response.headers.get("Retry-After"))
        return delay_before_retry(
            self._api, method, response.status, attempt, limit=self._retries, retry_after=retry_after
        )

    def _no_response(self, method: str, path: str, attempt: int, failure: NoResponseError | None) -> UtrustError:
        if failure is not None and failure.sent and method != "GET":
            return ResponseLostError(
                f"{self._request(method, path)}: the response was lost ({failure}). The request is not sent again",
                code="response_lost",
            )
        return UnreachableError(
            f"{self._request(method, path)}: no response after {attempt} attempt(s): {failure}. Nothing was changed. {self._api.unreachable_remedy}",
            code=self._api.unreachable_code,
        )

    def _rejection(self, method: str, path: str, response: HttpResponse) -> ApiError:
        problem = self._api.read_problem(response)
        remedy = f". {self._api.login_remedy}" if response.status in (401, 403) else ""
        return ApiError(
            f"{self._request(method, path)}: HTTP {response.status} {problem.code}: {problem.text}{remedy}",
            code=problem.code,
            http_status=response.status,
            **problem.details,
        )

    def _decode(self, method: str, path: str, response: HttpResponse) -> t.Any:
        if response.status in (204, 304) or response.status >= 400:  # the status of an accepted rejection is enough
            return None
        content_type = response.headers.get_content_type()
        try:
            if content_type != JSON:
                raise ValueError(f"its media type is {content_type}")
            return json.loads(response.body)
        except ValueError as exc:
            raise ApiError(
                f"{self._request(method, path)}: the response (HTTP {response.status}) is not JSON: {exc}. "
                f"Check that this address is {self._api.name}, and not a proxy or Webconf",
                code="response_not_json",
                http_status=response.status,
            ) from exc
