# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For tests: a cluster in a temporary folder, and a minimal API client."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import secrets
import shutil
import ssl
import tempfile
import typing as t
from contextlib import contextmanager
from pathlib import Path

from utrust_appliance import process
from utrust_appliance.control import Control

if t.TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def cluster(nodes: int = 3, **options: t.Any) -> Iterator[Control]:
    """A running cluster in a temporary folder. Options are those of `utrust-appliance up`, for example `faults=True, restored=2`."""
    parent = Path(tempfile.mkdtemp(prefix="utrust-test-", dir=_fast(options)))
    folder = parent / "cluster"
    try:
        yield Control.up(folder, nodes=nodes, **options)
    finally:
        try:
            if folder.exists():
                process.stop(folder)
        finally:
            shutil.rmtree(parent, ignore_errors=True)


def _fast(options: dict[str, t.Any]) -> Path | None:
    """SoftHSM2 syncs every object to disk several times. A folder in memory is at least five times faster."""
    memory = Path("/dev/shm")
    return memory if options.get("hsm") == "pkcs11" and os.access(memory, os.W_OK) else None


class Response(t.NamedTuple):
    """A response of the API."""

    status: int
    data: t.Any
    headers: http.client.HTTPMessage

    @property
    def code(self) -> str | None:
        return t.cast("str | None", self.data.get("code")) if isinstance(self.data, dict) else None


class Api:
    """The API of a node, with one connection for each request: `api("GET", "/node")`, `api("POST", "/hsm/imports", package_bytes)`.

    A dict is sent as JSON, and bytes are sent as a package with its digest. A POST gets an Idempotency-Key by default. Headers are keyword arguments
    with underscores. The value None omits a default header.
    """

    def __init__(
        self,
        control: Control,
        node: str,
        *,
        client: str | None = "operator",
        timeout: float = 30.0,
        claim: str | None = None,
    ) -> None:
        """`claim` is the token of a claim, which every request carries."""
        facts = control.node(node)
        self._address, self._port, self._timeout = facts["address"], facts["port"], timeout
        self._claim = claim
        self._tls = ssl.create_default_context(cafile=str(control.ca_file))
        if client:
            self._tls.load_cert_chain(*control.client(client))

    def __call__(
        self, method: str, path: str, body: dict[str, t.Any] | bytes | None = None, **headers: str | None
    ) -> Response:
        sent: dict[str, str | None] = {"cluster-claim": self._claim}
        content = None
        if isinstance(body, dict):
            content, sent["content-type"] = json.dumps(body).encode(), "application/json"
        elif body is not None:
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            content, sent["content-type"], sent["content-digest"] = (
                body,
                "application/octet-stream",
                f"sha-256=:{digest}:",
            )
        if method == "POST":
            sent["idempotency-key"] = secrets.token_hex(16)
        sent.update({name.replace("_", "-").lower(): value for name, value in headers.items()})
        connection = http.client.HTTPSConnection(self._address, self._port, timeout=self._timeout, context=self._tls)
        try:
            present = {name: value for name, value in sent.items() if value is not None}
            connection.request(method, f"/api/v1{path}", content, present)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        is_json = "json" in response.headers.get("Content-Type", "")
        return Response(response.status, json.loads(data) if is_json else data, response.headers)

    def package(self) -> bytes:
        """Create a package, download it, and delete it on the node."""
        made = self("POST", "/hsm/packages", {}).data
        content = self("GET", f"/hsm/packages/{made['id']}/content").data
        self("DELETE", f"/hsm/packages/{made['id']}")
        return t.cast("bytes", content)

    def apply(self, staged: dict[str, t.Any], *, expect: str | None = "staged", **headers: str | None) -> Response:
        """Apply an import. `expect` replaces the keys digest that the client expects."""
        body = {"expect_keys_digest": staged["keys_digest"] if expect == "staged" else expect}
        return self("POST", f"/hsm/imports/{staged['id']}/apply", body, **headers)


def resource_usage(control: Control) -> tuple[float, int]:
    """CPU seconds of the process and its workers, and its peak memory in bytes. Both are 0 on systems without /proc."""
    run = process.running(control.folder)
    place = Path(f"/proc/{run['pid'] if run else 0}")
    if not place.exists():
        return 0.0, 0
    times = (place / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:15]
    lines = (place / "status").read_text(encoding="utf-8").splitlines()
    memory = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK"), memory
