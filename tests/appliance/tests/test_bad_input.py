# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Invalid input: the node returns a problem document, stores nothing and continues to work."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import random
import secrets
import struct
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from utrust_appliance.cards import CardStore
from utrust_appliance.cli import main
from utrust_appliance.errors import CODES, OperationError
from utrust_appliance.package import FORMAT, MAGIC, PackageFile, write_package
from utrust_appliance.provision import mbk_of_cards
from utrust_appliance.testing import Api, Response, cluster

from tests.support.webconf_client import WebconfClient

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control
    from utrust_appliance.mbk import Mbk

LIMIT = 20_000
IMPORTS = "/hsm/imports"
BOUNDED = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
#: Malicious texts for paths, commands and pages.
TRICKS = [
    "../../../../escaped",
    "/tmp/escaped",
    "..",
    ".",
    "a/../../escaped",
    "..\\..\\escaped",
    "%2e%2e%2fescaped",
    "nul\0escaped",
    "line\nescaped",
    "$(touch escaped)",
    "<script>escaped</script>",
    "'; DROP TABLE hsm_keys; --",
    "\u202egnp.escaped",
    "k" * 100,
]


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=3, key_mix={"ec-p256": 1}, max_upload=LIMIT) as running:
        yield running


def kept(control: Control) -> dict[str, t.Any]:
    """All data that an upload could change: keys, unfinished imports, and all files in and around the cluster folder."""
    folder = control.folder.parent
    files = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    imports = Api(control, "node2")("GET", IMPORTS).data["imports"]
    return {
        "nodes": control.status()["nodes"],
        "keys": control.keys("node2"),
        "imports": [data["id"] for data in imports if data["state"] == "staged"],
        "files": sorted(
            name for name in files if not name.endswith(("-wal", "-shm", "requests.jsonl", "destroyed.json"))
        ),
    }


@pytest.fixture(autouse=True)
def _unharmed(control: Control) -> Iterator[None]:
    log = control.folder / "log"
    before, logged = kept(control), log.stat().st_size
    yield
    assert kept(control) == before
    assert "Traceback" not in log.read_text(encoding="utf-8")[logged:]


@pytest.fixture
def target(control: Control) -> Api:
    return Api(control, "node2")


@pytest.fixture(scope="module")
def package(control: Control) -> bytes:
    """A package with a key that node2 does not have."""
    control.generate_key("node1", "newKey")
    content = Api(control, "node1").package()
    control.delete_key("node1", "newKey")
    return content


@pytest.fixture(scope="module")
def mbk(control: Control) -> Mbk:
    """The MBK, combined from the PIN letters."""
    with contextlib.closing(CardStore(control.folder / "cards")) as cards:
        return mbk_of_cards(cards, control.folder / "cards", "KEYOPS")


def assert_rejected(response: Response, *codes: str) -> None:
    assert 400 <= response.status < 500, response
    assert response.headers["Content-Type"].startswith("application/problem+json")
    problem = response.data
    assert problem["code"] in codes or not codes, problem
    assert (problem["status"], problem["title"]) == CODES[problem["code"]]
    assert 0 < len(problem["detail"]) < 1000


def discard(target: Api, response: Response) -> None:
    ended = target("DELETE", f"{IMPORTS}/{response.data['id']}")
    assert (ended.status, ended.data["state"]) == (200, "discarded")


NO_PACKAGE = ("package_truncated", "package_corrupt")


# Invalid uploads


@BOUNDED
@given(content=st.binary(max_size=400) | st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(), st.integers(0, LIMIT)))  # fmt: skip
@example(content=b"")
@example(content=bytes(LIMIT))
@example(content=MAGIC)
@example(content=MAGIC + struct.pack(">HI", FORMAT, 0xFFFFFFFF) + bytes(200))
def test_upload_random_bytes_rejected(target: Api, content: bytes) -> None:
    """The node rejects random bytes as a package."""
    assert_rejected(target("POST", IMPORTS, content), *NO_PACKAGE)


