# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile responses over real TLS connections: each of them ends soon, with a coded error, also after the commit.

The deadlines are short and the bounds generous, so that the tests do not depend on the speed of the machine.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import io
import json
import time
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _json
from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.jobs import parse_package
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import APPLIANCE_API, RestAppliance
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpsConnection
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import NoResponseError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import import ImportOptions, import_package
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import make_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.factories import example, fingerprint, key, node
from tests.support.raw_server import RawServer, Respond, reply, reset, send, send_for_ever

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

#: Seconds. The deadline of an exchange, and the time within which the client must have given up.
TIMEOUT = 1.5
BOUND = 20.0
JSON = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n"
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n\r\n"
NODE = json.dumps(example("NodeOperational")).encode()
#: The length and the chunks of a valid document: a client that accepted an ambiguous length would accept the document.
LENGTH = b"Content-Length: %d\r\n" % len(NODE)
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(NODE), NODE)
INVALID, LARGE, NOT_JSON, NONE = "response_invalid", "response_too_large", "response_not_json", "node_unreachable"


def chunked(*parts: bytes) -> bytes:
    return CHUNKED + b"".join(parts)


def plain(body: bytes) -> Respond:
    return send(reply(body))


#: Name, response, and the code of the error of a GET.
HOSTILE: list[tuple[str, Respond, str]] = [
    # A response that never ends: the deadline is for the whole response, not for each byte.
    ("dripping status line", send_for_ever(b"HTTP/1.1 200 ", b"X", pause=0.05), NONE),
    ("dripping headers", send_for_ever(JSON + b"X-Header: ", b"x", pause=0.05), NONE),
    ("dripping body", send_for_ever(JSON + b"Content-Length: 100000\r\n\r\n", b" ", pause=0.05), NONE),
    ("dripping chunks", send_for_ever(CHUNKED, b"1\r\n \r\n", pause=0.05), NONE),
    ("dripping chunk size", send_for_ever(CHUNKED, b"0", pause=0.05), NONE),
    ("dripping trailers", send_for_ever(CHUNKED + b"0\r\n", b"A: b\r\n", pause=0.05), NONE),
    ("dripping 100", send_for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.05), NONE),
    ("silent", lambda dummy: time.sleep(3 * TIMEOUT), NONE),
    # A response without an end that arrives quickly: the bytes are limited.
    ("endless status line", send_for_ever(b"HTTP/1.1 200 ", b"X" * 1000), LARGE),
    ("too many headers", send(JSON + b"X: x\r\n" * 200 + b"\r\n{}"), NONE),
    ("endless header", send_for_ever(JSON + b"X: ", b"x" * 1000), LARGE),
    ("endless 100", send_for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), LARGE),
    ("endless body", send_for_ever(JSON + b"\r\n", b" " * 65536), LARGE),
    ("endless chunks", send_for_ever(CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"), LARGE),
    ("endless small chunks", send_for_ever(CHUNKED, b"1\r\n \r\n" * 1000), LARGE),
    ("endless chunk size", send_for_ever(CHUNKED, b"0" * 1000), LARGE),
    ("endless trailers", send_for_ever(CHUNKED + b"2\r\n{}\r\n0\r\n", b"A: b\r\n" * 1000), LARGE),
    ("large Content-Length", send(JSON + b"Content-Length: 999999999999\r\n\r\n{}"), LARGE),
    # Ambiguous lengths.
    ("two Content-Length", send(JSON + LENGTH * 2 + b"\r\n" + NODE), INVALID),
    ("list of Content-Length", send(JSON + b"Content-Length: 2, 2\r\n\r\n{}"), INVALID),
    ("negative Content-Length", send(JSON + b"Content-Length: -2\r\n\r\n{}"), INVALID),
    ("Content-Length in words", send(JSON + b"Content-Length: two\r\n\r\n{}"), INVALID),
    ("Content-Length with sign", send(JSON + b"Content-Length: +2\r\n\r\n{}"), INVALID),
    ("both lengths", send(JSON + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS), INVALID),
    ("two codings", send(JSON + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + CHUNKS), INVALID),
    ("compressed", send(reply(NODE, 200, "Content-Encoding: gzip")), INVALID),
    ("header without colon", send(JSON + b"nonsense\r\nContent-Length: 2\r\n\r\n{}"), INVALID),
    ("negative chunk", send(chunked(b"-2\r\n{}\r\n0\r\n\r\n")), INVALID),
    ("chunk size with underscore", send(chunked(b"0_2\r\n{}\r\n0\r\n\r\n")), INVALID),
    ("chunk size in words", send(chunked(b"two\r\n{}\r\n0\r\n\r\n")), INVALID),
    ("chunk longer than its size", send(chunked(b"1\r\n{}\r\n0\r\n\r\n")), INVALID),
    ("switching protocols", send(b"HTTP/1.1 101 X\r\n\r\n"), INVALID),
    ("early hints", send(b"HTTP/1.1 103 X\r\n\r\n" + reply(NODE)), INVALID),
    # A response that ends too early.
    ("reset at once", reset(), NONE),
    ("reset in the headers", reset(JSON), NONE),
    ("reset in the body", reset(JSON + b"Content-Length: 100\r\n\r\n{"), NONE),
    ("closed at once", send(b""), NONE),
    ("closed in the body", send(JSON + b"Content-Length: 100\r\n\r\n{}"), NONE),
    ("closed in a chunk", send(chunked(b"10\r\n{}")), NONE),
    ("closed before the last chunk", send(chunked(b"2\r\n{}\r\n")), NONE),
    ("not HTTP", send(b"220 smtp ready\r\n"), NONE),
    ("status in words", send(b"HTTP/1.1 okay X\r\n\r\n"), NONE),
    # JSON that has no meaning, or more than one.
    ("deep arrays", plain(b"[" * 100_000 + b"]" * 100_000), NOT_JSON),
    ("deep objects", plain(b'{"a":' * 40_000 + b"1" + b"}" * 40_000), NOT_JSON),
    ("deeper than allowed", plain(b'{"a":' * 17 + b"1" + b"}" * 17), NOT_JSON),
    ("infinite number", plain(NODE.replace(b'"key_count": 2', b'"key_count": 1e400')), NOT_JSON),
    ("NaN", plain(NODE.replace(b'"key_count": 2', b'"key_count": NaN')), NOT_JSON),
    ("Infinity", plain(NODE.replace(b'"key_count": 2', b'"key_count": -Infinity')), NOT_JSON),
    ("many digits", plain(NODE.replace(b'"key_count": 2', b'"key_count": ' + b"9" * 5000)), NOT_JSON),
    ("large number", plain(NODE.replace(b'"key_count": 2', b'"key_count": ' + b"9" * 30)), INVALID),
    ("fraction", plain(NODE.replace(b'"key_count": 2', b'"key_count": 2.5')), INVALID),
    ("duplicate member", plain(NODE.replace(b'"key_count": 2', b'"key_count": 2, "key_count": 3')), NOT_JSON),
    ("half a surrogate pair", plain(NODE.replace(b'"node1"', b'"\\udc00"')), NOT_JSON),
    ("not UTF-8", plain(NODE.replace(b'"node1"', b'"\xff\xfe"')), NOT_JSON),
    ("UTF-16", plain(NODE.decode().encode("utf-16")), NOT_JSON),
    ("byte order mark", plain(b"\xef\xbb\xbf" + NODE), NOT_JSON),
    ("two documents", plain(NODE + NODE), NOT_JSON),
    ("empty", plain(b""), NOT_JSON),
    ("HTML", send(reply(b"<html>", media_type="text/html")), NOT_JSON),
    ("media type with control characters", send(reply(NODE, media_type="\x1b[2K/\x07")), NOT_JSON),
    ("array", plain(b"[]"), INVALID),
    ("null", plain(b"null"), INVALID),
    ("name with control characters", plain(NODE.replace(b'"node1"', b'"\\u001b[2K\\r"')), INVALID),
    # Rejections.
    ("rejection without a problem", send(reply(b"<html>", 500, media_type="text/html")), "response_not_problem_json"),
    ("deep problem", send(reply(b"[" * 100_000, 500)), "response_not_problem_json"),
    ("endless problem", send_for_ever(b"HTTP/1.1 500 X\r\n\r\n", b" " * 65536), LARGE),
    ("redirect", send(reply(b"{}", 302, "Location: https://127.0.0.1/")), "response_not_problem_json"),
]
#: One response of each kind that the deadline ends. The others would only repeat the wait.
SOON = [case for case in HOSTILE if not case[0].startswith("dripping") or case[0] == "dripping body"]


def table(cases: list[tuple[str, Respond, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("respond", "code"), [case[1:] for case in cases], ids=[case[0] for case in cases])


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless responses reach the limit long before the deadline."""
    monkeypatch.setattr(limits, "MAX_JSON_BYTES", 300_000)
    monkeypatch.setattr(limits, "MAX_PROBLEM_BYTES", 300_000)


@contextlib.contextmanager
def client(server: RawServer) -> Iterator[RestAppliance]:
    """Open the server. No request is repeated, and a lost response is looked up once."""
    made = JsonClient(server.endpoint(TIMEOUT), APPLIANCE_API, retries=0, sleep=lambda dummy: None)
    with contextlib.closing(made):
        yield RestAppliance(made, WaitOptions(0.0))


def test_many_tiny_values_are_rejected() -> None:
    """64 MiB of them need 2 GiB of memory as objects."""
    with pytest.raises(ValueError, match="commas"):
        _json.decode(b"[" + b"[]," * (limits.MAX_JSON_COMMAS + 1))
    assert len(_json.decode(b"[" + b"1," * 1000 + b"1]")) == 1001


@table(HOSTILE)
def test_hostile_response_to_a_reading_is_a_coded_error(respond: Respond, code: str) -> None:
    started = time.monotonic()
    with (
        RawServer(lambda method, path: respond) as server,
        client(server) as appliance,
        pytest.raises(UtrustError) as caught,
    ):
        appliance.node()
    assert caught.value.code == code
    assert time.monotonic() - started < BOUND
    assert str(caught.value).isprintable()
    assert len(server.requests) == 1


@table(SOON)
def test_hostile_response_to_a_change_is_a_lost_response(respond: Respond, code: str) -> None:
    """The node may have acted, so the object is looked up, and the outcome is never reported as a rejection."""

    def route(method: str, path: str) -> Respond:
        if method == "POST":
            return respond
        return send(reply({"packages": []} if "?" in path else example("Package")))

    with RawServer(route) as server, client(server) as appliance, pytest.raises(ResponseLostError) as caught:
        appliance.create_package("sha256:00")
    assert caught.value.code == "response_lost"
    assert "nothing was changed" not in str(caught.value).lower()
    assert [method for method, dummy in server.requests] == ["POST", "GET"]


# After the commit

OLD, NEW = key("old"), key("new")


def document_of(*hsm_keys: HsmKey) -> dict[str, t.Any]:
    """Return the document of node2 with these keys."""
    document = example("NodeOperational")
    clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    facts = {"keys_digest": keys_digest(hsm_keys), "key_count": len(hsm_keys), "clock": clock}
    hsm = {**document["hsm"], "serial": "UT000002"}
    members = [member for member in document["cluster"]["members"] if member["node"] == "node2"]
    cluster = {**document["cluster"], "members": members}
    return {**document, "name": "node2", "hsm": hsm, "cluster": cluster, **facts}


def row_of(hsm_key: HsmKey, **more: t.Any) -> dict[str, t.Any]:
    return {name: value for name, value in dc.asdict(hsm_key).items() if name != "usable"} | more


class HostileNode:
    """A node that applies the package, or not, and sends the hostile respond to the request. `reads` are hostile answers to the readings after it."""

    def __init__(self, respond: Respond, *, applies: bool, reads: t.Sequence[Respond] = ()) -> None:
        self._respond, self._applies = respond, applies
        self._reads = list(reads)
        self._keys: tuple[HsmKey, ...] = (OLD,)
        self._state = "staged"
        self._sent = False

    def __call__(self, method: str, path: str) -> Respond:
        if path.endswith("/apply"):
            self._sent = True
            if self._applies:
                self._keys, self._state = (OLD, NEW), "applied"
            return self._respond
        if self._sent and self._reads:
            return self._reads.pop(0)
        if method == "DELETE":
            if self._state == "staged":
                self._state = "discarded"
            return send(reply(self._document(path)))
        return send(reply(self._document(path), 201 if method == "POST" else 200))

    def _document(self, path: str) -> t.Any:
        if path == "/api/v1/node":
            return document_of(*self._keys)
        if path.startswith("/api/v1/hsm/keys"):
            rows = [row_of(hsm_key, usable=True) for hsm_key in self._keys]
            return {"hsm_keys": rows, "next_cursor": None, "keys_digest": keys_digest(self._keys)}
        rows = [row_of(OLD, action="unchanged", current_fingerprint=OLD.fingerprint)]
        rows += [row_of(NEW, action="add", current_fingerprint=None)]
        return {**example("ImportStaged"), "state": self._state, "keys_digest": keys_digest(self._keys), "rows": rows}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package of OLD and NEW with its manifest."""
    path = tmp_path / "cluster.ksp"
    path.write_bytes(b"package")
    store.write_manifest(path, make_manifest(node(OLD, NEW), (OLD, NEW), sha256=fingerprint("package"), size=7))
    return path


def import_into(server: RawServer, package: Path) -> dict[str, t.Any]:
    policy = Policy(False, frozenset(), frozenset(), None, frozenset())
    known = compare([OLD, NEW], [OLD]).to_dict()
    options = ImportOptions("node2", str(package), None, None, policy, WaitOptions(4.0, 0.1), 86400.0, known)
    with client(server) as appliance:
        return import_package(appliance, options, dry_run=False, progress=lambda dummy: None)


@table(SOON)
def test_hostile_response_after_the_commit_reads_the_node(package: Path, respond: Respond, code: str) -> None:
    """The node applied the package, so the run succeeds whatever the response was."""
    with RawServer(HostileNode(respond, applies=True)) as server:
        result = import_into(server, package)
    assert (result["changed"], result["verified"]) == (True, True)
    assert [method for method, path in server.requests].count("POST") == 2, "no request is sent again"


@table(SOON)
def test_hostile_response_without_a_commit_discards(package: Path, respond: Respond, code: str) -> None:
    """The node discards the import, so the statement that nothing was changed is true."""
    with RawServer(HostileNode(respond, applies=False)) as server, pytest.raises(ResponseLostError) as caught:
        import_into(server, package)
    assert caught.value.code == "response_lost"
    assert "holds the same keys as before, so nothing was changed" in str(caught.value)


AFTER_COMMIT = [case for case in HOSTILE if case[2] in (INVALID, LARGE, NOT_JSON)]


@pytest.mark.parametrize("respond", [case[1] for case in AFTER_COMMIT], ids=[case[0] for case in AFTER_COMMIT])
def test_hostile_readings_after_the_commit_are_repeated(package: Path, respond: Respond) -> None:
    """The readings after a lost response are hostile, too. The truth is read as soon as the node sends it."""
    with RawServer(HostileNode(respond, applies=True, reads=[respond] * 3)) as server:
        assert import_into(server, package)["verified"] is True


def test_hostile_node_after_the_commit_is_unknown(package: Path) -> None:
    """Nobody can read the node any more, so the outcome is unknown."""
    respond = plain(b"[" * 100_000)
    with (
        RawServer(HostileNode(respond, applies=True, reads=[respond] * 10_000)) as server,
        pytest.raises(UtrustError) as caught,
    ):
        import_into(server, package)
    assert caught.value.code == "outcome_unknown"
    assert "may have changed" in str(caught.value)


# Downloads

PACKAGE = parse_package({**example("Package"), "size": 7, "sha256": fingerprint("package")})
CONTENT = b"HTTP/1.1 200 X\r\nContent-Type: application/octet-stream\r\n"
DOWNLOADS: list[tuple[str, Respond, type[UtrustError]]] = [
    ("larger Content-Length", send(CONTENT + b"Content-Length: 8\r\n\r\npackage!"), ApiError),
    ("smaller Content-Length", send(CONTENT + b"Content-Length: 6\r\n\r\npackag"), ApiError),
    ("endless body", send_for_ever(CONTENT + b"\r\n", b"x" * 65536), ApiError),
    ("endless chunks", send_for_ever(CONTENT + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), ApiError),
    ("silent body", lambda dummy: time.sleep(3 * TIMEOUT), UnreachableError),
    ("other bytes", send(CONTENT + b"Content-Length: 7\r\n\r\nPackage"), ApiError),
]


@pytest.mark.parametrize(("respond", "kind"), [case[1:] for case in DOWNLOADS], ids=[case[0] for case in DOWNLOADS])
def test_download_stops_at_the_announced_size(respond: Respond, kind: type[UtrustError]) -> None:
    output = io.BytesIO()
    started = time.monotonic()
    with RawServer(lambda method, path: respond) as server, client(server) as appliance, pytest.raises(kind):
        appliance.download_package(PACKAGE, output)
    assert len(output.getvalue()) <= (PACKAGE.size or 0)
    assert time.monotonic() - started < BOUND


def test_upload_that_the_server_does_not_read_ends() -> None:
    """The deadline is for sending, too. The package is larger than the buffers of the connection, and the rate is small."""
    content = bytes(32 * 1024 * 1024)
    with RawServer(lambda method, path: send(b""), reads_bodies=False) as server:
        connection = HttpsConnection(server.endpoint(TIMEOUT))
        started = time.monotonic()
        with contextlib.closing(connection), pytest.raises(NoResponseError, match="no complete response within"):
            connection.request("POST", "/", headers={}, body=content, limit=1)
        assert time.monotonic() - started < BOUND


def test_transfer_gets_more_time_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large package needs more time than the time-out of a request. Here, 7 bytes get 7 seconds more."""
    monkeypatch.setattr(limits, "MIN_TRANSFER_RATE", 1)

    def slow(connection: t.Any) -> None:
        connection.sendall(CONTENT + b"Content-Length: 7\r\n\r\n")
        time.sleep(TIMEOUT + 0.5)
        connection.sendall(b"package")

    output = io.BytesIO()
    with RawServer(lambda method, path: slow) as server, client(server) as appliance:
        appliance.download_package(PACKAGE, output)
    assert output.getvalue() == b"package"
