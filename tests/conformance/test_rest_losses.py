# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The transport `rest` against the appliance simulator with faults: no duplicate, partial or guessed result."""

from __future__ import annotations

import contextlib
import io
import threading
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    RequestLostError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from utrust_appliance.testing import Api, cluster

from tests.support.rest import connected, downloaded, staged
from tests.support.wait import wait_for, wait_until_applying

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import RestAppliance
    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=2, keys=2, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """node1 has a key that node2 does not have, node3 has joined, and no fault is active."""
    running.generate_key("node1", "newKey")
    running.clear_log()
    yield running
    running.clear_faults()
    for node in ("node1", "node2"):
        for key in running.keys(node):
            if key["label"] == "newKey":
                running.delete_key(node, "newKey")
    if running.node("node3")["mbk"]:
        running.factory_reset("node3")


@pytest.fixture
def source(control: Control) -> Iterator[RestAppliance]:
    with connected(control, "node1") as appliance:
        yield appliance


@pytest.fixture
def target(control: Control) -> Iterator[RestAppliance]:
    with connected(control, "node2") as appliance:
        yield appliance


@pytest.fixture
def joining(control: Control) -> Iterator[RestAppliance]:
    with connected(control, "node3") as appliance:
        yield appliance
        left = appliance.running_restore()
        if left is not None:
            appliance.cancel_restore(left.id)


def posts(control: Control, node: str) -> list[str]:
    return [request["path"] for request in control.requests(node) if request["method"] == "POST"]


# Invalid responses


def test_html_response_rejected(control: Control, source: RestAppliance) -> None:
    """An HTML page is not a valid response."""
    control.fault("not_json", node="node1")
    with pytest.raises(ApiError, match="text/html") as caught:
        source.node()
    assert caught.value.code == "response_not_json"


def test_html_response_after_post_verified(control: Control, source: RestAppliance) -> None:
    """After an HTML response to a POST, the state of the node shows the result."""
    control.fault("not_json", node="node1", method="POST")
    with pytest.raises(RequestLostError, match="so it did not act on the request"):
        source.create_package(source.node().keys_digest)
    assert posts(control, "node1") == ["/api/v1/hsm/packages"]


def test_other_contract_version_rejected(control: Control, source: RestAppliance) -> None:
    """Another major version of the contract is rejected."""
    control.fault("api_version", node="node1", version="9.0")
    with pytest.raises(ApiError, match="Update the collection") as caught:
        source.node()
    assert caught.value.code == "api_version_unknown"


def test_unknown_key_type_listed(control: Control, source: RestAppliance) -> None:
    """A key of an unknown type is listed like every other key."""
    control.fault("unknown_key_type", node="node1", type="ml_dsa")
    assert "ml_dsa" in [key.type for key in source.list_keys()]


def test_stopped_driver_reported(control: Control, source: RestAppliance) -> None:
    """A stopped HSM driver is reported."""
    control.fault("driver_stopped", node="node1")
    with pytest.raises(ApiError, match="driver") as caught:
        source.list_keys()
    assert (caught.value.code, caught.value.details["http_status"]) == ("hsm_unavailable", 503)


# Lost responses


@pytest.mark.parametrize("status", [429, 503])
def test_busy_node_retried_with_same_idempotency_key(control: Control, status: int) -> None:
    """A busy node gets the request again with the same Idempotency-Key."""
    control.fault("status", node="node1", method="POST", status=status, retry_after=1, count=2)
    with connected(control, "node1", retries=3) as source:
        source.delete_package(source.create_package(source.node().keys_digest))
    asked = [request for request in control.requests("node1") if request["method"] == "POST"]
    assert [request["status"] for request in asked] == [status, status, 201]
    assert len({request["idempotency_key"] for request in asked}) == 1


def test_lost_response_read_repeated(control: Control) -> None:
    """A read with a lost response is repeated."""
    control.fault("lost_response_after", node="node1", method="GET", count=2)
    with connected(control, "node1", retries=3) as source:
        assert source.node().name == "node1"
    assert len(control.requests("node1")) == 3


def test_lost_response_package_created_once(control: Control, source: RestAppliance) -> None:
    """A package with a lost response is created once."""
    control.fault("lost_response_after", node="node1", method="POST")
    package = source.create_package(source.node().keys_digest)
    content = io.BytesIO()
    source.download_package(package, content)
    assert len(content.getvalue()) == package.size
    assert posts(control, "node1") == ["/api/v1/hsm/packages"]


def test_lost_response_upload_staged_once(control: Control, source: RestAppliance, target: RestAppliance) -> None:
    """An upload with a lost response is staged once."""
    control.fault("lost_response_after", node="node2", method="POST")
    made = staged(target, *downloaded(source))
    assert made.state == "staged"
    assert posts(control, "node2") == ["/api/v1/hsm/imports"]
    target.discard_import(made)


