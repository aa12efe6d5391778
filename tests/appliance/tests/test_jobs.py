# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of all objects and jobs: when an object is listed, how it ends, how long it is kept, and its Idempotency-Key."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import typing as t
from pathlib import Path

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest
import yaml
from utrust_appliance import process
from utrust_appliance.control import Control
from utrust_appliance.testing import Api, cluster
from utrust_appliance.web.checks import as_content_digest

from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8")
)
CUT = (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead)


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=2, key_mix={"ec-p256": 1}, faults=True) as control:
        yield control
        assert "Traceback" not in (control.folder / "log").read_text(encoding="utf-8")


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    yield running
    running.clear_faults()
    running.set_profile()
    for node in ("node1", "node2"):
        wait_for(lambda name=node: running.node(name)["running"] is None)  # type: ignore[misc]


@pytest.fixture
def source(control: Control) -> Api:
    return Api(control, "node1")


@pytest.fixture
def target(control: Control) -> Api:
    return Api(control, "node2")


def fits(schema: str, document: t.Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    whole = {"$ref": f"#/components/schemas/{schema}", "components": CONTRACT["components"]}
    jsonschema.Draft202012Validator(whole, format_checker=checker).validate(document)


def ended(api: Api, path: str, *states: str) -> dict[str, t.Any]:
    """The object as soon as it has left these states."""
    wait_for(lambda: api("GET", path).data["state"] not in states)
    return t.cast("dict[str, t.Any]", api("GET", path).data)


# Work after the response


def test_package_prepared_after_response(control: Control, source: Api) -> None:
    """A node can prepare a package after its response, and names it as running until then."""
    control.fault("async_package", node="node1", seconds=0.5)
    made = source("POST", "/hsm/packages", {})
    assert made.status == 201
    fits("Package", preparing := made.data)
    assert (preparing["state"], preparing["sha256"], preparing["finished_at"]) == ("preparing", None, None)
    assert source("GET", "/node").data["running"] == {"kind": "package", "id": preparing["id"]}
    fits("Package", ready := ended(source, f"/hsm/packages/{preparing['id']}", "preparing"))
    assert (ready["state"], ready["sequence"]) == ("ready", 2)
    assert ready["key_count"] == preparing["key_count"] == 2
    assert source("GET", f"/hsm/packages/{ready['id']}/content").status == 200
    assert source("GET", "/node").data["running"] is None


def test_package_with_changed_keys_fails_after_response(control: Control, source: Api) -> None:
    """If the keys change before a package with an expected digest is prepared, the package fails."""
    control.fault("async_package", node="node1", seconds=0.5)
    now = source("GET", "/node").data["keys_digest"]
    made = source("POST", "/hsm/packages", {"expect_keys_digest": now}).data
    control.generate_key("node1", "meanwhile")
    fits("Package", failed := ended(source, f"/hsm/packages/{made['id']}", "preparing"))
    assert (failed["state"], failed["problem"]["code"], failed["sha256"]) == ("failed", "keys_changed", None)
    assert not list((control.folder / "nodes/node1/packages").glob(f"*{failed['id']}*"))
    control.delete_key("node1", "meanwhile")


@pytest.mark.parametrize(("commit", "state"), [("apply", "staged"), ("upload", "applied")])
def test_upload_checked_after_response(control: Control, source: Api, target: Api, commit: str, state: str) -> None:
    """A node can check an uploaded package after its response, and applies it then if the upload is the commit."""
    control.set_profile(f"commit={commit}")
    content = source.package()
    control.fault("async_import", node="node2", seconds=0.5)
    made = target("POST", "/hsm/imports", content)
    assert made.status == 201
    fits("Import", checking := made.data)
    assert (checking["state"], checking["rows"], checking["cards_accepted"]) == ("checking", [], 0)
    assert target("GET", "/node").data["running"] == {"kind": "import", "id": checking["id"]}
    if commit == "apply":
        assert target.apply(checking).code == "import_in_progress"
    else:
        assert target("DELETE", f"/hsm/imports/{checking['id']}").code == "import_in_progress"
    assert target("POST", "/hsm/imports", content).data["running_id"] == checking["id"]
    fits("Import", checked := ended(target, f"/hsm/imports/{checking['id']}", "checking", "applying"))
    assert checked["state"] == state
    assert checked["package"] == checking["package"]
    assert len(checked["rows"]) == 2
    control.clear_faults()
    if commit == "apply":
        assert target.apply(checked).data["state"] == "applied"


def test_upload_corrupt_fails_after_response(control: Control, source: Api, target: Api) -> None:
    """A corrupt package that is checked after the response ends as failed."""
    content = bytearray(source.package())
    content[-80] ^= 1
    control.fault("async_import", node="node2", seconds=0.2)
    made = target("POST", "/hsm/imports", bytes(content)).data
    fits("Import", failed := ended(target, f"/hsm/imports/{made['id']}", "checking"))
    assert (failed["state"], failed["problem"]["code"]) == ("failed", "package_corrupt")


def test_import_discarded_while_checking(control: Control, source: Api, target: Api) -> None:
    """An import that is discarded while the node checks it stays discarded."""
    content = source.package()
    control.fault("async_import", node="node2", seconds=0.5)
    made = target("POST", "/hsm/imports", content).data
    discarded = target("DELETE", f"/hsm/imports/{made['id']}").data
    fits("Import", discarded)
    assert discarded["state"] == "discarded"
    wait_for(lambda: target("GET", "/node").data["running"] is None)
    assert target("GET", f"/hsm/imports/{made['id']}").data == discarded
    assert not list((control.folder / "nodes/node2/imports").iterdir())


def test_import_checking_interrupted_by_restart() -> None:
    """A restart ends jobs that were not committed as failed, and removes their files."""
    with cluster(nodes=2, restored=2, keys=1, faults=True) as control:
        source, target = Api(control, "node1"), Api(control, "node2")
        content = source.package()
        control.fault("async_import", node="node2", seconds=600)
        control.fault("async_package", node="node1", seconds=600)
        package, made = source("POST", "/hsm/packages", {}).data, target("POST", "/hsm/imports", content).data
        os.kill(control.pid, signal.SIGKILL)
        wait_for(lambda: process.running(control.folder) is None)
        Control.up(control.folder, faults=True)
        for api, path in ((source, f"/hsm/packages/{package['id']}"), (target, f"/hsm/imports/{made['id']}")):
            failed = api("GET", path).data
            assert (failed["state"], failed["problem"]["code"]) == ("failed", "interrupted")
            assert failed["finished_at"] is not None
            assert api("GET", "/node").data["running"] is None
        files = [*control.folder.glob("nodes/*/packages/*"), *control.folder.glob("nodes/*/imports/*")]
        assert files == []


# Work after a lost response


@pytest.mark.parametrize("path", ["packages", "imports"])
def test_object_listed_late_after_lost_response(control: Control, source: Api, target: Api, path: str) -> None:
    """A slow node stores an object and acts after the connection was closed, and never twice for one key."""
    content = source.package()
    api, body = (source, {}) if path == "packages" else (target, content)
    key = secrets.token_hex(16)
    control.fault("late_object", method="POST", path=f"/{path}$", seconds=1)
    with pytest.raises(CUT):
        api("POST", f"/hsm/{path}", t.cast("t.Any", body), idempotency_key=key)
    assert api("GET", f"/hsm/{path}?idempotency_key={key}").data[path] == []
    assert api("GET", "/node").data["running"] is None
    again = api("POST", f"/hsm/{path}", t.cast("t.Any", body), idempotency_key=key)
    assert (again.code, again.headers["Retry-After"]) == ("request_in_progress", "1")
    wait_for(lambda: api("GET", f"/hsm/{path}?idempotency_key={key}").data[path] != [])
    [listed] = api("GET", f"/hsm/{path}?idempotency_key={key}").data[path]
    again = api("POST", f"/hsm/{path}", t.cast("t.Any", body), idempotency_key=key)
    assert (again.status, again.data["id"]) == (201, listed["id"])


def test_apply_late_after_lost_response(control: Control, source: Api, target: Api) -> None:
    """A slow node applies an import after the connection was closed."""
    control.generate_key("node1", "late-apply")
    staged = target("POST", "/hsm/imports", source.package()).data
    control.fault("late_object", method="POST", path="/apply$", seconds=1)
    with pytest.raises(CUT):
        target.apply(staged)
    assert target("GET", f"/hsm/imports/{staged['id']}").data["state"] == "staged"
    wait_for(lambda: target("GET", f"/hsm/imports/{staged['id']}").data["state"] == "applied")


def test_upload_in_progress_rejects_second_request(control: Control, target: Api, source: Api) -> None:
    """While an upload is being received, a second request with its key is rejected, and continues to be possible afterwards."""
    content, key = source.package(), secrets.token_hex(16)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Digest": as_content_digest("00" * 32),
        "Idempotency-Key": key,
        "Content-Length": str(len(content)),
    }
    first = http.client.HTTPSConnection(target._address, target._port, timeout=20, context=target._tls)
    with contextlib.closing(first):
        first.putrequest("POST", "/api/v1/hsm/imports")
        for name, value in headers.items():
            first.putheader(name, value)
        first.endheaders(content[:100])
        wait_for(lambda: target("POST", "/hsm/imports", content, idempotency_key=key).status == 409)
        second = target("POST", "/hsm/imports", content, idempotency_key=key)
        assert (second.code, second.headers["Retry-After"]) == ("request_in_progress", "1")
        first.send(content[100:])
        assert json.loads(first.getresponse().read())["code"] == "content_digest_mismatch"
    assert target("POST", "/hsm/imports", content, idempotency_key=key).status == 201


