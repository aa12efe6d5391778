# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Login, read-only pages, and the switch to another node."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
import typing as t
import urllib.parse

from utrust_appliance.errors import ApiError
from utrust_appliance.webconf import forms
from utrust_appliance.webconf.render import see_other, static
from utrust_appliance.webconf.request_context import HOME, THROTTLE, error_page, field, local_path, page, public

if t.TYPE_CHECKING:
    from aiohttp import web

    from utrust_appliance.webconf.request_context import RequestContext

SHOWN_KEYS = 200
SECRET = secrets.token_bytes(32)


async def overview(context: RequestContext) -> web.StreamResponse:
    keys, dummy = context.node.list_keys()
    return context.page("overview.html", keys=[key.as_dict() for key in keys[:SHOWN_KEYS]], shown=SHOWN_KEYS)


async def access(context: RequestContext) -> web.StreamResponse:
    cluster = context.node.cluster
    return context.page(
        "access.html",
        users=cluster.logins.users.names,
        certificates=cluster.config.clients,
        tokens=len(cluster.config.tokens),
        fingerprint=context.node.tls_fingerprint,
    )


async def cluster(context: RequestContext) -> web.StreamResponse:
    return context.page("cluster.html")


async def not_available(context: RequestContext) -> web.StreamResponse:
    return context.page("not_available.html", name={"/backup": "backup", "/services": "services"}[context.path])


async def unknown_page(context: RequestContext) -> web.StreamResponse:
    raise ApiError("not_found", "the page does not exist")


# Login


async def login_page(context: RequestContext) -> web.StreamResponse:
    context.find_session()
    if context.session is not None:
        return see_other(HOME)
    query = context.request.query
    return _login(context, ended=query.get("ended") == "1", next_page=local_path(query.get("next", HOME)))


def _login(
    context: RequestContext, *, ended: bool = False, next_page: str = HOME, problem: ApiError | None = None
) -> web.Response:
    """The login page. Its CSRF token derives from a cookie that other sites cannot set, because a session does not exist yet."""
    name, registered = context.certificate()
    seed = context.request.cookies.get(_login_cookie(context)) or secrets.token_urlsafe(32)
    response = context.page(
        "login.html",
        problem.status if problem else 200,
        problem=problem,
        ended=ended,
        next=next_page,
        certificate=name,
        registered=registered,
        csrf=_login_token(seed),
    )
    if problem:
        response.headers.update(problem.headers)
    response.set_cookie(_login_cookie(context), seed, secure=True, httponly=True, samesite="Strict", path="/")
    return response


def _login_cookie(context: RequestContext) -> str:
    return f"{context.cookie}-login"


def _login_token(seed: str) -> str:
    return hmac.new(SECRET, seed.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


async def _login_form(context: RequestContext) -> dict[str, str]:
    fields = await forms.form(context.request)
    forms.require_token(field(fields, "csrf"), _login_token(context.request.cookies.get(_login_cookie(context), "")))
    return fields


async def log_in(context: RequestContext) -> web.StreamResponse:
    fields = await _login_form(context)
    user, next_page = field(fields, "user"), local_path(fields.get("next", HOME))
    throttle = context.request.app[THROTTLE]
    if left := throttle.seconds_left(user):
        seconds = str(math.ceil(left))
        detail = f"too many failed logins, try again in {seconds} s"
        problem = ApiError("too_many_requests", detail, headers={"Retry-After": seconds})
        return _login(context, next_page=next_page, problem=problem)
    throttle.begin(user)
    if not await asyncio.to_thread(context.node.cluster.logins.users.verify, user, field(fields, "password")):
        return _login(context, next_page=next_page, problem=ApiError("unauthenticated", "user or password is wrong"))
    throttle.succeeded(user)
    context.log_in(user, "password")
    return see_other(next_page)


async def log_in_by_certificate(context: RequestContext) -> web.StreamResponse:
    fields = await _login_form(context)
    name, registered = context.certificate()
    if not name or not registered:
        return _login(
            context, problem=ApiError("unauthenticated", "your browser did not send a registered certificate")
        )
    context.log_in(name, "certificate")
    return see_other(local_path(fields.get("next", HOME)))


async def log_out(context: RequestContext) -> web.StreamResponse:
    fields = await forms.form(context.request)
    forms.require_token(field(fields, "csrf"), context.user().csrf)
    context.log_out()
    return see_other("/login")


# The cluster menu bar


async def switch(context: RequestContext) -> web.StreamResponse:
    """Redirect to another node with a ticket for the login there. Cookies are not shared, because every node is a separate site."""
    target = context.node.cluster.nodes.get(context.request.match_info["node"])
    if target is None or not target.config.joined:
        raise ApiError("not_found", "the node is not a joined member of the cluster")
    ticket = context.node.cluster.logins.tickets.issue(target.name, context.user())
    target_url = f"https://{target.config.address}:{target.config.port}/first-visit"
    return see_other(f"{target_url}?{urllib.parse.urlencode({'ticket': ticket})}")


async def first_visit(context: RequestContext) -> web.StreamResponse:
    """Log in with a ticket. Returns a page instead of a redirect, because browsers do not send strict cookies after a cross-site redirect."""
    found = context.node.cluster.logins.tickets.redeem(context.node.name, context.request.query.get("ticket", ""))
    if found is None:
        return error_page(context, ApiError("unauthenticated", "the link was already used or has expired"))
    context.log_in(*found)
    return context.page("first_visit.html")


ROUTES = [
    ("GET", "/", page(overview)),
    ("GET", "/access", page(access)),
    ("GET", "/cluster", page(cluster)),
    ("GET", "/backup", page(not_available)),
    ("GET", "/services", page(not_available)),
    ("GET", "/login", public(login_page)),
    ("POST", "/login", public(log_in)),
    ("POST", "/login/certificate", public(log_in_by_certificate)),
    ("POST", "/logout", page(log_out)),
    ("GET", "/switch/{node}", page(switch)),
    ("GET", "/first-visit", public(first_visit)),
    ("GET", "/static/{name}", static),
    ("GET", "/{path:(?!api/|api$).*}", public(unknown_page)),
]
