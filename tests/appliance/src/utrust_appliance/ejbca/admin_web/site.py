# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Admin Web of one node: paths, authentication, sessions, errors, and faults of the front end."""

from __future__ import annotations

import asyncio
import logging
import typing as t
from urllib.parse import parse_qs

from aiohttp import web

from utrust_appliance.ejbca.admin_web import pages
from utrust_appliance.ejbca.admin_web.actions import act
from utrust_appliance.ejbca.admin_web.downloads import attachment, download
from utrust_appliance.ejbca.admin_web.facts import PageError
from utrust_appliance.ejbca.admin_web.render import ROOT, Page, blank, login
from utrust_appliance.ejbca.admin_web.sessions import COOKIE, View
from utrust_appliance.ejbca.admin_web.strings import STRINGS
from utrust_appliance.ejbca.roles import rights_of
from utrust_appliance.ejbca.target import client_name, ejbca_of

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.admin_web.sessions import Action, Session
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode

LOG = logging.getLogger(__name__)
DOWNLOADS = f"{ROOT}cryptotoken/cryptoTokenDownloads"
PATHS: dict[str, t.Callable[[EjbcaNode, Session, Page, t.Mapping[str, str]], str]] = {
    ROOT: pages.home,
    **{f"{ROOT}index.{suffix}": pages.home for suffix in ("xhtml", "jsf")},
    **{f"{ROOT}cryptotoken/cryptotokens.{suffix}": pages.list_page for suffix in ("xhtml", "jsf")},
    **{f"{ROOT}cryptotoken/cryptotoken.{suffix}": pages.token_page for suffix in ("xhtml", "jsf")},
}
_REASONS = {403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}


def page_response(text: str, status: int = 200) -> web.Response:
    response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'self'"
    response.headers["Cache-Control"] = "no-cache"
    return response


def error_page(status: int) -> web.Response:
    """The error page of the container. It does not show details."""
    title = "Unable to find the requested resource" if status == 404 else "Cannot process the request."
    return page_response(blank(title, _REASONS.get(status, "")), status)


async def admin_web(request: web.Request) -> web.StreamResponse:
    ejbca = ejbca_of(request)
    path = request.raw_path.partition("?")[0]
    ejbca.state.counters[f"method_{request.method}"] += 1
    if request.method not in ("GET", "HEAD", "POST"):
        return error_page(405)
    if path == ROOT.rstrip("/"):
        return web.Response(status=302, headers={"Location": ROOT})
    if path != DOWNLOADS and path not in PATHS:
        return error_page(404)
    name = await client_name(request)
    rights = rights_of(name, ejbca.state.flags) if name is not None else frozenset()
    if path == DOWNLOADS:
        return await _download(request, ejbca, name, rights)
    return await _page(request, ejbca, name, rights)


async def _download(request: web.Request, ejbca: EjbcaNode, name: str | None, rights: frozenset[str]) -> web.Response:
    if name is None:
        return error_page(403 if ejbca.state.flags.since(9) else 500)
    query = _query(request)
    status, file_name, content = await asyncio.to_thread(download, ejbca, rights, query)
    return error_page(status) if status != 200 else attachment(file_name, content)


async def _page(request: web.Request, ejbca: EjbcaNode, name: str | None, rights: frozenset[str]) -> web.Response:
    flags, counters = ejbca.state.flags, ejbca.state.counters
    v = STRINGS[flags.language]
    if name is None:
        counters["logins_refused"] += 1
        if flags.since(7, 5):
            return page_response(login(flags.language))
        return page_response(blank(v["denied"], "Cause: Client certificate or OAuth bearer token required."))
    if not rights:
        counters["logins_refused"] += 1
        return page_response(blank(v["denied"], pages.NOT_AUTHORIZED))
    known = ejbca.sessions.find(request.cookies.get(COOKIE))
    peer = request.transport.get_extra_info("peername") if request.transport else None
    session = known or ejbca.sessions.open(name, peer)
    if known is None or (session.common_name, session.connection) != (name, peer):
        ejbca.sessions.log_in(session, name, peer)
    counters["page_views"] += 1
    try:
        response = await _respond(request, ejbca, session, rights, is_new=known is None)
    except PageError as exc:
        response = page_response(blank(v[exc.title], str(exc)))
    except Exception as exc:
        LOG.exception("%s: %s failed", ejbca.node.name, request.path)
        response = page_response(blank(v["exception"], f"Cause: {type(exc).__name__}"))
    if known is None:
        response.set_cookie(COOKIE, session.id, path=ROOT.rstrip("/"), secure=True, httponly=True)
    return response


async def _respond(
    request: web.Request, ejbca: EjbcaNode, session: Session, rights: frozenset[str], *, is_new: bool
) -> web.Response:
    path, query = request.raw_path.partition("?")[0], _query(request)
    view, messages = View(path), []
    if request.method == "POST":
        form = _flat(parse_qs(await request.text(), keep_blank_values=True))
        old = session.views.get(form.get(ejbca.state.flags.view_state_name, ""))
        if is_new or old is None or old.path != path:
            return page_response(blank(STRINGS[ejbca.state.flags.language]["timed_out"], ""))
        action = next((old.buttons[name] for name in form if name in old.buttons), None)
        if action and action.name == "download":
            return await _download_by_button(ejbca, rights, action)
        messages = await asyncio.to_thread(act, ejbca, session, old, action, form) if action else []
        view.editing = old.editing if action is None else action.name == "edit"
        query = {**query, **_token_of(ejbca, old)}
    page = Page(ejbca.state.flags, session.keep(view), rights)
    page.messages = messages
    return page_response(await asyncio.to_thread(_draw, path, ejbca, session, page, query))


def _draw(path: str, ejbca: EjbcaNode, session: Session, page: Page, query: t.Mapping[str, str]) -> str:
    with ejbca.lock:
        return PATHS[path](ejbca, session, page, query)


def _token_of(ejbca: EjbcaNode, view: View) -> dict[str, str]:
    """A postback does not have a query, so the bean remembers its token."""
    if view.token is None:
        return {}
    settings = ejbca.token(view.token).settings
    return {"cryptoTokenId": str(ejbca.state.flags.token_ids.get(settings.name, settings.id))}


async def _download_by_button(ejbca: EjbcaNode, rights: frozenset[str], action: Action) -> web.Response:
    query = {**_token_of(ejbca, View("", token=action.token)), "alias": action.alias}
    status, file_name, content = await asyncio.to_thread(download, ejbca, rights, query)
    return error_page(status) if status != 200 else attachment(file_name, content)


def _query(request: web.Request) -> dict[str, str]:
    """The first value of each parameter, decoded as a servlet decodes it: `+` is a space."""
    return _flat(parse_qs(request.raw_path.partition("?")[2], keep_blank_values=True))


def _flat(values: dict[str, list[str]]) -> dict[str, str]:
    return {name: found[0] for name, found in values.items()}
