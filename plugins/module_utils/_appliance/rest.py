# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Transport `rest`: appliance API v1, JSON over HTTPS. Private to keyops.utrust.

The API is a contract of this project (docs/api/appliance-v1.yaml), not of the vendor. It was never tested with hardware.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import typing as t
import urllib.parse
import uuid

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import claim, fields, jobs, schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.key_list import list_keys
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.lookup import look_again, was_rejected
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    CLUSTER_CLAIM,
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
    RequestLostError,
    ResponseLostError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JSON, Api, JsonClient
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

CLAIM = "/api/v1/cluster/claim"
PACKAGES, IMPORTS, RESTORES = "/api/v1/hsm/packages", "/api/v1/hsm/imports", "/api/v1/hsm/restores"
APPLIANCE_API = Api(
    name="the appliance API of a node",
    read_problem=schema.parse_problem,
    repeatable=frozenset({"GET", "HEAD", "PUT", "DELETE"}),
    not_started=frozenset({429, 503}),
    lost=frozenset({502, 504}),
    retry_unsent=False,
    unreachable_code="node_unreachable",
    unreachable_remedy="Check address, port, power and network of the node",
    in_progress=frozenset({"request_in_progress"}),
    login_remedy="Register this controller's client certificate in Webconf, page Access, and check client_cert and client_key",
)