# Content and expected keys


def test_package_single_download_ends_after_content(control: Control, source: Api) -> None:
    """A package for a single download has no content after the first download, also if the download was cut."""
    control.fault("single_download", node="node1")
    for cut in (False, True):
        made = source("POST", "/hsm/packages", {}).data
        assert made["single_download"] is True
        place = f"/hsm/packages/{made['id']}"
        control.fault("lost_response_before", path="/content$")  # brings no byte
        with pytest.raises(CUT):
            source("GET", f"{place}/content")
        if cut:
            control.fault("reset_mid_transfer", node="node1", method="GET")
            with pytest.raises(CUT):
                source("GET", f"{place}/content")
        else:
            assert source("GET", f"{place}/content").status == 200
        fits("Package", deleted := ended(source, place, "ready"))
        assert deleted["state"] == "deleted"
        assert source("GET", f"{place}/content").code == "package_not_ready"
        assert source("DELETE", place).data == deleted


def test_upload_expects_keys_digest(control: Control, source: Api, target: Api) -> None:
    """An upload with another expected keys digest is rejected and stores nothing."""
    content, now = source.package(), target("GET", "/node").data["keys_digest"]
    key = secrets.token_hex(16)
    place = f"/hsm/imports?expect_keys_digest=sha256:{'0' * 64}"
    rejected = target("POST", place, content, idempotency_key=key)
    assert (rejected.status, rejected.code, rejected.data["keys_digest"]) == (409, "keys_changed", now)
    assert target("POST", "/hsm/imports?expect_keys_digest=abc", content).code == "invalid_request"
    assert target("GET", f"/hsm/imports?idempotency_key={key}").data == {"imports": []}
    place = f"/hsm/imports?expect_keys_digest={now}"
    assert target("POST", place, content, idempotency_key=key).data["state"] == "staged"


@pytest.mark.parametrize("commit", ["apply", "upload"])
def test_import_without_pin_pad_rejected_unchanged(control: Control, source: Api, target: Api, commit: str) -> None:
    """If no PIN pad responds, the commit is rejected, and the import stays staged or is not stored."""
    control.set_profile("cards=required", f"commit={commit}")
    content, key = source.package(), secrets.token_hex(16)
    control.fault("pin_pad_unavailable", node="node2")
    rejected = target("POST", "/hsm/imports", content, idempotency_key=key)
    if commit == "apply":
        staged = rejected.data
        rejected = target.apply(staged)
        assert target("GET", f"/hsm/imports/{staged['id']}").data == staged
    else:
        assert target("GET", f"/hsm/imports?idempotency_key={key}").data == {"imports": []}
    assert (rejected.status, rejected.code) == (409, "pin_pad_unavailable")
