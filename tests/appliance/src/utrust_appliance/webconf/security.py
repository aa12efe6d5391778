# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page *Security*: the guided restore and the Key Synchronization Packages, by the same jobs as the API's."""

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
from utrust_appliance.webconf.request_context import field, page, refusal

if t.TYPE_CHECKING:
    from aiohttp import web

    from utrust_appliance.node import Node
    from utrust_appliance.webconf.request_context import RequestContext

SECURITY = "security.html"


def _around(context: RequestContext) -> dict[str, t.Any]:
    """What the page shows whatever lies over it. `once`: a form that is sent twice makes one thing."""
    node = context.node
    return {
        "may_restore": node.behavior.restore_allowed(*node.state()) and node.running() is None,
        "running": node.running(),
        "once": secrets.token_hex(16),
        "wants_package": node.behavior.restore_from == "package",
        "max_upload": node.cluster.options.max_upload,
    }


def _show(context: RequestContext, modal: str | None = None, **values: t.Any) -> web.Response:
    return context.page(SECURITY, modal=modal, problem=None, **_around(context), **values)


def _refuse(context: RequestContext, problem: ApiError, modal: str | None = None, **values: t.Any) -> web.Response:
    return refusal(context, problem, SECURITY, modal=modal, **_around(context), **values)


async def security(context: RequestContext) -> web.StreamResponse:
    return _show(context)


async def back(dummy_context: RequestContext) -> web.StreamResponse:
    """Where a form was refused, the address is the form's; a reload there leads back to the page."""
    return see_other("/security")


# The guided restore


def _source(node: Node) -> str:
    """Whose keys come along. The vendor's page offers no choice; here it is the first member that can give them."""
    for other in node.cluster.nodes.values():
        if other is not node and other.config.joined and other.reachable() and other.state()[0] == "operational":
            return other.name
    raise ApiError("source_not_ready", "no other member of the cluster is connected and operational")


async def guide_setup(context: RequestContext) -> web.StreamResponse:
    if not _around(context)["may_restore"]:
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
        return _refuse(context, problem, "setup", pads=node.pin_pads())
    return _show(context, "summary", preview=facts, package=package)


async def bring_package(context: RequestContext) -> web.StreamResponse:
    """Where the profile wants it, a restore takes the keys from a package, which is kept here for that restore only."""
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
                raise bad("no file was selected, or it is empty")
            package = await asyncio.to_thread(node.restore_packages.bring, path)
        finally:
            destroy(path)
    except ApiError as problem:
        return _refuse(context, problem, "setup", pads=node.pin_pads())
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
        return _refuse(context, problem)
    return see_other(f"/security/restore/{made}")


async def guide(context: RequestContext) -> web.StreamResponse:
    job = _job(context)
    if job["kind"] == "import" and not _asks_for_cards(job["data"]):
        return _show(context, "result", done=job["data"])
    return _show(context, "guide", version=version(job["state"]), **job)


async def guide_live(context: RequestContext) -> web.StreamResponse:
    job = _job(context)
    if "cards_required" not in job["data"]:
        raise ApiError("not_found", "this import asks for no cards")
    return live(context.request, "guide_live.html", node=context.node.name, csrf=context.user().csrf, **job)


def _asks_for_cards(data: dict[str, t.Any]) -> bool:
    return "cards_required" in data and data["state"] in (*RUNNING, "applying")


def _job(context: RequestContext) -> dict[str, t.Any]:
    """A guided restore, or an import that asks for cards. `state` is what makes the guide show something else."""
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
            return _refuse(context, problem)
    return see_other(job["place"])


# Key Synchronization Packages


async def download(context: RequestContext) -> web.StreamResponse:
    """Made, sent and destroyed: Webconf keeps no package."""
    await _form(context)
    node = context.node
    try:
        made = await node.packages.create(Request(secrets.token_hex(16), "webconf"), None)
    except ApiError as problem:
        return _refuse(context, problem)
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
    """The point of no return: what is uploaded is imported at once, and the table says what was done."""
    node = context.node
    try:
        sent = await forms.Upload.of(context.request, node.cluster.options.max_upload)
        forms.require_token(field(sent.fields, "csrf"), context.user().csrf)
        once = _once(sent.fields)
        path = node.imports.upload_path()
        try:
            size, sha256 = await receive(context.request, path, sent.chunks())
            if size == 0:
                raise bad("no file was selected, or it is empty")
            import_id = await _import(node, Request(once, version(["upload", sha256])), path, sha256, size)
        finally:
            destroy(path)
    except ApiError as problem:
        return _refuse(context, problem)
    return see_other(f"/security/import/{import_id}")


async def _import(node: Node, request: Request, path: t.Any, sha256: str, size: int) -> str:
    staged = await node.imports.stage(request, path, f"sha256:{sha256}", size)
    import_id = str(staged["id"])
    if staged["state"] != "staged":
        return import_id  # the profile says that the upload is the commit for programs, too
    try:
        await node.imports.apply(import_id, Request(f"{request.key}-apply", request.digest), {staged["keys_digest"]})
    except ApiError:
        with contextlib.suppress(ApiError):  # the first refusal is the one that counts
            node.imports.discard(import_id)
        raise
    return import_id


def _id(context: RequestContext) -> str:
    value = context.request.match_info["id"]
    if not OBJECT_ID.fullmatch(value):
        raise ApiError("not_found", "there is no such object")
    return value


def _once(fields: t.Mapping[str, str]) -> str:
    once = field(fields, "once")
    if not IDEMPOTENCY_KEY.fullmatch(once):
        raise bad("the form is not complete: load the page again")
    return once


async def _form(context: RequestContext) -> dict[str, str]:
    fields = await forms.form(context.request)
    forms.require_token(field(fields, "csrf"), context.user().csrf)
    return fields


ROUTES = [
    ("GET", "/security", page(security)),
    ("GET", "/security/synchronize", page(guide_setup)),
    ("GET", "/security/restore", page(summary)),
    ("POST", "/security/restore-package", page(bring_package)),
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