class RestAppliance:
    """One node over appliance API v1. Implements the protocol `Appliance`.

    `patience` is how long to look for the object of a request whose response was lost.
    """

    def __init__(self, client: JsonClient, patience: WaitOptions | None = None) -> None:
        self._client = client
        self._patience = patience or WaitOptions(limits.MAX_LOOKUP_TIME)
        self.capabilities = frozenset({KEY_LIST, STAGED_IMPORT, RESTORE_JOB, CLUSTER_CLAIM})

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
        return list_keys(lambda query: self._get("/api/v1/hsm/keys", query), self._patience.clock)

    def pin_pads(self) -> tuple[PinPad, ...]:
        return schema.parse_pin_pads(self._get("/api/v1/hsm/pin-pads"))

    # -- claim of the cluster

    def read_claim(self) -> claim.ClaimStatus:
        return claim.parse_status(self._get(CLAIM))

    def take_claim(self, token: str, holder: str, ttl: int) -> claim.ClaimStatus:
        body = json.dumps({"holder": holder, "ttl": ttl}).encode()
        headers = {"Content-Type": JSON, claim.HEADER: token}
        return claim.parse_taken(self._client.call("PUT", CLAIM, headers=headers, body=body).document)

    def release_claim(self) -> None:
        self._client.call("DELETE", CLAIM)

    # -- guided restore

    def preview_restore(self, pin_pad: str, source: str) -> RestorePreview:
        return schema.parse_restore_preview(
            self._get("/api/v1/hsm/restore-preview", {"pin_pad": pin_pad, "source": source})
        )

    def running_restore(self) -> Restore | None:
        found = jobs.parse_restores(self._get(RESTORES, {"state": "running"}))
        return found[0] if found else None

    def start_restore(self, pin_pad: str, source: str) -> Restore:
        body = json.dumps({"pin_pad": pin_pad, "source": source}).encode()
        return jobs.parse_restore(self._create(RESTORES, "restores", body=body, headers={"Content-Type": JSON}))

    def watch_restore(self, restore: Restore, wait: float) -> Restore:
        # At least one second, because requests that return at once would overload the node.
        query = {"wait": str(max(1, int(min(wait, limits.MAX_LONG_POLL)))), "sequence": str(restore.sequence)}
        return jobs.parse_restore(self._get(_path(RESTORES, restore.id), query))

    def cancel_restore(self, restore_id: str) -> Restore:
        path = _path(RESTORES, restore_id)
        try:
            return jobs.parse_restore(self._client.call("DELETE", path).document)
        except (ResponseLostError, ApiError) as lost:
            if was_rejected(lost):
                raise

            def read() -> Restore | None:
                found = jobs.parse_restore(self._get(path))
                return found if found.finished else None

            ended = look_again(lost, "The restore", read, self._patience)
            if ended is None:
                raise ResponseLostError(
                    f"{lost}. The node reports that the restore is still running. Run again", code="response_lost"
                ) from lost
            return ended

    # -- packages

    def create_package(self, expect_keys_digest: str | None) -> Package:
        body = json.dumps(_expected(expect_keys_digest)).encode()
        document = self._create(PACKAGES, "packages", body=body, headers={"Content-Type": JSON})
        return jobs.parse_package(document)

    def read_package(self, package: Package) -> Package:
        return jobs.parse_package(self._get(_path(PACKAGES, package.id)))

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

        path = _path(PACKAGES, package.id) + "/content"
        announced: str | None = None
        try:
            announced = self._client.call(
                "GET", path, headers={"Accept": "*/*"}, output=write, limit=package.size or 0
            ).content_digest
            too_large = False
        except ApiError as exc:
            if exc.code != "response_too_large":
                raise
            too_large = True
        actual = "sha256:" + digest.hexdigest()
        right = size == package.size and actual == package.sha256 and _is_announced(actual, announced)
        if too_large or not right:
            received = "more than the" if too_large else f"{size} of"
            raise ApiError(
                f"downloading package {package.id}: received {received} {package.size} bytes or a wrong digest. The file was deleted. "
                "Run again. If the error persists, check for a proxy between the two machines",
                code="download_corrupt",
            )

    def delete_package(self, package: Package) -> None:
        self._client.call("DELETE", _path(PACKAGES, package.id), ok=(200, 404))

    # -- imports

    def stage_import(self, content: t.BinaryIO, size: int, sha256: str, expect_keys_digest: str | None) -> Import:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Digest": _content_digest(sha256),
        }
        query = _expected(expect_keys_digest)
        document = self._create(IMPORTS, "imports", query, body=content, headers=headers)
        try:
            return jobs.parse_import(document)
        except ApiError:
            # Nobody can follow this import. A node refuses to discard an applied import.
            with contextlib.suppress(UtrustError):
                object_id = fields.get_match(document, "id", fields.OBJECT_ID)
                self._client.call("DELETE", _path(IMPORTS, object_id), ok=(200, 404, 409))
            raise

    def apply_import(self, staged: Import, expect_keys_digest: str | None) -> Import:
        path = _path(IMPORTS, staged.id)
        headers = {"Content-Type": JSON, "Idempotency-Key": uuid.uuid4().hex}
        body = json.dumps({"expect_keys_digest": expect_keys_digest}).encode()
        try:
            return jobs.parse_import(self._client.call("POST", f"{path}/apply", headers=headers, body=body).document)
        except (ResponseLostError, ApiError) as lost:
            if was_rejected(lost):
                raise

            def read() -> Import | None:
                found = jobs.parse_import(self._get(path))
                return found if found.state != "staged" else None

            found = look_again(lost, "The import", read, self._patience)
            if found is None:
                raise ResponseLostError(
                    f"{lost}. The node reports the import as staged", code="response_lost", import_state="staged"
                ) from lost
            return found

    def read_import(self, started: Import) -> Import:
        return jobs.parse_import(self._get(_path(IMPORTS, started.id)))

    def discard_import(self, staged: Import) -> bool:
        response = self._client.call("DELETE", _path(IMPORTS, staged.id), ok=(200, 404, 409))
        if response.status != 200:
            return False
        return fields.get_match(response.document, "state", fields.WORD) in ("discarded", "canceled", "expired")

    # -- requests

    def _get(self, path: str, query: t.Mapping[str, str] | None = None) -> t.Any:
        return self._client.call("GET", _with_query(path, query)).document

    def _create(
        self,
        path: str,
        listed_as: str,
        query: t.Mapping[str, str] | None = None,
        *,
        body: bytes | t.BinaryIO,
        headers: t.Mapping[str, str],
    ) -> t.Any:
        """Send one POST. If the response is lost, find the object by its Idempotency-Key, because a second POST could create another object."""
        idempotency_key = uuid.uuid4().hex
        try:
            document = self._client.call(
                "POST",
                _with_query(path, query),
                ok=(201,),
                headers={**headers, "Idempotency-Key": idempotency_key},
                body=body,
            ).document
            fields.get_match(document, "id", fields.OBJECT_ID)
            return document
        except (ResponseLostError, ApiError) as lost:
            if was_rejected(lost):
                raise
            find = functools.partial(self._find, path, listed_as, idempotency_key)
            found = look_again(lost, f"The list of {listed_as}", find, self._patience)
            if found is None:
                searched = (
                    f"{lost}. The node did not list an object for this request within {self._patience.timeout:g} s"
                )
                if self._patience.timeout < limits.MIN_LOOKUP_TIME:
                    raise ResponseLostError(f"{searched}. Run again", code="response_lost") from lost
                # The contract allows a node that is slower only to reject the request.
                raise RequestLostError(
                    f"{searched}, so it did not act on the request. Run again", code="response_lost"
                ) from lost
            return found

    def _find(self, path: str, listed_as: str, idempotency_key: str) -> t.Any:
        """Return the object of a request, or None if the node does not list it."""
        listed = self._get(path, {"idempotency_key": idempotency_key})
        entries = [
            entry
            for entry in fields.get_list(listed, listed_as, limits.MAX_OBJECTS)
            if fields.get_match(entry, "idempotency_key", fields.IDEMPOTENCY_KEY) == idempotency_key
        ]
        # The entry of a list can be shorter than the object.
        return self._get(_path(path, fields.get_match(entries[0], "id", fields.OBJECT_ID))) if entries else None


def _expected(keys_digest: str | None) -> dict[str, str]:
    return {"expect_keys_digest": keys_digest} if keys_digest is not None else {}


def _with_query(path: str, query: t.Mapping[str, str] | None) -> str:
    return f"{path}?{urllib.parse.urlencode(query)}" if query else path


def _path(folder: str, object_id: str) -> str:
    return f"{folder}/{urllib.parse.quote(object_id, safe='')}"


def _is_announced(sha256: str, header: str | None) -> bool:
    """Whether the Content-Digest header has this digest, or no SHA-256. The header can list several algorithms."""
    members = (member.strip().partition("=") for member in (header or "").split(","))
    announced = [value.partition(";")[0].strip() for name, dummy, value in members if name.strip() == "sha-256"]
    return not announced or f"sha-256={announced[-1]}" == _content_digest(sha256)


def _content_digest(sha256: str) -> str:
    """Return the Content-Digest header (RFC 9530) for a digest `sha256:…`."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256.removeprefix('sha256:'))).decode()}:"
