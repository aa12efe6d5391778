# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""API of packages and imports."""

from __future__ import annotations

import hashlib
import os
import typing as t

from aiohttp import web

from utrust_appliance.errors import ApiError
from utrust_appliance.files import destroy
from utrust_appliance.web import checks
from utrust_appliance.web.checks import (
    DIGEST,
    Query,
    digest_of,
    idempotency_key_of,
    json_object,
    made_once,
    members,
    object_id,
)
from utrust_appliance.web.middleware import NODE, cut, late

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.node import Node

CHUNK = 1 << 16


def _created(request: web.Request, data: dict[str, t.Any]) -> web.Response:
    return web.json_response(data, status=201, headers={"Location": f"{request.path}/{data['id']}"})


def _key_filter(request: web.Request) -> str:
    query = Query(request)
    key = query.get("idempotency_key", idempotency_key_of, "")
    query.done()
    return key


async def list_packages(request: web.Request) -> web.Response:
    return web.json_response({"packages": request.app[NODE].packages.list(_key_filter(request))})


async def create_package(request: web.Request) -> web.Response:
    node = request.app[NODE]
    Query(request).done()
    with node.turns.receiving(checks.idempotency_key(request)):
        data, digest = await json_object(request)
        members(data, required={}, optional={"expect_keys_digest": DIGEST})
        once = made_once(request, digest)
        await late(request)
        return _created(request, await node.packages.create(once, data.get("expect_keys_digest")))


async def get_package(request: web.Request) -> web.Response:
    package_id = object_id(request, "package_id")
    Query(request).done()
    return web.json_response(request.app[NODE].packages.get(package_id))


async def delete_package(request: web.Request) -> web.Response:
    package_id = object_id(request, "package_id")
    Query(request).done()
    return web.json_response(request.app[NODE].packages.delete(package_id))


async def download_package(request: web.Request) -> web.StreamResponse:
    package_id = object_id(request, "package_id")
    Query(request).done()
    return await send_package(request, package_id, {})


async def send_package(request: web.Request, package_id: str, more: dict[str, str]) -> web.StreamResponse:
    """Send the content of a package. `more` has additional headers."""
    packages = request.app[NODE].packages
    with packages.content(package_id) as (data, path):
        try:
            return await _send_content(request, data, path, more)
        finally:
            if request.get("sent"):
                packages.downloaded(package_id)


async def _send_content(
    request: web.Request, data: dict[str, t.Any], path: Path, more: dict[str, str]
) -> web.StreamResponse:
    node = request.app[NODE]
    faults, size, sha256 = node.cluster.faults, data["size"], data["sha256"].removeprefix("sha256:")
    corrupted = faults.find("corrupt_download", node.name)
    if corrupted and corrupted.params["consistent"]:
        sha256 = hashlib.sha256(_corrupted(path.read_bytes(), 0, size)).hexdigest()
    if faults.find("wrong_digest", node.name):
        sha256 = hashlib.sha256(b"other content").hexdigest()
    if truncated := faults.find("truncate_download", node.name):
        size = max(0, size - int(truncated.params["bytes"]))
    stop_at = size // 2 if faults.find("reset_mid_transfer", node.name, request.method, request.path) else None
    headers = {
        "Content-Digest": checks.as_content_digest(sha256),
        "Cache-Control": "no-store",
        "Content-Type": "application/octet-stream",
        "Content-Length": str(size),
        **more,
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    with path.open("rb") as file:
        done = 0
        while done < size:
            chunk = file.read(min(CHUNK, size - done))
            if corrupted:
                chunk = _corrupted(chunk, done, data["size"])
            if stop_at is not None and done + len(chunk) > stop_at:
                request["sent"] = True
                await response.write(chunk[: stop_at - done])
                cut(request)
            request["sent"] = True
            await response.write(chunk)
            done += len(chunk)
    await response.write_eof()
    return response


def _corrupted(chunk: bytes, start: int, size: int) -> bytes:
    """Invert the byte in the middle of the file, if the chunk contains it."""
    position = size // 2 - start
    if not 0 <= position < len(chunk):
        return chunk
    return chunk[:position] + bytes([chunk[position] ^ 0xFF]) + chunk[position + 1 :]


async def list_imports(request: web.Request) -> web.Response:
    return web.json_response({"imports": request.app[NODE].imports.list(_key_filter(request))})


async def stage_import(request: web.Request) -> web.Response:
    node, query = request.app[NODE], Query(request)
    expected = query.get("expect_keys_digest", digest_of, "") or None
    query.done()
    once = made_once(request, announced := checks.content_digest(request))
    checks.media_type(request, "application/octet-stream")
    checks.announced_size(request, node.cluster.options.max_upload)
    upload = node.imports.upload_path()
    with node.turns.receiving(once.key):
        try:
            size, received = await receive(request, upload, request.content.iter_chunked(CHUNK))
            if received != announced:
                detail = f"Content-Digest does not match the {size} received bytes"
                raise ApiError("content_digest_mismatch", detail)
            await late(request)
            return _created(request, await node.imports.stage(once, upload, f"sha256:{received}", size, expected))
        finally:
            destroy(upload)


async def receive(request: web.Request, path: Path, chunks: t.AsyncIterator[bytes]) -> tuple[int, str]:
    """Write an upload to a file. Returns its size in bytes and its SHA-256."""
    node = request.app[NODE]
    cut_it = node.cluster.faults.find("reset_mid_transfer", node.name, request.method, request.path)
    limit, size, digest = node.cluster.options.max_upload, 0, hashlib.sha256()
    path.touch(mode=0o600)
    with path.open("wb") as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise checks.too_large(limit)
            if cut_it:
                cut(request)
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


async def get_import(request: web.Request) -> web.Response:
    import_id = object_id(request, "import_id")
    Query(request).done()
    return web.json_response(request.app[NODE].imports.get(import_id))


async def apply_import(request: web.Request) -> web.Response:
    node, import_id = request.app[NODE], object_id(request, "import_id")
    Query(request).done()
    with node.turns.receiving(checks.idempotency_key(request)):
        data, digest = await json_object(request)
        expected = _expected(node, data)
        once = made_once(request, digest)
        await late(request)
        return web.json_response(await node.imports.apply(import_id, once, expected))


def _expected(node: Node, data: dict[str, t.Any]) -> str | None:
    """The keys digest of an ApplyRequest. Null is for nodes that do not list their keys."""
    if data == {"expect_keys_digest": None} and "key_list" not in node.behavior.capabilities():
        return None
    members(data, required={"expect_keys_digest": DIGEST}, optional={})
    return t.cast("str", data["expect_keys_digest"])


async def discard_import(request: web.Request) -> web.Response:
    import_id = object_id(request, "import_id")
    Query(request).done()
    return web.json_response(request.app[NODE].imports.discard(import_id))


ROUTES = [
    ("GET", "/hsm/packages", list_packages),
    ("POST", "/hsm/packages", create_package),
    ("GET", "/hsm/packages/{package_id}", get_package),
    ("DELETE", "/hsm/packages/{package_id}", delete_package),
    ("GET", "/hsm/packages/{package_id}/content", download_package),
    ("GET", "/hsm/imports", list_imports),
    ("POST", "/hsm/imports", stage_import),
    ("GET", "/hsm/imports/{import_id}", get_import),
    ("DELETE", "/hsm/imports/{import_id}", discard_import),
    ("POST", "/hsm/imports/{import_id}/apply", apply_import),
]