def test_lost_response_import_applied_once(control: Control, source: RestAppliance, target: RestAppliance) -> None:
    """An import with a lost response is applied once."""
    made = staged(target, *downloaded(source))
    control.clear_log()
    control.fault("lost_response_after", node="node2", method="POST", path="/apply$")
    assert target.apply_import(made, target.node().keys_digest).state == "applied"
    assert posts(control, "node2") == [f"/api/v1/hsm/imports/{made.id}/apply"]
    assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"]


def test_lost_response_restore_started_once(control: Control, joining: RestAppliance) -> None:
    """A restore with a lost response is started once."""
    control.fault("lost_response_after", node="node3", method="POST")
    started = joining.start_restore("front-usb", "node1")
    assert control.node("node3")["running"] == {"kind": "restore", "id": started.id}
    assert posts(control, "node3") == ["/api/v1/hsm/restores"]


# Late work of a slow node


@pytest.mark.parametrize(
    ("fault", "params"),
    [("late_object", {"seconds": 1.0}), ("async_package", {"seconds": 0.5}), ("single_download", {})],
)
def test_slow_node_creates_package_once(
    control: Control, source: RestAppliance, fault: str, params: dict[str, t.Any]
) -> None:
    """A slow node creates one package, whether the client finds the package or reports an error."""
    api, digest = Api(control, "node1"), source.node().keys_digest
    before = {package["id"] for package in api("GET", "/hsm/packages").data["packages"]}
    control.fault(fault, node="node1", **params)
    with contextlib.suppress(UtrustError):
        source.create_package(digest)

    def new() -> list[str]:
        packages = api("GET", "/hsm/packages").data["packages"]
        return [package["state"] for package in packages if package["id"] not in before]

    wait_for(lambda: new() == ["ready"])
    assert posts(control, "node1") == ["/api/v1/hsm/packages"]


@pytest.mark.parametrize(("fault", "params"), [("late_object", {"seconds": 1.0}), ("async_import", {"seconds": 0.5})])
def test_slow_node_stages_upload_once(
    control: Control, source: RestAppliance, target: RestAppliance, fault: str, params: dict[str, t.Any]
) -> None:
    """A slow node stages one import, whether the client finds the import or reports an error. No key changes."""
    api, keys = Api(control, "node2"), control.keys("node2")
    package, content = downloaded(source)
    before = {data["id"] for data in api("GET", "/hsm/imports").data["imports"]}
    control.fault(fault, node="node2", **params)
    with contextlib.suppress(UtrustError):
        staged(target, package, content)

    def new() -> list[str]:
        imports = api("GET", "/hsm/imports").data["imports"]
        return [data["state"] for data in imports if data["id"] not in before]

    wait_for(lambda: new() == ["staged"])
    assert posts(control, "node2") == ["/api/v1/hsm/imports"]
    assert control.keys("node2") == keys


# Lost requests


def test_lost_request_package_not_created(control: Control, source: RestAppliance) -> None:
    """A package is not created after a lost request."""
    control.fault("lost_response_before", node="node1", method="POST")
    with pytest.raises(RequestLostError, match="so it did not act on the request") as caught:
        source.create_package(source.node().keys_digest)
    assert caught.value.code == "response_lost"
    assert posts(control, "node1") == ["/api/v1/hsm/packages"]


def test_lost_request_import_reported(control: Control, source: RestAppliance, target: RestAppliance) -> None:
    """An import that was not applied is reported."""
    before = control.keys("node2")
    made = staged(target, *downloaded(source))
    control.fault("lost_response_before", node="node2", method="POST", path="/apply$")
    with pytest.raises(ResponseLostError, match="reports the import as staged") as caught:
        target.apply_import(made, target.node().keys_digest)
    assert caught.value.code == "response_lost"
    assert control.keys("node2") == before
    target.discard_import(made)


def test_lost_request_restore_not_started(control: Control, joining: RestAppliance) -> None:
    """A restore is not started after a lost request."""
    control.fault("lost_response_before", node="node3", method="POST")
    with pytest.raises(RequestLostError, match="so it did not act on the request"):
        joining.start_restore("front-usb", "node1")
    assert control.node("node3")["running"] is None


def test_node_down_during_import_outcome_unknown(
    control: Control, source: RestAppliance, target: RestAppliance
) -> None:
    """If a node fails during an import, the outcome is unknown."""
    made = staged(target, *downloaded(source))
    seen = target.node().keys_digest
    control.fault("lost_response_after", node="node2", method="POST", path="/apply$")
    control.fault("lost_response_before", node="node2", method="GET", count=9)
    with pytest.raises(ResponseLostError) as caught:
        target.apply_import(made, seen)
    assert caught.value.code == "outcome_unknown"
    control.clear_faults()
    assert "so the result is unknown" in str(caught.value)
    # The node reports the result when it responds again.
    assert target.node().keys_digest == control.node("node1")["keys_digest"]


