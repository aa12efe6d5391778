# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every fault does what its description says, where it says, as often as it says, and ends when it is cleared."""

from __future__ import annotations

import hashlib
import http.client
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from utrust_appliance.faults import KINDS
from utrust_appliance.testing import Api, cluster
from utrust_appliance.web.checks import as_content_digest

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

CUT = (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead)


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=3, faults=True) as control:
        yield control
        assert "Traceback" not in (control.folder / "log").read_text(encoding="utf-8")  # a fault on purpose is no error


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    yield running
    running.clear_faults()


@pytest.fixture
def api(control: Control) -> Api:
    return Api(control, "node1")


def test_lost_answer_is_lost_before_or_after_the_request_did_something(control: Control, api: Api) -> None:
    for name, made in (("lost_answer_before", 0), ("lost_answer_after", 1)):
        control.fault(name, method="POST", path="/packages$")
        key = f"request-of-{name}"
        with pytest.raises(CUT):
            api("POST", "/hsm/packages", {}, idempotency_key=key)
        packages = api("GET", f"/hsm/packages?idempotency_key={key}").data["packages"]
        assert len(packages) == made
        assert control.faults() == []
        again = api("POST", "/hsm/packages", {}, idempotency_key=key).data
        assert not made or packages[0] == again
        assert api("DELETE", f"/hsm/packages/{again['id']}").status == 204


def test_status_refuses_so_many_times_with_retry_after(control: Control, api: Api) -> None:
    for status, code in ((429, "too_many_requests"), (503, "unavailable")):
        control.fault("status", count=2, status=status, retry_after=7)
        for dummy in range(2):
            refused = api("GET", "/node")
            assert (refused.status, refused.code, refused.headers["Retry-After"]) == (status, code, "7")
        assert api("GET", "/node").status == 200


def test_fault_of_one_node_path_or_method_is_not_that_of_another(control: Control, api: Api) -> None:
    control.fault("not_json", node="node2", method="GET", path="/node$")
    assert api("GET", "/node").status == 200
    other = Api(control, "node2")
    assert other("GET", "/hsm/keys").status == 200
    assert other("GET", "/node").headers["Content-Type"].startswith("text/html")


def test_latency_holds_a_request_back(control: Control, api: Api) -> None:
    control.fault("latency", seconds=0.3, path="/node$")
    started = time.monotonic()
    api("GET", "/node")
    assert time.monotonic() - started >= 0.3


def test_downloads_are_cut_truncated_altered_or_wrongly_named(control: Control, api: Api) -> None:
    made = api("POST", "/hsm/packages", {}).data
    path = f"/hsm/packages/{made['id']}/content"
    good = api("GET", path)

    def digest_fits(answer: t.Any) -> bool:
        return bool(answer.headers["Content-Digest"] == as_content_digest(hashlib.sha256(answer.data).hexdigest()))

    control.fault("reset_mid_transfer", method="GET")
    with pytest.raises(CUT):
        api("GET", path)
    control.fault("truncate_download", bytes=10)
    assert api("GET", path).data == good.data[:-10]
    control.fault("alter_download")
    altered = api("GET", path)
    assert (len(altered.data), altered.data != good.data, digest_fits(altered)) == (made["size"], True, False)
    control.fault("alter_download", consistent=True)
    consistent = api("GET", path)
    assert (consistent.data, digest_fits(consistent)) == (altered.data, True)
    control.fault("wrong_digest")
    wrong = api("GET", path)
    assert (wrong.data, digest_fits(wrong)) == (good.data, False)
    assert digest_fits(api("GET", path))
    assert api("DELETE", f"/hsm/packages/{made['id']}").status == 204


