# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON requests to one server: expected statuses, retries, lost responses. Private to keyops.utrust.

One client serves the appliance API and EJBCA. An `Api` describes what differs between the two.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _json
from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
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
    Peer,
)
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import (
    InvalidResponseError,
    NoResponseError,
    Output,
    ResponseTooLargeError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_document

JSON = "application/json"


class ProblemDetails(t.NamedTuple):
    """Reason of a server for a rejected request."""

    code: str
    text: str
    details: dict[str, t.Any]


class Api(t.NamedTuple):
    """Properties of an API.

    `repeatable` methods may be sent again if no response arrived, or if the status is in `lost`.
    A status in `not_started` means that the server did not start, so every method may be sent again.
    A problem with a code of `in_progress` means that the first request with the same key has not ended, so this request may be sent again, too.
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
    in_progress: frozenset[str] = frozenset()


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
    in_progress: bool = False,
    retry_after: float | None = None,
) -> float | None:
    """Return the seconds to wait before the request is sent again, or None if it must not be sent again.

    `status` is missing if no response arrived. `attempt` counts from 1, `limit` is the number of retries.
    """
    not_started = status in api.not_started or in_progress
    lost = (status is None or status in api.lost) and method in api.repeatable
    unsent = status is None and not sent and api.retry_unsent
    if attempt > limit or not (not_started or lost or unsent):
        return None
    return min(retry_after if retry_after is not None else 0.5 * 2.0 ** (attempt - 1), limits.MAX_RETRY_DELAY)


class JsonClient:
    """Sends requests to one server and returns accepted responses. `headers` are sent with each request."""

    def __init__(
        self,
        endpoint: Endpoint,
        api: Api,
        *,
        bearer_token: str | None = None,
        headers: t.Mapping[str, str] | None = None,
        retries: int = 3,
        sleep: t.Callable[[float], None] = time.sleep,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = HttpsConnection(endpoint)
        self._api = api
        self._address = f"{endpoint.host}:{endpoint.port}"
        authorization = {"Authorization": f"Bearer {bearer_token}"} if bearer_token else {}
        self._headers = {"Accept": f"{JSON}, application/problem+json", **authorization, **(headers or {})}
        self._retries = retries
        self._sleep = sleep
        self._clock = clock

    def close(self) -> None:
        self._connection.close()

    @property
    def peer(self) -> Peer | None:
        """The server of the last connection, or None before the first connection."""
        return self._connection.peer

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
        output: Output | None = None,
        limit: int | None = None,
    ) -> JsonResponse:
        """Send a request and return the decoded response if its status is in `ok`.

        The body of a 200 response is written to `output` if it is set. `limit` is the maximum number of bytes of the body, or None for the limit of JSON.
        Raises ApiError for another status, and for an unusable response to a GET. Raises ResponseLostError if no response or an unusable response
        arrived and something may have changed, and UnreachableError if no response arrived and nothing changed.
        """
        response = self.exchange(method, path, ok=ok, headers=headers, body=body, output=output, limit=limit)
        streamed = output is not None and response.status == 200
        document = None if streamed else self._decode(method, path, response)
        return JsonResponse(response.status, document, ", ".join(response.headers.get_all("Content-Digest", [])))

    def exchange(
        self,
        method: str,
        path: str,
        *,
        ok: t.Container[int] | None = (200,),
        headers: t.Mapping[str, str] | None = None,
        body: bytes | t.BinaryIO | None = None,
        output: Output | None = None,
        limit: int | None = None,
    ) -> HttpResponse:
        """Send a request and return the raw response. Without `ok` every status is accepted. Raises as `call` does.

        No repetition begins after `MAX_RETRY_TIME` seconds.
        """
        sent = {**self._headers, **(headers or {})}
        # Bytes that were written to `output` cannot be removed here, so the caller must restart a broken download.
        counted = _CountedOutput(output) if output is not None else None
        limit = limits.MAX_JSON_BYTES if limit is None else limit
        attempt = 0
        lost = False  # whether the server may have acted on an earlier attempt
        end = self._clock() + limits.MAX_RETRY_TIME
        while True:
            attempt += 1
            response: HttpResponse | None = None
            failure: NoResponseError | None = None
            try:
                response = self._connection.request(method, path, headers=sent, body=body, output=counted, limit=limit)
            except NoResponseError as exc:
                failure = exc
            except ResponseTooLargeError as exc:
                raise self._unusable(method, path, str(exc), code="response_too_large") from exc
            except InvalidResponseError as exc:
                raise self._unusable(method, path, f"the response is invalid: {exc}", code="response_invalid") from exc
            if response is not None and (ok is None or response.status in ok):
                return response
            delay = self._delay(method, response, attempt, sent=failure is None or failure.sent)
            if delay is None or self._clock() + delay > end or (counted is not None and counted.started):
                if response is None:
                    raise self._no_response(method, path, attempt, failure, lost=lost) from failure
                raise self._rejection(method, path, response)
            lost = lost or self._may_have_acted(response, failure)
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
            self._sleep(delay)

    def _may_have_acted(self, response: HttpResponse | None, failure: NoResponseError | None) -> bool:
        """Whether the server may have acted on an attempt that is repeated."""
        return response.status in self._api.lost if response is not None else failure is None or failure.sent

    def _unusable(self, method: str, path: str, reason: str, *, code: str, **details: t.Any) -> UtrustError:
        """Return the error of an unusable response. The server may have acted on every other request than a GET."""
        error = ApiError if method == "GET" else ResponseLostError
        return error(
            f"{self._request(method, path)}: {reason}. Check that this address is {self._api.name}, and not a proxy or Webconf",
            code=code,
            **details,
        )

    def _request(self, method: str, path: str) -> str:
        return f"{method} {path} at {self._address}"

    def _delay(self, method: str, response: HttpResponse | None, attempt: int, *, sent: bool) -> float | None:
        if response is None:
            return delay_before_retry(self._api, method, None, attempt, limit=self._retries, sent=sent)
        retry_after = parse_retry_after(response.headers.get("Retry-After"))
        codes = self._api.in_progress
        in_progress = response.status == 409 and bool(codes) and self._api.read_problem(response).code in codes
        return delay_before_retry(
            self._api,
            method,
            response.status,
            attempt,
            limit=self._retries,
            in_progress=in_progress,
            retry_after=retry_after,
        )

    def _no_response(
        self, method: str, path: str, attempt: int, failure: NoResponseError | None, *, lost: bool
    ) -> UtrustError:
        if method != "GET" and (lost or (failure is not None and failure.sent)):
            return ResponseLostError(
                f"{self._request(method, path)}: the response was lost ({failure}). The request is not sent again",
                code="response_lost",
            )
        return UnreachableError(
            f"{self._request(method, path)}: no response after {attempt} attempt(s): {failure}. The request changed nothing. {self._api.unreachable_remedy}",
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
                raise ValueError(f"its media type is {content_type[:80]!a}")
            return escape_document(_json.decode(response.body))
        except ValueError as exc:
            reason = f"the response (HTTP {response.status}) is not JSON: {exc}"
            raise self._unusable(method, path, reason, code="response_not_json", http_status=response.status) from exc


class _CountedOutput:
    """Writes to an output and remembers whether it has written."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.started = False

    def __call__(self, chunk: bytes) -> None:
        self.started = True
        self._output(chunk)
