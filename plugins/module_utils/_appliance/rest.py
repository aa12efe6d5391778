# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Transport `rest`: appliance API v1, JSON over HTTPS. Private to keyops.utrust.

The API is a contract of this project (docs/api/appliance-v1.yaml), not of the vendor. It was never tested with hardware.
"""

from __future__ import annotations

import base64
import hashlib
import json
import typing as t
import urllib.parse
import uuid

from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    KEY_LIST,
    RESTORE_JOB,
    STAGED_IMPORT,
    HsmKey,
    Import,
    Node,
    Package,
    PinPad,
    Restore,
    RestorePreview,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JSON, Api, JsonClient
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest

PAGE_SIZE = 1000
MAX_READ_ATTEMPTS = 5
APPLIANCE_API = Api(
    name="the appliance API of a node",
    read_problem=schema.parse_problem,
    repeatable=frozenset({"GET", "HEAD", "PUT", "DELETE"}),
    not_started=frozenset({429, 503}),
    lost=frozenset({502, 504}),
    retry_unsent=False,
    unreachable_code="node_unreachable",
    unreachable_remedy="Check address, port, power and network of the node",
    login_remedy="Register this controller's client certificate in Webconf, page Access, and check client_cert and client_key",
)


class RestAppliance:
    """One node over appliance API v1. Implements the protocol `Appliance`."""

    def __init__(self, client: JsonClient) -> None:
        self._client = client
        self.capabilities = frozenset({KEY_LIST, STAGED_IMPORT, RESTORE_JOB})

    def close(self) -> None:
        self._client.close()

    def abort(self) -> None:
        self._client.abort()

    # -- reading

    def node(self) -> Node:
        node = schema.parse_node(self._get("/api/v1/node"))
        self.capabilities &= node.capabilities
        return node

    def list_keys(self) -> tuple[HsmKey, ...]:
        """Return the keys of all pages. Reads at most `MAX_READ_ATTEMPTS` times, because keys may change between two pages."""
        for dummy in range(MAX_READ_ATTEMPTS):
            hsm_keys = self._read_all_pages()
            if hsm_keys is not None:
                return hsm_keys
        raise ApiError(
            f"reading the keys: they changed during each of {MAX_READ_ATTEMPTS} attempts. Wait until the node generates no more keys, then run again",
            code="keys_unstable",
        )

    def _read_all_pages(self) -> tuple[HsmKey, ...] | None:
        """Return all keys, or None if the keys changed between two pages."""
        hsm_keys: list[HsmKey] = []
        cursor: str | None = None
        digest: str | None = None
        while True:
            query = {"limit": str(PAGE_SIZE)} | ({"cursor": cursor} if cursor else {})
            page, next_cursor, page_digest = schema.parse_key_page(self._get("/api/v1/hsm/keys", query))
            if digest not in (None, page_digest):
                return None
            digest = page_digest
            hsm_keys += page
            if next_cursor is None:
                break
            if not page or next_cursor == cursor:
                raise ApiError(
                    "reading the keys: a page has no keys, or the same cursor as the page before. Check the appliance API of the node",
                    code="response_invalid",
                )
            cursor = next_cursor
        computed = keys_digest(hsm_keys)
        if computed != digest:
            raise ApiError(
                f"reading the keys: the node reports the keys digest {digest}, but its list of {len(hsm_keys)} keys has {computed}. "
                "Do not trust this list. Run again, then check the appliance API of the node",
                code="keys_digest_mismatch",
            )
        return tuple(hsm_keys)

    def pin_pads(self) -> tuple[PinPad, ...]:
        return schema.parse_pin_pads(self._get("/api/v1/hsm/pin-pads"))

    # -- guided restore

    def preview_restore(self, pin_pad: str, source: str) -> RestorePreview:
        return schema.parse_restore_preview(
            self._get("/api/v1/hsm/restore-preview", {"pin_pad": pin_pad, "source": source})
        )

    def running_restore(self) -> Restore | None:
        found = schema.parse_restores(self._get("/api/v1/hsm/restores", {"state": "running"}))
        return found[0] if found else None

    def start_restore(self, pin_pad: str, source: str) -> Restore:
        body = json.dumps({"pin_pad": pin_pad, "source": source}).encode()
        return schema.parse_restore(
            self._create("/api/v1/hsm/restores", "restores", body=body, headers={"Content-Type": JSON})
        )

    def watch_restore(self, restore: Restore, wait: float) -> Restore:
        # At least one second, because requests that return at once would overload the node.
        query = {"wait": str(max(1, int(wait))), "sequence": str(restore.sequence)}
        return schema.parse_restore(self._get(f"/api/v1/hsm/restores/{restore.id}", query))

    def cancel_restore(self, restore_id: str) -> Restore:
        return schema.parse_restore(self._client.call("DELETE", f"/api/v1/hsm/restores/{restore_id}").document)

    # -- packages

    def create_package(self, expect_keys_digest: str) -> Package:
        body = json.dumps({"expect_keys_digest": expect_keys_digest}).encode()
        return schema.parse_package(
            self._create("/api/v1/hsm/packages", "packages", body=body, headers={"Content-Type": JSON})
        )

    def download_package(self, package: Package, output: t.BinaryIO) -> None:
        digest = hashlib.sha256()
        size = 0

        def write(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            digest.update(chunk)
            try:
                output.write(chunk)
            except OSError as exc:  # an error of the local disk, not of the connection
                raise UtrustError(
                    f"downloading package {package.id}: cannot write the file: {exc.strerror or exc}. The file was deleted. "
                    "Free disk space, or choose another destination",
                    code="package_not_written",
                ) from exc

        path = f"/api/v1/hsm/packages/{package.id}/content"
        announced_digest = self._client.call("GET", path, headers={"Accept": "*/*"}, output=write).content_digest
        actual = "sha256:" + digest.hexdigest()
        if size != package.size or actual != package.sha256 or announced_digest not in (None, _content_digest(actual)):
            raise ApiError(
                f"downloading package {package.id}: received {size} of {package.size} bytes or a wrong digest. The file was deleted. "
                "Run again. If the error persists, check for a proxy between the two machines",
                code="download_corrupt",
            )

    def delete_package(self, package: Package) -> None:
        self._client.call("DELETE", f"/api/v1/hsm/packages/{package.id}", ok=(204, 404))

    # -- imports

    def stage_import(self, content: t.BinaryIO, size: int, sha256: str) -> Import:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Digest": _content_digest(sha256),
        }
        return schema.parse_import(self._create("/api/v1/hsm/imports", "imports", body=content, headers=headers))

    def apply_import(self, staged: Import, expect_keys_digest: str) -> Import:
        path = f"/api/v1/hsm/imports/{staged.id}"
        headers = {"Idempotency-Key": uuid.uuid4().hex, "If-Match": f'"{expect_keys_digest}"'}
        try:
            return schema.parse_import(self._client.call("POST", f"{path}/apply", headers=headers).document)
        except (ResponseLostError, ApiError) as lost:
            if _was_rejected(lost):
                raise
            try:
                found = schema.parse_import(self._get(path))
            except (ApiError, UnreachableError) as exc:
                raise ResponseLostError(
                    f"{lost}. The import could not be read, so its result is unknown: {exc}", code="outcome_unknown"
                ) from lost
            if found.state not in ("applied", "failed", "waiting_for_card", "waiting_for_pin"):
                raise ResponseLostError(
                    f"{lost}. The node reports the import as {found.state}",
                    code="response_lost",
                    import_state=found.state,
                ) from lost
            return found

    def read_import(self, started: Import) -> Import:
        return schema.parse_import(self._get(f"/api/v1/hsm/imports/{started.id}"))

    def discard_import(self, staged: Import) -> None:
        self._client.call("DELETE", f"/api/v1/hsm/imports/{staged.id}", ok=(204, 404, 409))

    # -- requests

    def _get(self, path: str, query: t.Mapping[str, str] | None = None) -> t.Any:
        return self._client.call("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path).document

    def _create(self, path: str, listed_as: str, *, body: bytes | t.BinaryIO, headers: t.Mapping[str, str]) -> t.Any:
        """Send one POST. If the response is lost, find the object by its Idempotency-Key, because a second POST could create another object."""
        idempotency_key = uuid.uuid4().hex
        try:
            return self._client.call(
                "POST", path, ok=(201,), headers={**headers, "Idempotency-Key": idempotency_key}, body=body
            ).document
        except (ResponseLostError, ApiError) as lost:
            if _was_rejected(lost):
                raise
            try:
                found = schema.get_list(self._get(path, {"idempotency_key": idempotency_key}), listed_as)
            except (ApiError, UnreachableError) as exc:
                raise ResponseLostError(
                    f"{lost}. The list of {listed_as} could not be read, so the result is unknown: {exc}",
                    code="outcome_unknown",
                ) from lost
            if not found:
                raise ResponseLostError(
                    f"{lost}. The node created no object for this request, so nothing was changed. Run again",
                    code="response_lost",
                ) from lost
            return found[0]


def _content_digest(sha256: str) -> str:
    """Return the Content-Digest header (RFC 9530) for a digest `sha256:…`."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256.removeprefix('sha256:'))).decode()}:"


def _was_rejected(failure: UtrustError) -> bool:
    """Return whether the node rejected the request. After any other failure of a POST something may have changed."""
    status = failure.details.get("http_status", 0) if isinstance(failure, ApiError) else 0
    return 400 <= status < 500 or status == 503
