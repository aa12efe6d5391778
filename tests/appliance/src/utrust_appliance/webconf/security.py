# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page *Security*: guided restore and Key Synchronization Packages. It uses the same jobs as the API."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import typing as t
import urllib.parse

from utrust_appliance.clock import utc_now
from utrust_appliance.errors import ApiError
from utrust_appliance.files import destroy
from utrust_appliance.jobs.preview import (
    preview,
    preview_from_package,
    require_restorable,
    require_restorable_from_package,
)
from utrust_appliance.jobs.restores import RUNNING
from utrust_appliance.store import Request
from utrust_appliance.web.checks import IDEMPOTENCY_KEY, OBJECT_ID, bad
from utrust_appliance.web.package_api import receive, send_package
from utrust_appliance.webconf import forms
from utrust_appliance.webconf.render import live, see_other, version
from utrust_appliance.webconf.request_context import error_page, field, page

if t.TYPE_CHECKING:
    from aiohttp import web

    from utrust_appliance.node import Node
    from utrust_appliance.webconf.request_context import RequestContext

SECURITY = "security.html"


def _page_values(context: RequestContext) -> dict[str, t.Any]:
    """Values of the page below any dialog. `once` is the idempotency key of a form."""
    node = context.node
    return {
        "may_restore": node.behavior.restore_allowed(*node.state()) and node.running() is None,
        "running": node.running(),
        "once": secrets.token_hex(16),
        "wants_package": node.behavior.restore_from == "package",
        "max_upload": node.cluster.options.max_upload,
    }


def _show(context: RequestContext, modal: str | None = None, **values: t.Any) -> web.Response:
    return context.page(SECURITY, modal=modal, problem=None, **_page_values(context), **values)


def _reject(context: RequestContext, problem: ApiError, modal: str | None = None, **values: t.Any) -> web.Response:
    return error_page(context, problem, SECURITY, modal=modal, **_page_values(context), **values)


async def security(context: RequestContext) -> web.StreamResponse:
    return _show(context)


async def back(dummy_context: RequestContext) -> web.StreamResponse:
    """Redirect a reload of a rejected form to the page."""
    return see_other("/security")


# The guided restore


def _source(node: Node) -> str:
    """The source of the keys: the first available member. The vendor's page does not offer a choice."""
    for other in node.cluster.nodes.values():
        if other is not node and other.config.joined and other.reachable() and other.state()[0] == "operational":
            return other.name
    raise ApiError("source_not_ready", "no other member of the cluster is connected and operational")


async def guide_setup(context: RequestContext) -> web.StreamResponse:
    if not _page_values(context)["may_restore"]:
        return see_other("/security")
    return _show(context, "setup", pads=context.node.pin_pads())


async def summary(context: RequestContext) -> web.StreamResponse:
    node, query = context.node, context.request.query
    pin_pad, package = query.get("pin_pad", ""), query.get("package", "")
    try:
        if package:
            facts = preview_from_package(node, pin_pad, node.restore_packages.get(package))
        else:
            facts = preview(node, pin_pad, _source(node))
    except ApiError as problem:
        return _reject(context, problem, "setup", pads=node.pin_pads())
    return _show(context, "summary", preview=facts, package=package)


async def upload_restore_package(context: RequestContext) -> web.StreamResponse:
    """Upload a package for the next restore, if the profile requires a package."""
    node = context.node
    try:
        sent = await forms.Upload.of(context.request, node.cluster.options.max_upload)
        forms.require_token(field(sent.fields, "csrf"), context.user().csrf)
        pin_pad = field(sent.fields, "pin_pad")
        require_restorable_from_package(node, pin_pad)
        path = node.restore_packages.path(secrets.token_hex(16))
        try:
            size, dummy = await receive(context.request, path, sent.chunks())
            if size == 0:
                raise bad("the file is missing or empty")
            package = await asyncio.to_thread(node.restore_packages.add, path)
        finally:
            destroy(path)
    except ApiError as problem:
        return _reject(context, problem, "setup", pads=node.pin_pads())
    return see_other("/security/restore?" + urllib.parse.urlencode({"pin_pad": pin_pad, "package": package}))


async def start(context: RequestContext) -> web.StreamResponse:
    fields = await _form(context)
    pin_pad, source = field(fields, "pin_pad"), field(fields, "source")
    package, node = fields.get("package", ""), context.node
    request = Request(_once(fields), version(["restore", pin_pad, source, package]))
    made = node.store.made_by(request)
    try:
        if made is None and package:
            require_restorable_from_package(node, pin_pad)
            made = node.restores.start_from_package(request, pin_pad, node.restore_packages.take(package))["id"]
        elif made is None:
            other = require_restorable(node, pin_pad, source)
            made = node.restores.start(request, pin_pad, other)["id"]
    except ApiError as problem:
        return _reject(context, problem)
    return see_other(f"/security/restore/{made}")


