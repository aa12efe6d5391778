# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validation of requests against the contract. Invalid requests raise ApiError."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import typing as t

from utrust_appliance.errors import ApiError
from utrust_appliance.store import Request
from utrust_appliance.web.middleware import NODE

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

NAME = re.compile(r"(?=.{1,64}\Z)[A-Za-z0-9](?:[A-Za-z0-9 ._-]*[A-Za-z0-9._-])?")
OBJECT_ID = re.compile(r"[0-9a-f]{32}")
IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
CONTENT_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"')
MAX_JSON = 64 * 1024
MAX_TAGS = 200
T = t.TypeVar("T")


def bad(detail: str) -> ApiError:
    return ApiError("invalid_request", detail)


def object_id(request: web.Request, name: str) -> str:
    value = request.match_info[name]
    if not OBJECT_ID.fullmatch(value):
        raise bad(f"{name} must be 32 lowercase hexadecimal digits")
    return value


class Query:
    """The query parameters of a request. `done` rejects unknown parameters."""

    def __init__(self, request: web.Request) -> None:
        self._query = request.query
        self._known: set[str] = set()

    def get(self, name: str, parse: Callable[[str, str], T], default: T) -> T:
        self._known.add(name)
        values = self._query.getall(name, [])
        if len(values) > 1:
            raise bad(f"{name} is given {len(values)} times")
        return parse(name, values[0]) if values else default

    def required(self, name: str, parse: Callable[[str, str], T]) -> T:
        if name not in self._query:
            raise bad(f"{name} is missing")
        return t.cast("T", self.get(name, t.cast("t.Any", parse), None))

    def done(self) -> None:
        unknown = sorted(set(self._query) - self._known)
        if unknown:
            raise bad(f"the query parameter {unknown[0]!r} is unknown")


def integer(low: int, high: int) -> Callable[[str, str], int]:
    def parse(name: str, value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", value) or not low <= int(value) <= high:
            raise bad(f"{name} must be a whole number from {low} to {high}, not {value[:40]}")
        return int(value)

    return parse


def matching(pattern: re.Pattern[str], what: str) -> Callable[[str, str], str]:
    def parse(name: str, value: str) -> str:
        if not pattern.fullmatch(value):
            raise bad(f"{name} must be {what}")
        return value

    return parse


def one_of(*choices: str) -> Callable[[str, str], str]:
    def parse(name: str, value: str) -> str:
        if value not in choices:
            raise bad(f"{name} must be one of {', '.join(choices)}")
        return value

    return parse


name_of = matching(
    NAME, "a name: a letter or digit, then up to 63 letters, digits, inner blanks, dots, underscores or hyphens"
)
digest_of = matching(DIGEST, "sha256: and 64 lowercase hexadecimal digits")
idempotency_key_of = matching(IDEMPOTENCY_KEY, "16 to 64 letters, digits, underscores or hyphens")


def made_once(request: web.Request, body_digest: str) -> Request:
    """The Idempotency-Key and a digest of the content of a request, including its query."""
    key = idempotency_key(request)
    return Request(key, hashlib.sha256(f"{request.method} {request.path_qs}\n{body_digest}".encode()).hexdigest())


def idempotency_key(request: web.Request) -> str:
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        raise ApiError(
            "idempotency_key_required", f"{request.method} {request.path} requires the header Idempotency-Key"
        )
    if len(values) > 1:
        raise bad(f"Idempotency-Key is given {len(values)} times")
    return idempotency_key_of("Idempotency-Key", values[0])


def content_digest(request: web.Request) -> str:
    """SHA-256 of the body from Content-Digest (RFC 9530), in hexadecimal."""
    values = request.headers.getall("Content-Digest", [])
    found = CONTENT_DIGEST.fullmatch(values[0]) if len(values) == 1 else None
    if not found:
        raise bad("Content-Digest must be given once, as sha-256=:<base64>:")
    return base64.b64decode(found[1]).hex()


def as_content_digest(sha256_hex: str) -> str:
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256_hex)).decode()}:"


def entity_tags(request: web.Request, header: str) -> set[str]:
    """The opaque tags of If-Match or If-None-Match (RFC 9110, 8.8.3), or `*`. Empty if the header is missing."""
    value = request.headers.get(header)
    if value is None:
        return set()
    if len(value) > MAX_TAGS:
        raise bad(f"{header} is longer than {MAX_TAGS} characters")
    tags = {"*"} if value.strip() == "*" else set(ENTITY_TAG.findall(value))
    if not tags:
        raise bad(f"{header} must contain an ETag in double quotes")
    return tags


def media_type(request: web.Request, expected: str) -> None:
    actual = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if actual != expected:
        raise ApiError("unsupported_media_type", f"send {expected}, not {actual or 'a body without Content-Type'}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError("unsupported_media_type", "send the body without a Content-Encoding")


def announced_size(request: web.Request, limit: int) -> None:
    if request.content_length is not None and request.content_length > limit:
        raise too_large(limit)


def too_large(limit: int) -> ApiError:
    return ApiError("payload_too_large", f"the body has more than {limit} bytes", headers={"Connection": "close"})


async def json_object(request: web.Request) -> tuple[dict[str, t.Any], str]:
    """The JSON body and a digest of its data, independent of the order of members."""
    media_type(request, "application/json")
    announced_size(request, MAX_JSON)
    content = bytearray()
    async for chunk in request.content.iter_any():
        content += chunk
        if len(content) > MAX_JSON:
            raise too_large(MAX_JSON)
    try:
        data = json.loads(content.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise bad(f"the body is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise bad("the body must be a JSON object")
    if data.get("expect_keys_digest") is not None and request.app[NODE].behavior.key_list == "no":
        raise bad("this node does not list its keys, so it cannot compare expect_keys_digest")
    return data, hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def members(
    data: dict[str, t.Any], *, required: dict[str, re.Pattern[str]], optional: dict[str, re.Pattern[str]]
) -> None:
    unknown = sorted(set(data) - set(required) - set(optional))
    if unknown:
        raise bad(f"the member {unknown[0]!r} is unknown")
    missing = sorted(set(required) - set(data))
    if missing:
        raise bad(f"the member {missing[0]} is missing")
    for name, pattern in {**required, **optional}.items():
        if name in data and not (isinstance(data[name], str) and pattern.fullmatch(data[name])):
            raise bad(f"{name} must be a string that matches {pattern.pattern}")


def _no_duplicates(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("an object has a duplicate member")
    return data


def _no_constant(name: str) -> t.NoReturn:
    raise ValueError(f"{name} is not JSON")
