# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rendering of templates. All values are escaped, and pages load content of their own site only."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from utrust_appliance.webconf.strings import STRINGS

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
STATIC = {
    "pages.css": "text/css",
    "pin-pad.css": "text/css",
    "icon.svg": "image/svg+xml",
    "live.js": "text/javascript",
    "webconf.js": "text/javascript",
    "pin-pad.js": "text/javascript",
}


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["v"] = STRINGS
    return made


TEMPLATES = _environment()


def harden(response: web.StreamResponse) -> web.StreamResponse:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def render(template: str, status: int = 200, **values: t.Any) -> web.Response:
    text = TEMPLATES.get_template(template).render(values)
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def see_other(path: str) -> web.Response:
    """Redirect after POST, so that a reload does not repeat a change."""
    return web.Response(status=303, headers={"Location": path})


def live(request: web.Request, template: str, **values: t.Any) -> web.Response:
    """A part of a page that a script polls. The response is 304 if the value `state` is unchanged."""
    tag = version(values["state"])
    if request.headers.get("If-None-Match") == f'"{tag}"':
        return web.Response(status=304)
    response = render(template, **values)
    response.headers["ETag"] = f'"{tag}"'
    return response


def version(state: object) -> str:
    return hashlib.sha256(repr(state).encode("utf-8", "surrogatepass")).hexdigest()[:32]


async def static(request: web.Request) -> web.StreamResponse:
    """Return a file of the list above."""
    name = request.match_info["name"]
    if name not in STATIC:
        return harden(web.Response(status=404, text="The file does not exist.\n"))
    content = (HERE / "static" / name).read_bytes()
    return harden(web.Response(body=content, content_type=STATIC[name], charset="utf-8"))