def test_package_is_not_made_while_it_is_held(control: Control, api: Api) -> None:
    control.fault("hold_package", node="node1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api, "POST", "/hsm/packages", {})
        try:
            assert api("GET", "/hsm/packages").data == {"packages": []}
            assert not waiting.done()
        finally:
            control.clear_faults("hold_package")
        made = waiting.result(timeout=20).data
    assert api("DELETE", f"/hsm/packages/{made['id']}").status == 204


def test_upload_that_is_cut_leaves_nothing(control: Control, api: Api) -> None:
    content = api.package()
    control.fault("reset_mid_transfer", method="POST", path="/imports$")
    with pytest.raises(CUT):
        api("POST", "/hsm/imports", content)
    assert api("GET", "/hsm/imports").data == {"imports": []}
    assert not list((control.folder / "nodes/node1/imports").iterdir())


@pytest.mark.parametrize(
    ("fault", "params", "read", "value"),
    [
        ("api_version", {}, lambda node: node["api_version"], "9.0"),
        ("version_skew", {}, lambda node: node["appliance"]["version"], "5.2.0"),
        ("firmware_skew", {}, lambda node: node["hsm"]["firmware"], "6.1.0"),
        ("fips", {}, lambda node: node["hsm"]["fips"], True),
        (
            "alarm",
            {"reason": "lid open"},
            lambda node: (node["hsm"]["state"], node["hsm"]["alarm"]),
            ("alarm", "lid open"),
        ),
        ("hsm_state", {}, lambda node: node["hsm"]["state"], "maintenance"),
        ("driver_stopped", {}, lambda node: node["hsm"]["driver"], "stopped"),
        (
            "member_disconnected",
            {"member": "node2"},
            lambda node: node["cluster"]["members"][1]["connection"],
            "disconnected",
        ),
        ("node_down", {"node": "node2"}, lambda node: node["cluster"]["members"][1]["connection"], "disconnected"),
    ],
)
def test_node_shows_its_fault_until_it_is_cleared(
    control: Control, api: Api, fault: str, params: dict[str, t.Any], read: t.Callable[[t.Any], t.Any], value: t.Any
) -> None:
    before = read(api("GET", "/node").data)
    control.fault(fault, **params)
    assert read(api("GET", "/node").data) == value
    control.clear_faults(fault)
    assert read(api("GET", "/node").data) == before


def test_clock_is_wrong_by_so_many_seconds(control: Control, api: Api) -> None:
    control.fault("clock_skew", seconds=-600)
    clock = datetime.fromisoformat(api("GET", "/node").data["clock"])
    assert abs((datetime.now(UTC) - clock).total_seconds() - 600) < 30


def test_stopped_driver_and_alarm_stop_what_needs_the_hsm(control: Control, api: Api) -> None:
    control.fault("driver_stopped", node="node1")
    for method, path, body in (
        ("GET", "/hsm/keys", None),
        ("POST", "/hsm/packages", {}),
        ("POST", "/hsm/imports", b"x"),
    ):
        answer = api(method, path, t.cast("t.Any", body))
        assert (answer.status, answer.code) == (503, "hsm_unavailable")
    control.clear_faults()
    control.fault("alarm", node="node1")
    assert api("POST", "/hsm/packages", {}).code == "hsm_not_operational"


def test_key_of_an_unknown_type_is_in_inventory_and_digest(control: Control, api: Api) -> None:
    before = api("GET", "/node").data
    control.fault("unknown_key_type", node="node1")
    after, page = api("GET", "/node").data, api("GET", "/hsm/keys").data
    assert {key["type"] for key in page["hsm_keys"]} >= {"exotic"}
    assert after["key_count"] == before["key_count"] + 1 == len(page["hsm_keys"])
    assert after["inventory_digest"] == page["inventory_digest"] != before["inventory_digest"]


def test_pin_pad_that_is_gone_does_not_answer(control: Control, api: Api) -> None:
    control.fault("pin_pad_gone", pin_pad="front-usb")
    pads = {pad["name"]: pad["status"] for pad in api("GET", "/hsm/pin-pads").data["pin_pads"]}
    assert pads == {"front-usb": "unavailable", "rack-2": "unavailable"}


def test_node_that_is_down_resets_connections(control: Control) -> None:
    other = Api(control, "node2")
    control.fault("node_down", node="node2")
    with pytest.raises(CUT):
        other("GET", "/node")


def test_every_kind_is_described_and_tested() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_appliance_*.py"))
    for name, kind in KINDS.items():
        assert kind.description
        assert f'"{name}"' in source, f"no test sets {name}"
