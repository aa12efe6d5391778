# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile documents of jobs over real TLS connections, before and after the commit of an import, a guided restore and an export.

Each of them is a coded error, and after a commit the node is read until it is true what the result says.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import json
import time
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import APPLIANCE_API, RestAppliance
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_restore import RestoreOptions, restore_hsm
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_export import ExportOptions, export_package
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import import ImportOptions, import_package
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.restore import Source

from tests.support.factories import example, node
from tests.support.operations import ANY_SKEW, NEW, OLD, FakeClock, write_package
from tests.support.raw_server import RawServer, Respond, reply, send

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

Document = dict[str, t.Any]
Edit = t.Callable[[Document], bytes]
DEEP = "[" * 100_000 + "]" * 100_000


def member(name: str, text: str) -> Edit:
    """Return the document with another value of one member. `text` is any text, also text that is not JSON."""
    return lambda document: json.dumps({**document, name: "@"}).replace('"@"', text).encode()


def twice(name: str, text: str) -> Edit:
    """Return the document with a member that occurs twice."""
    return lambda document: json.dumps(document).replace("{", f'{{"{name}": {text}, ', 1).encode()


def whole(body: bytes) -> Edit:
    return lambda dummy: body


#: Hostile documents of every job.
ANY: dict[str, Edit] = {
    "deep document": whole(DEEP.encode()),
    "deep member": member("problem", DEEP),
    "deep objects": member("problem", '{"a":' * 50_000 + "1" + "}" * 50_000),
    "deep and open": whole(b"[" * 500_000),
    "byte order mark only": whole(b"\xef\xbb\xbf"),
    "UTF-16": lambda document: json.dumps(document).encode("utf-16"),
    "UTF-7": whole(b"+AHs-"),
    "null bytes": whole(b"\0" * 50),
    "truncated": lambda document: json.dumps(document).encode()[:-3],
    "text": whole(b'"applied"'),
    "number": whole(b"1e400"),
    "true": whole(b"true"),
    "id umlaut": member("id", '"\\u00fc"'),
    "id with raw umlaut": member("id", '"\u00fc"'),
    "id surrogate": member("id", '"\\ud800"'),
    "id with a path": member("id", '"../../../api/v1/node?x="'),
    "id with line ends": member("id", '"a\\r\\nX: y"'),
    "id in full width digits": member("id", '"' + 32 * "\uff11" + '"'),
    "id long": member("id", '"' + 10_000 * "a" + '"'),
    "id number": member("id", "33333333333333333333333333333333"),
    "id list": member("id", "[]"),
    "id twice": twice("id", '"00000000000000000000000000000000"'),
    "state list": member("state", '["applied"]'),
    "state null": member("state", "null"),
    "state twice": twice("state", '"applied"'),
    "state with control characters": member("state", '"\\u001b[2Kapplied"'),
    "state with a bidi control": member("state", '"\\u202eapplied"'),
    "problem text": member("problem", '"failed"'),
    "problem without text": member("problem", '{"code": "import_failed"}'),
    "problem code with blanks": member("problem", '{"code": "A B", "title": "t", "detail": "d"}'),
    "problem surrogate": member("problem", '{"code": "failed", "title": "t", "detail": "\\udfff"}'),
}
#: Hostile documents of jobs at a PIN pad.
AT_PIN_PAD: dict[str, Edit] = {
    "seconds 1e400": member("seconds_left", "1e400"),
    "seconds -1e400": member("seconds_left", "-1e400"),
    "seconds 1e308": member("seconds_left", "1e308"),
    "seconds NaN": member("seconds_left", "NaN"),
    "seconds Infinity": member("seconds_left", "Infinity"),
    "seconds negative": member("seconds_left", "-0.001"),
    "seconds true": member("seconds_left", "true"),
    "seconds text": member("seconds_left", '"12"'),
    "seconds with 5,000 digits": member("seconds_left", "1" * 5000),
    "seconds with 5,000 decimals": member("seconds_left", "0." + "1" * 5000),
    "prompt text": member("prompt", '"Insert"'),
    "prompt list": member("prompt", "[]"),
    "prompt surrogate": member("prompt", '{"kind": "insert_card", "card": 1, "text": "\\ud83d"}'),
    "prompt long": member("prompt", '{"kind": "insert_card", "card": 1, "text": "' + 5000 * "x" + '"}'),
    "prompt card 2^63": member("prompt", '{"kind": "insert_card", "card": 9223372036854775808, "text": "x"}'),
    "PIN pad umlaut": member("pin_pad", '"\\u00fc"'),
    "notice without code": member("notice", '{"text": "x"}'),
}
IMPORTS = (
    ANY
    | AT_PIN_PAD
    | {
        "rows object": member("rows", "{}"),
        "rows of null": member("rows", "[null]"),
        "rows without members": member("rows", "[{}]"),
        "rows deep": member("rows", DEEP),
        "keys digest umlaut": member("keys_digest", '"sha256:\\u00fc"'),
    }
)
RESTORES = (
    ANY
    | AT_PIN_PAD
    | {
        "sequence 0": member("sequence", "0"),
        "sequence -1": member("sequence", "-1"),
        "sequence with 5,000 digits": member("sequence", "9" * 5000),
        "sequence 1e3": member("sequence", "1e3"),
        "cards text": member("cards_accepted", '"2"'),
        "source umlaut": member("source", '"\\u00fc"'),
    }
)
PACKAGES = ANY | {
    "size 2^63": member("size", "9223372036854775808"),
    "size with 5,000 digits": member("size", "9" * 5000),
    "size negative": member("size", "-1"),
    "size NaN": member("size", "NaN"),
    "size true": member("size", "true"),
    "sha256 umlaut": member("sha256", '"sha256:\\u00fc"'),
    "source text": member("source", '"node1"'),
    "MBK list": member("mbk", "[]"),
}


