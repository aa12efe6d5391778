# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parsing of forms. The CSRF token is checked before any file is written."""

from __future__ import annotations

import hmac
import typing as t
import urllib.parse

from aiohttp import BodyPartReader
from aiohttp.http_exceptions import HttpProcessingError

from utrust_appliance.errors import ApiError
from utrust_appliance.web.checks import announced_size, bad, media_type, too_large

if t.TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

MAX_FORM = 16 * 1024
CHUNK = 1 << 16
#: Exceptions of aiohttp for malformed forms.
MALFORMED = (ValueError, AssertionError, LookupError, RuntimeError, HttpProcessingError)
FORM, UPLOAD = "application/x-www-form-urlencoded", "multipart/form-data"


def require_same_origin(request: web.Request) -> None:
    """Reject forms of other sites. Clients without an Origin header need the CSRF token."""
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        raise ApiError("forbidden", "the form was sent from another site")


def require_token(given: str, expected: str) -> None:
    if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode()):
        raise ApiError(
            "forbidden", "the form does not belong to your session: go back, reload the page and repeat the action"
        )


async def form(request: web.Request) -> dict[str, str]:
    media_type(request, FORM)
    announced_size(request, MAX_FORM)
    content = bytearray()
    async for chunk in request.content.iter_any():
        content += chunk
        if len(content) > MAX_FORM:
            raise too_large(MAX_FORM)
    try:
        pairs = urllib.parse.parse_qsl(content.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError as exc:
        raise bad("the body is not a form") from exc
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise bad("the form has a duplicate field")
    return fields


class Upload:
    """A form with a file as its last field. The other fields are read first."""

    def __init__(self, fields: dict[str, str], part: BodyPartReader) -> None:
        self.fields = fields
        self._part = part

    @classmethod
    async def of(cls, request: web.Request, limit: int) -> Upload:
        media_type(request, UPLOAD)
        announced_size(request, limit + MAX_FORM)
        fields: dict[str, str] = {}
        try:
            reader = await request.multipart()
            while isinstance(part := await reader.next(), BodyPartReader):
                if part.filename is not None:
                    return cls(fields, part)
                if len(fields) >= 20:
                    raise bad("the form has too many fields")
                fields[part.name or ""] = await _short(part)
        except MALFORMED as exc:
            raise bad("the body is not a form with a file") from exc
        raise bad("the file is missing in the form")

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._part.read_chunk(CHUNK):
                yield bytes(chunk)
        except MALFORMED as exc:
            raise bad("the upload is incomplete") from exc


async def _short(part: BodyPartReader) -> str:
    content = bytearray()
    while chunk := await part.read_chunk(1024):
        content += chunk
        if len(content) > MAX_FORM:
            raise too_large(MAX_FORM)
    return content.decode("utf-8")