@BOUNDED
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=40)),
        min_size=1,
        max_size=4,
    )
)
def test_upload_edited_package_rejected(target: Api, package: bytes, edits: t.Any) -> None:
    """The node rejects a package with any modification."""
    content = package
    for place, taken, put in edits:
        start = int(place * len(content))
        content = content[:start] + put + content[start + taken :]
    response = target("POST", IMPORTS, content)
    if content == package:
        discard(target, response)
    else:
        assert_rejected(response, *NO_PACKAGE, "mbk_mismatch")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(TRICKS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def with_header(package: bytes, header: bytes) -> bytes:
    start = len(MAGIC) + 6
    (old,) = struct.unpack(">I", package[len(MAGIC) + 2 : start])
    return MAGIC + struct.pack(">HI", FORMAT, len(header)) + header + package[start + old :]


def header_of(package: bytes) -> dict[str, t.Any]:
    start = len(MAGIC) + 6
    (length,) = struct.unpack(">I", package[len(MAGIC) + 2 : start])
    return t.cast("dict[str, t.Any]", json.loads(package[start : start + length]))


@BOUNDED
@given(data=st.data())
def test_upload_random_header_rejected(target: Api, package: bytes, data: st.DataObject) -> None:
    """The node rejects packages with random headers."""
    header = header_of(package)
    place: t.Any = header
    while isinstance(place, dict | list) and place:
        name = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[name], dict | list) or not place[name] or data.draw(st.booleans()):
            break
        place = place[name]
    old, place[name] = place[name], data.draw(anything)
    response = target("POST", IMPORTS, with_header(package, json.dumps(header).encode()))
    if json.dumps(place[name]) == json.dumps(old):
        response = target("POST", IMPORTS, with_header(package, json.dumps(header).encode() + b" "))
    assert_rejected(response, *NO_PACKAGE, "mbk_mismatch")


@pytest.mark.parametrize(
    "header",
    [b"[" * 15_000, b'{"a":' * 3000, b"9" * 5000, b"\xff\xfe", b'"' + b"x" * 10_000 + b'"', b"null", b"NaN"],
    ids=["deep list", "deep object", "long number", "no text", "long text", "null", "not a number"],
)
def test_upload_malicious_header_rejected(target: Api, package: bytes, header: bytes) -> None:
    """The node rejects packages with malicious headers."""
    assert_rejected(target("POST", IMPORTS, with_header(package, header)), "package_corrupt")


def test_upload_long_name_not_in_response(target: Api, package: bytes) -> None:
    """The response does not repeat a long name of a header."""
    header = header_of(package)
    header["mbk"] = {"name": "m" * 10_000, "check_value": "c" * 5000}
    assert_rejected(target("POST", IMPORTS, with_header(package, json.dumps(header).encode())), "package_corrupt")


# Authentic packages with malicious labels


def relabeled(package: bytes, mbk: Mbk, tmp_path: Path, label: t.Any) -> bytes:
    """Create the package again with the MBK and another label of newKey, or other labels of all keys if the order requires it."""
    path, other = tmp_path / "original", tmp_path / "relabeled"
    path.write_bytes(package)
    original = PackageFile(path)
    keys = [
        replace(key, identity=replace(key.identity, label=label))
        if key.identity.label == "newKey" or not isinstance(label, str)
        else key
        for key in original.wrapped_keys()
    ]
    write_package(other, replace(original.header, keys=[key.identity for key in keys]), keys, mbk.mac)
    return other.read_bytes()


@pytest.mark.parametrize("label", [*TRICKS, "", "\U0001f511" * 128], ids=ascii)
def test_label_malicious_text_is_data(
    control: Control, target: Api, package: bytes, mbk: Mbk, tmp_path: Path, label: str
) -> None:
    """A malicious label of an authentic package is only data."""
    staged = target("POST", IMPORTS, relabeled(package, mbk, tmp_path, label))
    assert staged.status == 201, staged.data
    assert label in {row["label"] for row in staged.data["rows"]}
    assert target.apply(staged.data).status == 200
    assert label in {key["label"] for key in target("GET", "/hsm/keys").data["hsm_keys"]}
    assert control.sign("node2", label, b"message")
    control.delete_key("node2", label)