def table(edits: dict[str, Edit]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("edit", edits.values(), ids=edits)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def operational(*hsm_keys: HsmKey, name: str = "node2", **changes: t.Any) -> Document:
    document = example("NodeOperational")
    facts = {"keys_digest": keys_digest(hsm_keys), "key_count": len(hsm_keys), "clock": now(), "name": name}
    serial = "UT000001" if name == "node1" else "UT000002"
    return {**document, **facts, "hsm": {**document["hsm"], "serial": serial}, **changes}


class Hostile:
    """A node whose documents of one kind of job are hostile for some responses after `begins`. It acts on every request."""

    def __init__(self, edit: Edit, *, responses: int, begins: str) -> None:
        self._edit, self._left, self._begins = edit, responses, begins
        self._hostile = False
        self.state = "new"

    def __call__(self, method: str, path: str) -> Respond:
        self._hostile = self._hostile or f"{method} {path}".startswith(self._begins)
        self.act(method, path)
        document = self.document(method, path)
        status = 201 if method == "POST" and not path.endswith("/apply") else 200
        if isinstance(document, bytes):
            return send(reply(document, media_type="application/octet-stream"))
        if self._hostile and self._left and "state" in document:
            self._left -= 1
            return send(reply(self._edit(document), status))
        return send(reply(document, status))

    def act(self, method: str, path: str) -> None:
        """Change the state of the node."""

    def document(self, method: str, path: str) -> t.Any:
        """Return the honest document."""


class HostileImport(Hostile):
    """A node that stages a package, or applies the package at once."""

    def __init__(self, edit: Edit, *, responses: int, begins: str, at_once: bool = False) -> None:
        super().__init__(edit, responses=responses, begins=begins)
        self._at_once = at_once

    @property
    def _keys(self) -> tuple[HsmKey, ...]:
        return (OLD, NEW) if self.state == "applied" else (OLD,)

    def act(self, method: str, path: str) -> None:
        if method == "POST":
            self.state = "applied" if self._at_once or path.endswith("/apply") else "staged"
        elif method == "DELETE" and self.state == "staged":
            self.state = "discarded"

    def document(self, method: str, path: str) -> t.Any:
        if path == "/api/v1/node":
            capabilities = ["key_list"] if self._at_once else ["key_list", "staged_import"]
            return operational(*self._keys, capabilities=capabilities)
        if path.startswith("/api/v1/hsm/keys"):
            rows = [dc.asdict(hsm_key) for hsm_key in self._keys]
            return {"hsm_keys": rows, "next_cursor": None, "keys_digest": keys_digest(self._keys)}
        rows = [
            {**dc.asdict(hsm_key), "action": action, "current_fingerprint": current}
            for hsm_key, action, current in ((OLD, "unchanged", OLD.fingerprint), (NEW, "add", None))
        ]
        found = {**example("ImportStaged"), "state": self.state, "keys_digest": keys_digest(self._keys), "rows": rows}
        if "idempotency_key=" in path:
            return {"imports": [{**found, "idempotency_key": path.partition("idempotency_key=")[2]}]}
        return found


@contextlib.contextmanager
def client(server: RawServer) -> Iterator[RestAppliance]:
    made = JsonClient(server.endpoint(10.0), APPLIANCE_API, retries=0, sleep=lambda dummy: None)
    with contextlib.closing(made):
        yield RestAppliance(made, FakeClock().patience(2.0))


def import_from(route: HostileImport, folder: Path) -> tuple[dict[str, t.Any], list[str]]:
    """Import into the node. Return the result and the methods of its requests."""
    policy = Policy(False, frozenset(), frozenset(), None, frozenset())
    known = compare([OLD, NEW], [OLD]).to_dict()
    package = str(write_package(folder))
    options = ImportOptions("node2", package, None, None, policy, FakeClock().patience(), ANY_SKEW, known)
    with RawServer(route) as server, client(server) as appliance:
        result = import_package(appliance, options, dry_run=False, progress=lambda dummy: None)
        return result, [method for method, dummy in server.requests]


@table(IMPORTS)
def test_hostile_import_after_the_commit_is_verified(tmp_path: Path, edit: Edit) -> None:
    """Every document of the import is hostile from the commit on. The keys of the node are true."""
    apply = f"POST /api/v1/hsm/imports/{example('ImportStaged')['id']}/apply"
    result, methods = import_from(HostileImport(edit, responses=100, begins=apply), tmp_path)
    assert (result["changed"], result["verified"]) == (True, True)
    assert methods.count("POST") == 2


@table(IMPORTS)
def test_hostile_import_where_the_upload_is_the_commit(tmp_path: Path, edit: Edit) -> None:
    route = HostileImport(edit, responses=100, begins="POST /api/v1/hsm/imports", at_once=True)
    result, methods = import_from(route, tmp_path)
    assert (result["changed"], result["verified"]) == (True, True)
    assert methods.count("POST") == 1


@table(IMPORTS)
def test_hostile_import_before_the_commit_changes_nothing(tmp_path: Path, edit: Edit) -> None:
    """The import is found again and applied, or the run fails with a code and changes nothing."""
    route = HostileImport(edit, responses=1, begins="POST /api/v1/hsm/imports")
    failure: UtrustError | None = None
    try:
        assert import_from(route, tmp_path)[0]["verified"] is True
    except UtrustError as exc:
        failure = exc
    if failure is None:
        assert route.state == "applied"
        return
    assert failure.code in ("response_invalid", "response_lost", "import_not_applied")
    assert str(failure).isprintable()
    assert "Nothing was changed" in str(failure)
    assert route.state == "discarded", "nothing stays on the node"


# Guided restore


class HostileRestore(Hostile):
    """A node that restores its HSM after some readings of the restore."""

    readings = 0

    def act(self, method: str, path: str) -> None:
        if method == "POST":
            self.state = "restoring"
        elif self.state == "restoring" and "/restores/" in path:
            self.readings += 1
            if self.readings > 3:
                self.state = "succeeded"

    def document(self, method: str, path: str) -> t.Any:
        restore = example("RestoreSucceeded" if self.state == "succeeded" else "RestoreWaiting")
        if path == "/api/v1/node":
            if self.state == "succeeded":
                return operational(OLD, NEW)
            running = {"kind": "restore", "id": restore["id"]} if self.state == "restoring" else None
            return {**example("NodeFactoryReset"), "clock": now(), "running": running}
        if path.endswith("/pin-pads"):
            return example("PinPadList")
        if "restore-preview" in path:
            source = {"node": "node1", "key_count": 2, "keys_digest": keys_digest([OLD, NEW])}
            return {**example("RestorePreview"), "source": source}
        return {"restores": [restore]} if "state=running" in path or "idempotency_key=" in path else restore


def restore_from(route: HostileRestore) -> dict[str, t.Any]:
    options = RestoreOptions(
        "node2",
        Source.from_dict(node(OLD, NEW).to_dict()),
        "front-usb",
        None,
        20.0,
        FakeClock().patience(600.0),
        ANY_SKEW,
    )
    with RawServer(route) as server, client(server) as appliance:
        return restore_hsm(appliance, options, dry_run=False, progress=lambda dummy: None)


@table(RESTORES)
def test_hostile_restore_is_watched_to_its_end(edit: Edit) -> None:
    """The response to the start and the first readings are hostile. The restore was started, so it is found and watched."""
    result = restore_from(HostileRestore(edit, responses=3, begins="POST /api/v1/hsm/restores"))
    assert (result["changed"], result["in_sync"]) == (True, True)


@table(RESTORES)
def test_hostile_restore_for_ever_reads_the_node(edit: Edit) -> None:
    """Nobody can watch the restore any more. The node shows that its HSM was restored."""
    route = HostileRestore(edit, responses=100_000, begins="GET /api/v1/hsm/restores/")
    with pytest.raises(UtrustError, match="The HSM changed: it is operational with MBK KEYOPS") as caught:
        restore_from(route)
    assert caught.value.code in ("response_invalid", "response_not_json")
    assert str(caught.value).isprintable()


# Export


class HostileExport(Hostile):
    def act(self, method: str, path: str) -> None:
        if method == "DELETE":
            self.state = "deleted"

    def document(self, method: str, path: str) -> t.Any:
        if path == "/api/v1/node":
            return operational(OLD, NEW, name="node1")
        if path.startswith("/api/v1/hsm/keys"):
            rows = [dc.asdict(hsm_key) for hsm_key in (OLD, NEW)]
            return {"hsm_keys": rows, "next_cursor": None, "keys_digest": keys_digest([OLD, NEW])}
        if path.endswith("/content"):
            return b"package"
        package = {**example("PackagePreparing"), "id": example("Package")["id"]}
        if "idempotency_key=" in path:
            return {"packages": [{**package, "idempotency_key": path.partition("idempotency_key=")[2]}]}
        return package


@table(PACKAGES)
@pytest.mark.parametrize("begins", ["POST /api/v1/hsm/packages", "GET /api/v1/hsm/packages/"])
def test_hostile_package_is_never_written(tmp_path: Path, edit: Edit, begins: str) -> None:
    tmp_path.chmod(0o700)
    route = HostileExport(edit, responses=100_000, begins=begins)
    patience = FakeClock().patience()
    options = ExportOptions(
        "node1",
        str(tmp_path / "cluster.ksp"),
        force=False,
        open_private=None,
        ttl=60,
        max_clock_skew=ANY_SKEW,
        patience=patience,
    )
    with RawServer(route) as server, client(server) as appliance, pytest.raises(UtrustError) as caught:
        export_package(appliance, options, dry_run=False, progress=lambda dummy: None)
    assert caught.value.code in ("response_invalid", "response_not_json", "response_lost", "outcome_unknown")
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []
    if begins.startswith("GET"):
        assert route.state == "deleted", "the copy on the node is deleted"