# Transfer of packages


@pytest.mark.parametrize(
    ("fault", "params"),
    [
        ("truncate_download", {"bytes": 1}),
        ("corrupt_download", {}),
        ("corrupt_download", {"consistent": True}),
        ("wrong_digest", {}),
    ],
    ids=["truncated", "altered", "altered with its digest", "announced as another one"],
)
def test_download_corrupt_rejected(
    control: Control, source: RestAppliance, fault: str, params: dict[str, t.Any]
) -> None:
    """A package that was corrupted during the transfer is rejected."""
    package = source.create_package(source.node().keys_digest)
    control.fault(fault, node="node1", **params)
    with pytest.raises(ApiError, match="The file was deleted") as caught:
        source.download_package(package, io.BytesIO())
    assert caught.value.code == "download_corrupt"
    assert f"of {package.size} bytes" in str(caught.value)


def test_download_interrupted_rejected(control: Control, source: RestAppliance) -> None:
    """An interrupted download is rejected."""
    package = source.create_package(source.node().keys_digest)
    control.clear_log()
    control.fault("reset_mid_transfer", node="node1")
    with pytest.raises(UnreachableError) as caught:
        source.download_package(package, io.BytesIO())
    assert caught.value.code == "node_unreachable"
    assert len(control.requests("node1")) == 1


def test_upload_interrupted_not_staged(control: Control, source: RestAppliance, target: RestAppliance) -> None:
    """An interrupted upload is not staged."""
    before = control.keys("node2")
    package, content = downloaded(source)
    control.fault("reset_mid_transfer", node="node2")
    with pytest.raises(RequestLostError, match="so it did not act on the request") as caught:
        staged(target, package, content)
    assert caught.value.code == "response_lost"
    assert posts(control, "node2") == ["/api/v1/hsm/imports"]
    assert control.keys("node2") == before


def test_upload_other_cluster_rejected(control: Control, source: RestAppliance, target: RestAppliance) -> None:
    """The node rejects a package of another cluster."""
    control.fault("package_cluster", node="node1")
    package, content = downloaded(source)
    assert package.cluster_id == "another-cluster"
    with pytest.raises(ApiError, match="another-cluster") as caught:
        staged(target, package, content)
    assert caught.value.code == "cluster_mismatch"


def test_package_with_unexpected_keys_not_created(control: Control, source: RestAppliance) -> None:
    """A package is not created if the keys are not as expected."""
    control.fault("package_key_type", node="node1")
    with pytest.raises(ApiError) as caught:
        source.create_package(source.node().keys_digest)
    assert caught.value.code == "keys_changed"


def test_upload_too_large_rejected_not_lost() -> None:
    """A too large package is reported as rejected, not as lost."""
    with (
        cluster(nodes=2, restored=2, keys=40, key_mix={"aes-256": 1}, max_upload=5000) as small,
        connected(small, "node1") as source,
        connected(small, "node2") as target,
    ):
        package, content = downloaded(source)
        assert (package.size or 0) > 5000
        with pytest.raises(ApiError, match="5000 bytes") as caught:
            staged(target, package, content)
    assert caught.value.code == "payload_too_large"


def test_import_into_full_slot_rejected(control: Control, source: RestAppliance, target: RestAppliance) -> None:
    """An import into a full slot is rejected."""
    count = sum(key["slot"] == 0 for key in control.keys("node2"))
    control.set_slot("node2", 0, capacity=count)
    with pytest.raises(ApiError, match="slot 0") as caught:
        staged(target, *downloaded(source))
    assert caught.value.code == "slot_full"
    control.set_slot("node2", 0, capacity=1000)


# Parallel imports


def test_parallel_import_rejected_first_continues(
    control: Control, source: RestAppliance, target: RestAppliance
) -> None:
    """A parallel import is rejected, and the first import continues."""
    package, content = downloaded(source)
    first, second = staged(target, package, content), staged(target, package, content)
    seen = target.node().keys_digest
    control.fault("hold_apply", node="node2")
    outcome: list[str] = []

    def apply() -> None:
        with connected(control, "node2") as other:
            outcome.append(other.apply_import(first, seen).state)

    thread = threading.Thread(target=apply)
    thread.start()
    wait_until_applying(control, "node2")
    assert target.node().running == ("import", first.id)
    for attempt in (lambda: target.apply_import(second, seen), lambda: staged(target, package, content)):
        with pytest.raises(ApiError) as caught:
            attempt()
        assert caught.value.code == "import_in_progress"
        assert caught.value.details["running_id"] == first.id
    control.clear_faults("hold_apply")
    thread.join()
    assert outcome == ["applied"]
    with pytest.raises(ApiError) as caught:
        target.apply_import(second, seen)
    assert caught.value.code == "keys_changed"
