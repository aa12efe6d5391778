# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packages and imports."""

from __future__ import annotations

import hashlib
import secrets
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from utrust_appliance.package import TRAILER
from utrust_appliance.testing import Api, Response, cluster

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def control(hsm: str) -> Iterator[Control]:
    with cluster(nodes=3, restored=2, keys=4, faults=True, max_upload=200_000, hsm=hsm) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults(control: Control) -> Iterator[None]:
    yield
    control.clear_faults()


@pytest.fixture
def source(control: Control) -> Api:
    return Api(control, "node1")


@pytest.fixture
def target(control: Control) -> Api:
    return Api(control, "node2")


def stage(target: Api, content: bytes) -> dict[str, t.Any]:
    response = target("POST", "/hsm/imports", content)
    assert response.status == 201, response.data
    return t.cast("dict[str, t.Any]", response.data)


def test_import_new_key_gives_same_digest(control: Control, source: Api, target: Api) -> None:
    """After the import of a new key, both nodes have the same keys digest."""
    control.generate_key("node1", "new-1", "rsa-2048")
    before = target("GET", "/node").data["keys_digest"]
    staged = stage(target, source.package())
    assert target("GET", "/node").data["keys_digest"] == before  # staging does not change keys
    assert {row["label"]: row["action"] for row in staged["rows"]}["new-1"] == "add"
    assert {row["outcome"] for row in staged["rows"]} == {"pending"}
    applied = target.apply(staged)
    assert (applied.status, applied.data["state"]) == (200, "applied")
    assert {row["outcome"] for row in applied.data["rows"]} == {"done"}
    assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"] == applied.data["keys_digest"]
    assert control.sign("node2", "new-1", b"m") == control.sign("node1", "new-1", b"m")  # PKCS #1 v1.5 is deterministic
    assert target.apply(staged).data == applied.data  # a repeated request changes nothing
    assert target("DELETE", f"/hsm/imports/{staged['id']}").data == applied.data


def test_import_replaces_key_and_keeps_extra_key(control: Control, source: Api, target: Api) -> None:
    """An import replaces a different key in the same place and keeps an extra key."""
    (made,) = control.generate_key("node1", "same-place")
    first = stage(target, source.package())
    assert target.apply(first).status == 200
    control.generate_key("node2", "extra")
    content = source.package()
    staged = stage(target, content)
    assert {row["label"]: row["action"] for row in staged["rows"]}["same-place"] == "unchanged"
    assert target.apply(staged).status == 200
    labels = {key["label"] for key in control.keys("node2")}
    assert {"extra", "same-place"} <= labels
    assert made in control.keys("node2")
    control.delete_key("node2", "extra")


def test_package_digest_no_store_and_delete(control: Control, source: Api) -> None:
    """A package has its digest, is not cached, and can be deleted."""
    made = source("POST", "/hsm/packages", {}).data
    got = source("GET", f"/hsm/packages/{made['id']}/content")
    assert made["sha256"] == f"sha256:{hashlib.sha256(got.data).hexdigest()}"
    assert made["size"] == len(got.data)
    assert got.headers["Cache-Control"] == "no-store"
    file = control.folder / "nodes/node1/packages" / f"{made['id']}.ksp"
    assert file.read_bytes() == got.data
    for dummy in range(2):  # a repeated request changes nothing
        deleted = source("DELETE", f"/hsm/packages/{made['id']}")
        assert (deleted.status, deleted.data["state"], deleted.data["sequence"]) == (200, "deleted", 3)
    assert deleted.data["problem"]["code"] == "canceled_by_request"
    assert source("GET", f"/hsm/packages/{made['id']}").data == deleted.data
    assert {**deleted.data, "state": "ready", "sequence": 2, "problem": None, "finished_at": None} == made
    assert not file.exists()
    rejected = source("GET", f"/hsm/packages/{made['id']}/content")
    assert (rejected.status, rejected.code) == (409, "package_not_ready")


def test_package_unexpected_keys_not_created(source: Api) -> None:
    """A package is not created if the keys are not as expected."""
    now = source("GET", "/node").data["keys_digest"]
    unexpected = {"expect_keys_digest": f"sha256:{'0' * 64}"}
    other = source("POST", "/hsm/packages", unexpected, idempotency_key="unexpected-keys-0001")
    assert (other.status, other.code, other.data["keys_digest"]) == (409, "keys_changed", now)
    assert source("GET", "/hsm/packages?idempotency_key=unexpected-keys-0001").data == {"packages": []}
    used = source("POST", "/hsm/packages", {}, idempotency_key="unexpected-keys-0001")
    assert used.status == 201  # a rejected request stores no key