async def guide(context: RequestContext) -> web.StreamResponse:
    job = _job(context)
    if job["kind"] == "import" and not _requires_cards(job["data"]):
        return _show(context, "result", done=job["data"])
    return _show(context, "guide", version=version(job["state"]), **job)


async def guide_live(context: RequestContext) -> web.StreamResponse:
    job = _job(context)
    if job["data"]["cards_required"] is None:
        raise ApiError("not_found", "the import does not require cards")
    return live(context.request, "guide_live.html", node=context.node.name, csrf=context.user().csrf, **job)


def _requires_cards(data: dict[str, t.Any]) -> bool:
    return data["cards_required"] is not None and data["state"] in (*RUNNING, "applying")


def _job(context: RequestContext) -> dict[str, t.Any]:
    """A guided restore or an import that requires cards. A change of `state` updates the guide."""
    kind, node = context.request.match_info["kind"], context.node
    data = (node.restores if kind == "restore" else node.imports).get(_id(context))
    state = [data["id"], data["sequence"], data["state"]]
    return {"kind": kind, "data": data, "state": state, "place": f"/security/{kind}/{data['id']}"}


async def cancel(context: RequestContext) -> web.StreamResponse:
    await _form(context)
    job = _job(context)
    try:
        if job["kind"] == "restore":
            context.node.restores.cancel(job["data"]["id"])
        else:
            context.node.imports.discard(job["data"]["id"])
    except ApiError as problem:
        if _job(context)["data"]["state"] in RUNNING:
            return _reject(context, problem)
    return see_other(job["place"])


# Key Synchronization Packages


async def download(context: RequestContext) -> web.StreamResponse:
    """Create, send and delete a package. Webconf does not keep packages."""
    await _form(context)
    node = context.node
    try:
        made = await node.packages.create(Request(secrets.token_hex(16), "webconf"), None, wait=True)
        if made["state"] != "ready":
            raise ApiError("package_not_ready", made["problem"]["detail"])
    except ApiError as problem:
        return _reject(context, problem)
    stamp = utc_now().replace(":", "").replace("-", "")
    name = urllib.parse.quote(f"{node.cluster.name}-{node.name}-{stamp}.ksp", safe="")
    more = {"Content-Disposition": f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}", **_plain_headers()}
    try:
        return await send_package(context.request, made["id"], more)
    finally:
        node.packages.delete(made["id"])


def _plain_headers() -> dict[str, str]:
    return {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}


async def upload(context: RequestContext) -> web.StreamResponse:
    """Import an uploaded package immediately, and show the results. This cannot be undone."""
    node = context.node
    try:
        sent = await forms.Upload.of(context.request, node.cluster.options.max_upload)
        forms.require_token(field(sent.fields, "csrf"), context.user().csrf)
        once = _once(sent.fields)
        path = node.imports.upload_path()
        try:
            size, sha256 = await receive(context.request, path, sent.chunks())
            if size == 0:
                raise bad("the file is missing or empty")
            import_id = await _import(node, Request(once, version(["upload", sha256])), path, sha256, size)
        finally:
            destroy(path)
    except ApiError as problem:
        return _reject(context, problem)
    return see_other(f"/security/import/{import_id}")


async def _import(node: Node, request: Request, path: t.Any, sha256: str, size: int) -> str:
    staged = await node.imports.stage(request, path, f"sha256:{sha256}", size, wait=True)
    import_id = str(staged["id"])
    if staged["state"] != "staged":
        return import_id  # the upload is also the commit of the API
    try:
        await node.imports.apply(import_id, Request(f"{request.key}-apply", request.digest), staged["keys_digest"])
    except ApiError:
        with contextlib.suppress(ApiError):  # report the first error
            node.imports.discard(import_id)
        raise
    return import_id


def _id(context: RequestContext) -> str:
    value = context.request.match_info["id"]
    if not OBJECT_ID.fullmatch(value):
        raise ApiError("not_found", "the object does not exist")
    return value


def _once(fields: t.Mapping[str, str]) -> str:
    once = field(fields, "once")
    if not IDEMPOTENCY_KEY.fullmatch(once):
        raise bad("the form is incomplete: reload the page")
    return once


async def _form(context: RequestContext) -> dict[str, str]:
    fields = await forms.form(context.request)
    forms.require_token(field(fields, "csrf"), context.user().csrf)
    return fields


ROUTES = [
    ("GET", "/security", page(security)),
    ("GET", "/security/synchronize", page(guide_setup)),
    ("GET", "/security/restore", page(summary)),
    ("POST", "/security/restore-package", page(upload_restore_package)),
    ("POST", "/security/restore", page(start)),
    ("POST", "/security/package", page(download)),
    ("POST", "/security/import", page(upload)),
    ("GET", "/security/restore-package", page(back)),
    ("GET", "/security/package", page(back)),
    ("GET", "/security/import", page(back)),
    ("GET", "/security/{kind:restore|import}/{id}", page(guide)),
    ("GET", "/security/{kind:restore|import}/{id}/live", page(guide_live)),
    ("POST", "/security/{kind:restore|import}/{id}/cancel", page(cancel)),
]