@pytest.mark.parametrize(
    "label", [7, None, ["label"], {"a": 1}, "\ud800", "k" * 5000], ids=lambda label: ascii(label)[:20]
)
def test_label_invalid_rejected(target: Api, package: bytes, mbk: Mbk, tmp_path: Path, label: t.Any) -> None:
    """The node rejects invalid labels, also in authentic packages."""
    assert_rejected(target("POST", IMPORTS, relabeled(package, mbk, tmp_path, label)), "package_corrupt")


# Webconf forms


@BOUNDED
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 40), st.binary(max_size=40)), min_size=1, max_size=4
    )
)
@example(edits=[(0.5, 0, b"\0")])
@example(
    edits=[(0, 1000, b'--x\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n' + b"c" * 40 + b"\r\n--x--")]
)
@example(edits=[(0, 0, b"--x\r\n" + b"A: b\r\n" * 300)])
@example(edits=[(0, 0, b"--x\r\nA: " + b"b" * 15_000 + b"\r\n")])
def test_webconf_edited_form_rejected_with_page(control: Control, edits: t.Any) -> None:
    """Webconf rejects an edited upload form with an error page."""
    pages = WebconfClient(control, "node2", client="operator")
    fields = {"csrf": pages.csrf(), "once": secrets.token_hex(16), "pin_pad": "front-usb"}
    parts = [f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    parts.append('--x\r\nContent-Disposition: form-data; name="package"; filename="a.ksp"\r\n\r\n')
    content = "".join(parts).encode() + b"no package\r\n--x--\r\n"
    for place, taken, put in edits:
        start = int(place * len(content))
        content = content[:start] + put + content[start + taken :]
    for path in ("/security/import", "/security/restore-package"):
        response = pages("POST", path, content, content_type="multipart/form-data; boundary=x")
        assert 400 <= response.status < 500, response
        assert response.code in CODES


# Size and media type


@pytest.mark.parametrize("size", [LIMIT + 1, 4 * LIMIT])
def test_upload_announced_too_large_rejected_unread(target: Api, size: int) -> None:
    """The node rejects a too large upload before it reads the body."""
    response = target("POST", IMPORTS, bytes(size))
    assert_rejected(response, "payload_too_large")
    assert str(LIMIT) in response.data["detail"]


def open_connection(control: Control) -> tuple[http.client.HTTPSConnection, dict[str, str]]:
    api = Api(control, "node2")
    connection = http.client.HTTPSConnection(api._address, api._port, timeout=20, context=api._tls)
    digest = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    headers = {"Content-Type": "application/octet-stream", "Content-Digest": f"sha-256=:{digest}:"}
    return connection, {**headers, "Idempotency-Key": secrets.token_hex(16)}


def test_upload_without_length_ends_at_limit(control: Control) -> None:
    """The node stops reading an upload without a length at the limit."""
    connection, headers = open_connection(control)
    with contextlib.closing(connection):
        chunks = (bytes(1000) for dummy in range(LIMIT // 1000 + 5))
        connection.request("POST", f"/api/v1{IMPORTS}", chunks, headers, encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["code"]) == (413, "payload_too_large")


def test_upload_interrupted_leaves_no_file(control: Control, target: Api) -> None:
    """An interrupted upload leaves no file."""
    connection, headers = open_connection(control)
    with contextlib.closing(connection):
        connection.putrequest("POST", f"/api/v1{IMPORTS}")
        for name, value in {**headers, "Content-Length": "10000"}.items():
            connection.putheader(name, value)
        connection.endheaders(bytes(3000))
    assert target("GET", "/node").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": None},
        {"content_type": "application/json"},
        {"content_type": "multipart/form-data; boundary=x"},
        {"content_type": "application/octet-stream\\; x"},
        {"content_encoding": "gzip"},
    ],
    ids=str,
)
def test_upload_other_media_type_rejected(target: Api, package: bytes, headers: dict[str, str | None]) -> None:
    """The node rejects other media types."""
    assert_rejected(target("POST", IMPORTS, package, **headers), "unsupported_media_type")


# Parallel uploads


def test_upload_parallel_requests_stage_all(target: Api, package: bytes) -> None:
    """Parallel uploads are all staged and do not change keys."""
    with ThreadPoolExecutor(10) as pool:
        staged = list(pool.map(lambda dummy: target("POST", IMPORTS, package), range(10)))
    assert [response.status for response in staged] == [201] * 10
    assert len({response.data["id"] for response in staged}) == 10
    for response in staged:
        discard(target, response)


def test_upload_parallel_same_request_staged_once(target: Api, package: bytes) -> None:
    """Parallel uploads with the same Idempotency-Key give one import."""
    with ThreadPoolExecutor(10) as pool:
        once = {"idempotency_key": secrets.token_hex(16)}
        staged = list(pool.map(lambda dummy: target("POST", IMPORTS, package, **once), range(10)))
    made = [response.data["id"] for response in staged if response.status == 201]
    assert len(set(made)) == 1
    for response in staged:
        if response.status != 201:
            assert (response.code, response.headers["Retry-After"]) == ("request_in_progress", "1")
    again = target("POST", IMPORTS, package, **once)
    assert (again.status, again.data["id"]) == (201, made[0])
    discard(target, again)


def test_upload_parallel_good_and_bad_independent(control: Control, target: Api, package: bytes) -> None:
    """Parallel valid and invalid uploads do not affect each other."""
    sent = [package if number % 2 else package[:-number] + bytes(number) for number in range(1, 11)]
    sent[1:4:2] = [bytes(LIMIT + 1), bytes(100)]
    with ThreadPoolExecutor(10) as pool:
        responses = list(pool.map(lambda content: target("POST", IMPORTS, content), sent))
    for content, response in zip(sent, responses, strict=True):
        if content != package:
            assert_rejected(response, *NO_PACKAGE, "payload_too_large")
    staged = [response for content, response in zip(sent, responses, strict=True) if content == package]
    applied = []
    with ThreadPoolExecutor(10) as pool:
        for response in pool.map(lambda response: target.apply(response.data), staged):
            applied.append(response.status)
            assert response.status == 200 or response.code in ("keys_changed", "import_in_progress")
    assert applied.count(200) == 1
    for response in staged:
        target("DELETE", f"{IMPORTS}/{response.data['id']}")
    control.delete_key("node2", "newKey")


# Admin operations


@pytest.mark.parametrize("trick", TRICKS, ids=ascii)
def test_operations_malicious_names_rejected(control: Control, trick: str) -> None:
    """Admin operations reject malicious names."""
    (made,) = control.generate_key("node2", trick)
    assert made["label"] == trick
    control.delete_key("node2", trick)
    before = control.slots("node2")[0]
    for ask in (
        lambda: control.create_mbk(trick),
        lambda: control.insert_card("node2", trick),
        lambda: control.keys(trick),
        lambda: control.log(trick),
        lambda: control.clear_log(trick),
        lambda: control.restore("node2", trick),
        lambda: control.sign("node2", trick, b"m"),
        lambda: control.set_profile(trick),
        lambda: control.call(trick),
        lambda: control.call("mbk_load", node="node2", name=trick),
        lambda: control.generate_key("node2", "key", kind=trick),
        lambda: control.generate_key("node2", "key", key_id=trick),
    ):
        with pytest.raises(OperationError):
            ask()
    assert control.slots("node2")[0] == before


@pytest.mark.parametrize("label", ["k" * 129, "\udcff"], ids=ascii)
def test_cli_label_length_limited(control: Control, capsys: pytest.CaptureFixture[str], label: str) -> None:
    """The command line accepts labels with up to 128 characters."""
    assert main(["key", "generate", "--node", "node2", "--label", label, "--dir", str(control.folder)]) == 1
    assert "at most 128 Unicode characters" in capsys.readouterr().err