def altered(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda content: content[:-1], "package_truncated"),
        (lambda content: content[: len(content) // 2], "package_truncated"),
        (lambda content: content[:3], "package_truncated"),
        (lambda dummy: b"", "package_truncated"),
        (lambda content: altered(content, len(content) // 2), "package_corrupt"),
        (lambda content: altered(content, len(content) - len(TRAILER) - 1), "package_corrupt"),
        (lambda content: content + content, "package_corrupt"),
        (lambda dummy: b"some other file", "package_corrupt"),
    ],
)
def test_import_incomplete_package_rejected(
    control: Control, source: Api, target: Api, change: t.Callable[[bytes], bytes], code: str
) -> None:
    """An incomplete package is rejected and leaves nothing."""
    before = target("GET", "/hsm/imports").data
    response = target("POST", "/hsm/imports", change(source.package()))
    assert (response.status, response.code) == (422, code)
    assert target("GET", "/hsm/imports").data == before
    assert not list((control.folder / "nodes/node2/imports").glob("*.part"))


def test_import_any_changed_byte_rejected(source: Api, target: Api) -> None:
    """A package with any changed byte is rejected."""
    content = source.package()
    step = max(1, len(content) // 40)
    codes = {
        target("POST", "/hsm/imports", altered(content, position)).code for position in range(0, len(content), step)
    }
    assert codes <= {"package_corrupt", "package_truncated", "mbk_mismatch"}


def test_import_other_mbk_rejected(control: Control, source: Api) -> None:
    """A package with another MBK is rejected."""
    control.create_mbk("OTHER")
    control.load_mbk("node3", "OTHER")
    response = Api(control, "node3")("POST", "/hsm/imports", source.package())
    assert (response.status, response.code) == (422, "mbk_mismatch")
    control.factory_reset("node3")
    assert Api(control, "node3")("POST", "/hsm/imports", source.package()).code == "hsm_not_operational"


def test_import_other_cluster_or_unknown_type_rejected(control: Control, source: Api, target: Api) -> None:
    """An authentic package of another cluster or with an unknown key type is rejected."""
    control.fault("package_cluster")
    assert target("POST", "/hsm/imports", source.package()).code == "cluster_mismatch"
    control.clear_faults()
    control.fault("package_key_type")
    assert target("POST", "/hsm/imports", source.package()).code == "unknown_key_type"


def test_upload_wrong_digest_type_or_size_rejected(source: Api, target: Api) -> None:
    """An upload with a wrong digest, media type or size is rejected."""
    content = source.package()
    other = "sha-256=:" + "A" * 43 + "=:"
    assert target("POST", "/hsm/imports", content, content_digest=other).code == "content_digest_mismatch"
    assert target("POST", "/hsm/imports", content, content_digest=None).code == "invalid_request"
    assert target("POST", "/hsm/imports", content, content_type="application/json").code == "unsupported_media_type"
    assert target("POST", "/hsm/imports", content, content_type=None).code == "unsupported_media_type"
    assert target("POST", "/hsm/imports", content, content_encoding="gzip").code == "unsupported_media_type"
    assert target("POST", "/hsm/imports", content, idempotency_key=None).code == "idempotency_key_required"
    try:
        assert target("POST", "/hsm/imports", bytes(200_001)).code == "payload_too_large"
    except ConnectionError:
        pytest.fail("the client did not receive the error")


def test_apply_requires_current_keys_digest(control: Control, source: Api, target: Api) -> None:
    """Apply requires the current keys digest, unchanged since staging."""
    control.generate_key("node1", "new-2")
    staged = stage(target, source.package())
    place = f"/hsm/imports/{staged['id']}/apply"
    assert target("POST", place, None).code == "unsupported_media_type"
    for body in ({}, {"expect_keys_digest": None}, {"expect_keys_digest": "*"}, {"expect_keys_digest": 1, "more": 1}):
        assert target("POST", place, body).code == "invalid_request"
    assert target.apply(staged, expect=f"sha256:{'0' * 64}").code == "keys_changed"
    control.generate_key("node2", "meanwhile")
    now = control.node("node2")["keys_digest"]
    for digest in (staged["keys_digest"], now):
        response = target.apply(staged, expect=digest)
        assert (response.status, response.code, response.data["keys_digest"]) == (409, "keys_changed", now)
    control.delete_key("node2", "meanwhile")
    assert target.apply(staged).status == 200


def test_discard_keeps_import_without_package(control: Control, source: Api, target: Api) -> None:
    """A discarded import is kept without its package."""
    staged = stage(target, source.package())
    for dummy in range(2):
        ended = target("DELETE", f"/hsm/imports/{staged['id']}")
        assert (ended.status, ended.data["state"], ended.data["sequence"]) == (200, "discarded", 3)
    assert ended.data["problem"]["code"] == "canceled_by_request"
    assert target("GET", f"/hsm/imports/{staged['id']}").data == ended.data
    assert target.apply(staged).code == "import_finished"
    assert not (control.folder / "nodes/node2/imports" / f"{staged['id']}.ksp").exists()


def test_import_slot_full_changes_nothing(control: Control, source: Api, target: Api) -> None:
    """An import into a full slot does not change anything."""
    staged = stage(target, source.package())
    count = sum(1 for key in control.keys("node2") if key["slot"] == 0)
    control.generate_key("node1", "one-too-many")
    control.set_slot("node2", 0, capacity=count)
    assert target("POST", "/hsm/imports", source.package()).code == "slot_full"
    control.set_slot("node2", 0, capacity=1000)
    full = stage(target, source.package())
    control.set_slot("node2", 0, capacity=count)
    response = target.apply(full)
    assert (response.status, response.code) == (409, "slot_full")
    assert target("GET", f"/hsm/imports/{full['id']}").data["state"] == "staged"
    control.set_slot("node2", 0, capacity=1000)
    assert target.apply(full).status == 200
    assert target.apply(staged).code == "keys_changed"


def test_idempotency_key_returns_same_object(control: Control, source: Api, target: Api) -> None:
    """The same request returns the same object, and another request with this key is rejected."""
    key = secrets.token_hex(16)
    first = source("POST", "/hsm/packages", {}, idempotency_key=key).data
    assert source("POST", "/hsm/packages", {}, idempotency_key=key).data == first
    assert source("GET", f"/hsm/packages?idempotency_key={key}").data == {"packages": [first]}
    other = {"expect_keys_digest": first["keys_digest"]}
    assert source("POST", "/hsm/packages", other, idempotency_key=key).code == "idempotency_key_reused"
    content = source("GET", f"/hsm/packages/{first['id']}/content").data

    def upload(dummy: int) -> Response:
        return target("POST", "/hsm/imports", content, idempotency_key=key)

    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(upload, range(4)))
    for response in responses:
        if response.status != 201:
            assert (response.status, response.code, response.headers["Retry-After"]) == (
                409,
                "request_in_progress",
                "1",
            )
    responses = [*(response for response in responses if response.status == 201), upload(0)]
    assert {response.status for response in responses} == {201}
    assert len({response.data["id"] for response in responses}) == 1
    other_query = f"/hsm/imports?expect_keys_digest={target('GET', '/node').data['keys_digest']}"
    assert target("POST", other_query, content, idempotency_key=key).code == "idempotency_key_reused"
    assert target.apply(responses[0].data, idempotency_key=key).code == "idempotency_key_reused"
    source("DELETE", f"/hsm/packages/{first['id']}")


def test_apply_only_one_import_at_a_time(control: Control, source: Api, target: Api) -> None:
    """Only one import runs at a time, and the node reports its id."""
    control.generate_key("node1", "new-3")
    content = source.package()
    staged, other = stage(target, content), stage(target, content)
    control.fault("hold_apply", node="node2")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(target.apply, staged)
        while target("GET", "/node").data["running"] is None:
            assert not waiting.done()
        assert target("GET", "/node").data["running"] == {"kind": "import", "id": staged["id"]}
        rejected = target.apply(other)
        assert (rejected.code, rejected.data["running_id"]) == ("import_in_progress", staged["id"])
        assert target("DELETE", f"/hsm/imports/{staged['id']}").code == "import_in_progress"
        control.clear_faults("hold_apply")
        assert waiting.result(timeout=30).data["state"] == "applied"
    assert target("GET", "/node").data["running"] is None


def test_packages_and_staged_imports_expire(hsm: str) -> None:
    """Packages and staged imports expire."""
    with cluster(nodes=2, restored=2, keys=1, object_ttl=3, hsm=hsm) as short:
        source, target = Api(short, "node1"), Api(short, "node2")
        made = source("POST", "/hsm/packages", {}).data
        staged = stage(target, source("GET", f"/hsm/packages/{made['id']}/content").data)
        while (expired := source("GET", f"/hsm/packages/{made['id']}").data)["state"] == "ready":
            assert source("GET", "/node").status == 200
        assert (expired["state"], expired["problem"]["code"]) == ("expired", "expired")
        assert source("DELETE", f"/hsm/packages/{made['id']}").data == expired
        while (found := target("GET", f"/hsm/imports/{staged['id']}").data)["state"] == "staged":
            assert target("GET", "/node").status == 200
        assert (found["state"], found["problem"]["code"]) == ("expired", "expired")
        assert target.apply(staged).code == "import_expired"
        assert not list(short.folder.glob("nodes/*/packages/*.ksp")) + list(short.folder.glob("nodes/*/imports/*.ksp"))
