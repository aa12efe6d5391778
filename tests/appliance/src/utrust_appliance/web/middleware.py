# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Middleware of all requests: log, faults, authentication, and problem documents for errors."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import time
import typing as t

from aiohttp import web

from utrust_appliance import SERVER
from utrust_appliance.errors import ApiError

if t.TYPE_CHECKING:
    from utrust_appliance.node import Node

LOG = logging.getLogger(__name__)
NODE: web.AppKey[Node] = web.AppKey("node")
PAGES: web.AppKey[frozenset[t.Any]] = web.AppKey("pages")  # handlers with their own authentication and error pages
Handler = t.Callable[[web.Request], t.Awaitable[web.StreamResponse]]
#: The last names of members whose text the contract leaves free. A label of a key is not free, because its digest covers it.
FREE_TEXT = re.compile(
    r"[.](product|version|model|firmware|serial|hsm_serial|alarm|text|title|detail|holder|address|error_message|subject_dn)$"
    r"|[.](cluster|mbk)[.]name$|cluster_name$|slots[.]label$|(?<!_)cluster[.]id$|[.]cluster_id$"
)
LOGGED_QUERY = ("limit", "cursor", "wait", "sequence", "state", "idempotency_key", "pin_pad", "source",
                "expect_keys_digest")  # fmt: skip


def problem_response(problem: ApiError) -> web.Response:
    return web.json_response(
        problem.document(), status=problem.status, headers=problem.headers, content_type="application/problem+json"
    )


async def set_server_header(dummy_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER


@web.middleware
async def logged(request: web.Request, handler: Handler) -> web.StreamResponse:
    started, status, sent = time.monotonic(), 0, 0
    try:
        response = await handler(request)
        status, sent = (
            response.status,
            response.body_length if response.prepared else len(getattr(response, "body", None) or b""),
        )
        return response
    finally:
        request.app[NODE].log.request(
            {
                "method": request.method,
                "path": request.path,
                "query": {name: request.query[name] for name in LOGGED_QUERY if name in request.query},
                "status": status,  # 0: no response was sent
                "client": request.get("client"),
                "idempotency_key": request.headers.get("Idempotency-Key"),
                "seconds": round(time.monotonic() - started, 4),
                "bytes_in": request.content.total_bytes,
                "bytes_out": sent,
            }
        )


def cut(request: web.Request) -> t.NoReturn:
    """Close the connection without a response."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("closed by a fault")


async def late(request: web.Request) -> None:
    """Fault: the node closes the connection after it received the request, and acts later."""
    node = request.app[NODE]
    if found := node.cluster.faults.find("late_object", node.name, request.method, request.path):
        request["late"] = True
        if request.transport is not None:
            request.transport.abort()
        await asyncio.sleep(float(found.params["seconds"]))


def end_free_texts(response: web.Response, end: str) -> None:
    """Fault: every free text of a JSON response ends with this text."""
    if response.content_type.endswith("json") and isinstance(response.body, bytes):
        response.body = json.dumps(_with_end(json.loads(response.body), end, "")).encode()


def _with_end(value: t.Any, end: str, name: str) -> t.Any:
    if isinstance(value, dict):
        return {key: _with_end(part, end, f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, list):
        return [_with_end(part, end, name) for part in value]
    if not isinstance(value, str) or not FREE_TEXT.search(name):
        return value
    return (end + value)[:8] if name.endswith("mbk.name") else value + end


@web.middleware
async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
    faults, name = request.app[NODE].cluster.faults, request.app[NODE].name
    if request.app[NODE].unreachable():
        cut(request)
    if not faults.enabled:
        return await handler(request)
    where = (name, request.method, request.path)
    if latency := faults.find("latency", *where):
        await asyncio.sleep(float(latency.params["seconds"]))
    if request.app[NODE].unreachable() or faults.find("lost_response_before", *where):
        cut(request)
    if rejection := faults.find("status", *where):
        seconds = str(rejection.params["retry_after"])
        code = "too_many_requests" if rejection.params["status"] == 429 else "unavailable"
        return problem_response(ApiError(code, f"try again in {seconds} s", headers={"Retry-After": seconds}))
    if faults.find("not_json", *where):
        return web.Response(text="<html><body>Please log in.</body></html>", content_type="text/html")
    lost, restart = faults.find("lost_response_after", *where), faults.find("restart_node", *where)
    response = await handler(request)
    if (free := faults.find("free_text", *where)) and isinstance(response, web.Response):
        end_free_texts(response, free.params["text"])
    if restart:
        request.app[NODE].go_down(float(restart.params["seconds"]))
    if lost or request.get("late") or request.app[NODE].down():
        cut(request)
    return response


@web.middleware
async def without_api(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Respond as to any unknown path, before any authentication, if the appliance API of the node is off."""
    if not request.app[NODE].has_api and (request.path + "/").startswith("/api/v1/"):
        return web.Response(status=404, text="<html><body>404 Not Found</body></html>", content_type="text/html")
    return await handler(request)


@web.middleware
async def handle_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.match_info.handler in request.app.get(PAGES, ()):
        return await handler(request)
    try:
        return await handler(request)
    except ApiError as problem:
        return problem_response(problem)
    except web.HTTPMethodNotAllowed as exc:
        detail = f"{request.path} does not support {request.method}"
        return problem_response(
            ApiError("method_not_allowed", detail, headers={"Allow": ", ".join(sorted(exc.allowed_methods))})
        )
    except web.HTTPNotFound:
        return problem_response(ApiError("not_found", "the path does not exist"))
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:
        LOG.exception("%s: %s %s failed", request.app[NODE].name, request.method, request.path)
        return problem_response(ApiError("internal_error", "an unexpected error was logged on the node"))


@web.middleware
async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Authenticate by bearer token if the request has one, else by client certificate, which TLS has verified."""
    if request.match_info.handler in request.app.get(PAGES, ()):
        return await handler(request)
    config = request.app[NODE].cluster.config
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        scheme, dummy, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
        if scheme.lower() != "bearer" or not any(hmac.compare_digest(digest, known) for known in config.tokens):
            raise _unauthenticated("the bearer token is not registered on this node")
        request["client"] = "token"
        return await handler(request)
    request["client"], registered = registered_client(request)
    if request["client"] is None:
        raise _unauthenticated("a client certificate or bearer token is required")
    if not registered:
        raise ApiError(
            "forbidden", f"the client certificate CN={request['client']} is valid but not registered on this node"
        )
    return await handler(request)


def registered_client(request: web.Request) -> tuple[str | None, bool]:
    """The common name of the client certificate, if any, and whether it is registered on this node."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    certificate = tls.getpeercert(binary_form=True) if tls else None
    if tls is None or not certificate:
        return None, False
    subject = dict(pair for rdn in tls.getpeercert().get("subject", ()) for pair in rdn)
    known = hashlib.sha256(certificate).hexdigest() in request.app[NODE].cluster.config.clients
    return subject.get("commonName", ""), known


def _unauthenticated(detail: str) -> ApiError:
    return ApiError("unauthenticated", detail)
