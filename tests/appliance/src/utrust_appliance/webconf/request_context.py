# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The context of a page request: session, permission and common values of all pages."""

from __future__ import annotations

import logging
import typing as t
import urllib.parse

from aiohttp import web

from utrust_appliance.errors import ApiError
from utrust_appliance.web.checks import bad
from utrust_appliance.web.middleware import NODE, registered_client
from utrust_appliance.webconf import forms
from utrust_appliance.webconf.render import harden, render, see_other

if t.TYPE_CHECKING:
    from utrust_appliance.node import Node
    from utrust_appliance.webconf.logins import Session, Sessions, Throttle

LOG = logging.getLogger(__name__)
SESSIONS: web.AppKey[Sessions] = web.AppKey("sessions")
THROTTLE: web.AppKey[Throttle] = web.AppKey("throttle")
LIVE = "/live"
HOME = "/"
Handler = t.Callable[["RequestContext"], t.Awaitable[web.StreamResponse]]


class RequestContext:
    """A page request with its node and session."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.node: Node = request.app[NODE]
        self.sessions = request.app[SESSIONS]
        # If nodes share one address, browsers send a cookie to all nodes.
        self.cookie = f"__Host-webconf-{self.node.name}"
        self.session: Session | None = None
        self._set: str | None = None
        self._forget = False

    @property
    def path(self) -> str:
        return self.request.path

    def find_session(self) -> None:
        token = self.request.cookies.get(self.cookie)
        if token is None:
            return
        script = self.path.endswith(LIVE) or "auto" in self.request.query
        self.session = self.sessions.get(token, touch=not script)
        self._forget = self.session is None

    @property
    def ended(self) -> bool:
        """Whether the session of this request has ended."""
        return self._forget

    def certificate(self) -> tuple[str | None, bool]:
        """The common name of the client certificate, and whether it is registered on this node."""
        return registered_client(self.request)

    def log_in(self, user: str, method: str) -> None:
        token, self.session = self.sessions.begin(user, method)
        self._set, self._forget = token, False

    def log_out(self) -> None:
        self.sessions.end(self.request.cookies.get(self.cookie, ""))
        self.session, self._forget = None, True

    def user(self) -> Session:
        if self.session is None:
            raise ApiError("unauthenticated", "log in first")
        return self.session

    def page(self, template: str, status: int = 200, **values: t.Any) -> web.Response:
        facts = self.node.describe()
        return render(
            template,
            status,
            node=facts,
            url=f"https://{self.node.config.address}:{self.node.config.port}",
            members=facts["cluster"]["members"],
            session=self.session,
            timeout=self.sessions.timeout,
            path=self.path,
            **values,
        )

    def finish(self, response: web.StreamResponse) -> web.StreamResponse:
        self.request["client"] = self.session.user if self.session else None
        if response.prepared:
            return response
        flags: dict[str, t.Any] = {"secure": True, "httponly": True, "samesite": "Strict", "path": "/"}
        if self._set:
            response.set_cookie(self.cookie, self._set, **flags)
        elif self._forget:
            response.del_cookie(self.cookie, **flags)
        return harden(response)


def public(handler: Handler) -> t.Callable[[web.Request], t.Awaitable[web.StreamResponse]]:
    """Wrap a page that does not require a login."""

    async def wrapped(request: web.Request) -> web.StreamResponse:
        context = RequestContext(request)
        return context.finish(await _respond(context, handler))

    return wrapped


def page(handler: Handler) -> t.Callable[[web.Request], t.Awaitable[web.StreamResponse]]:
    """Wrap a page that requires a login. A registered certificate starts a session, but does not renew an ended session."""

    async def logged_in(context: RequestContext) -> web.StreamResponse:
        context.find_session()
        request = context.request
        if context.session is None:
            name, registered = context.certificate()
            if (
                request.method == "GET"
                and registered
                and name
                and not context.ended
                and not context.path.endswith(LIVE)
            ):
                context.log_in(name, "certificate")
            elif request.method == "GET" and not context.path.endswith(LIVE):
                return see_other(
                    "/login?" + urllib.parse.urlencode({"next": context.path, "ended": int(context.ended)})
                )
            else:
                raise ApiError("unauthenticated", "your session has ended, and nothing was changed")
        return await handler(context)

    return public(logged_in)


async def _respond(context: RequestContext, handler: Handler) -> web.StreamResponse:
    try:
        if not context.node.config.joined:
            return context.page("not_joined.html", 403)
        if context.request.method == "POST":
            forms.require_same_origin(context.request)
        return await handler(context)
    except ApiError as problem:
        return error_page(context, problem)
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:
        LOG.exception("%s: %s %s failed", context.node.name, context.request.method, context.path)
        return error_page(context, ApiError("internal_error", "an unexpected error was logged on the node"))


def error_page(
    context: RequestContext, problem: ApiError, template: str = "error.html", **values: t.Any
) -> web.Response:
    response = context.page(template, problem.status, problem=problem, **values)
    response.headers.update(problem.headers)
    return response


def local_path(value: str) -> str:
    """The target after a login, limited to paths of this site."""
    known = value.startswith("/") and not value.startswith(("//", "/\\")) and value.isprintable() and "\\" not in value
    return value if known and len(value) <= 200 and not value.startswith("/login") else HOME


def field(fields: t.Mapping[str, str], name: str) -> str:
    if name not in fields:
        raise bad(f"the field {name} is missing in the form")
    return fields[name]
