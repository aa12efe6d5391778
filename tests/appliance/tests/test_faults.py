# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every fault has the described effect until it is cleared."""

from __future__ import annotations

import ast
import hashlib
import http.client
import json
import ssl
import time
import typing as t
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from utrust_appliance.faults import KINDS
from utrust_appliance.testing import Api, cluster
from utrust_appliance.web.checks import as_content_digest

from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

CUT = (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead)


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=3, faults=True) as control:
        yield control
        assert "Traceback" not in (control.folder / "log").read_text(
            encoding="utf-8"
        )  # an injected fault is not an error


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    yield running
    running.clear_faults()


@pytest.fixture
def api(control: Control) -> Api:
    return Api(control, "node1")


def test_lost_response_before_or_after_request(control: Control, api: Api) -> None:
    """A response is lost before or after the node handles the request."""
    for name, made in (("lost_response_before", 0), ("lost_response_after", 1)):
        control.fault(name, method="POST", path="/packages$")
        key = f"request-of-{name}"
        with pytest.raises(CUT):
            api("POST", "/hsm/packages", {}, idempotency_key=key)
        packages = api("GET", f"/hsm/packages?idempotency_key={key}").data["packages"]
        assert len(packages) == made
        assert control.faults() == []
        again = api("POST", "/hsm/packages", {}, idempotency_key=key).data
        assert not made or packages[0] == again
        assert api("DELETE", f"/hsm/packages/{again['id']}").data["state"] == "deleted"


def test_status_rejects_count_times_with_retry_after(control: Control, api: Api) -> None:
    """The fault status rejects the given number of requests with Retry-After."""
    for status, code in ((429, "too_many_requests"), (503, "unavailable")):
        control.fault("status", count=2, status=status, retry_after=7)
        for dummy in range(2):
            rejected = api("GET", "/node")
            assert (rejected.status, rejected.code, rejected.headers["Retry-After"]) == (status, code, "7")
        assert api("GET", "/node").status == 200


def test_fault_filters_by_node_path_and_method(control: Control, api: Api) -> None:
    """Faults are filtered by node, path and method."""
    control.fault("not_json", node="node2", method="GET", path="/node$")
    assert api("GET", "/node").status == 200
    other = Api(control, "node2")
    assert other("GET", "/hsm/keys").status == 200
    assert other("GET", "/node").headers["Content-Type"].startswith("text/html")


def test_latency_delays_request(control: Control, api: Api) -> None:
    """The fault latency delays a request."""
    control.fault("latency", seconds=0.3, path="/node$")
    started = time.monotonic()
    api("GET", "/node")
    assert time.monotonic() - started >= 0.3


def test_download_faults_change_content_or_digest(control: Control, api: Api) -> None:
    """Download faults interrupt, truncate or corrupt a download, or change its digest."""
    made = api("POST", "/hsm/packages", {}).data
    path = f"/hsm/packages/{made['id']}/content"
    good = api("GET", path)

    def digest_fits(response: t.Any) -> bool:
        return bool(response.headers["Content-Digest"] == as_content_digest(hashlib.sha256(response.data).hexdigest()))

    control.fault("reset_mid_transfer", method="GET")
    with pytest.raises(CUT):
        api("GET", path)
    control.fault("truncate_download", bytes=10)
    assert api("GET", path).data == good.data[:-10]
    control.fault("corrupt_download")
    altered = api("GET", path)
    assert (len(altered.data), altered.data != good.data, digest_fits(altered)) == (made["size"], True, False)
    control.fault("corrupt_download", consistent=True)
    consistent = api("GET", path)
    assert (consistent.data, digest_fits(consistent)) == (altered.data, True)
    control.fault("wrong_digest")
    wrong = api("GET", path)
    assert (wrong.data, digest_fits(wrong)) == (good.data, False)
    assert digest_fits(api("GET", path))
    assert api("DELETE", f"/hsm/packages/{made['id']}").data["state"] == "deleted"


def test_hold_package_delays_creation(control: Control, api: Api) -> None:
    """The fault hold_package delays the creation of a package."""
    control.fault("hold_package", node="node1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api, "POST", "/hsm/packages", {}, idempotency_key="request-of-held-package")
        try:
            wait_for(lambda: api("GET", "/node").data["running"] is not None)
            [listed] = api("GET", "/hsm/packages?idempotency_key=request-of-held-package").data["packages"]
            assert (listed["state"], listed["sha256"], listed["size"]) == ("preparing", None, None)
            assert api("GET", "/node").data["running"] == {"kind": "package", "id": listed["id"]}
            place = f"/hsm/packages/{listed['id']}"
            assert api("GET", f"{place}/content").code == "package_not_ready"
            for rejected in (api("POST", "/hsm/packages", {}), api("DELETE", place)):
                assert (rejected.status, rejected.code) == (409, "package_in_progress")
                assert rejected.data["running_id"] == listed["id"]
            assert not waiting.done()
        finally:
            control.clear_faults("hold_package")
        made = waiting.result(timeout=20).data
    assert (made["id"], made["state"], made["sequence"]) == (listed["id"], "ready", 2)
    assert api("DELETE", f"/hsm/packages/{made['id']}").data["state"] == "deleted"


def test_reset_mid_transfer_upload_leaves_nothing(control: Control, api: Api) -> None:
    """An interrupted upload leaves nothing."""
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
def test_node_fault_shown_until_cleared(
    control: Control, api: Api, fault: str, params: dict[str, t.Any], read: t.Callable[[t.Any], t.Any], value: t.Any
) -> None:
    """The node shows a fault until it is cleared."""
    before = read(api("GET", "/node").data)
    control.fault(fault, **params)
    assert read(api("GET", "/node").data) == value
    control.clear_faults(fault)
    assert read(api("GET", "/node").data) == before


def test_clock_skew_shifts_clock(control: Control, api: Api) -> None:
    """The fault clock_skew shifts the clock of the node."""
    control.fault("clock_skew", seconds=-600)
    clock = datetime.fromisoformat(api("GET", "/node").data["clock"])
    assert abs((datetime.now(UTC) - clock).total_seconds() - 600) < 30


def test_driver_and_alarm_stop_hsm_operations(control: Control, api: Api) -> None:
    """A stopped driver and an alarm stop operations that need the HSM."""
    control.fault("driver_stopped", node="node1")
    for method, path, body in (
        ("GET", "/hsm/keys", None),
        ("POST", "/hsm/packages", {}),
        ("POST", "/hsm/imports", b"x"),
    ):
        response = api(method, path, t.cast("t.Any", body))
        assert (response.status, response.code) == (503, "hsm_unavailable")
    control.clear_faults()
    control.fault("alarm", node="node1")
    assert api("POST", "/hsm/packages", {}).code == "hsm_not_operational"


def test_unknown_key_type_in_list_and_digest(control: Control, api: Api) -> None:
    """A key of an unknown type is part of key list and digest."""
    before = api("GET", "/node").data
    control.fault("unknown_key_type", node="node1")
    after, page = api("GET", "/node").data, api("GET", "/hsm/keys").data
    assert {key["type"] for key in page["hsm_keys"]} >= {"exotic"}
    assert after["key_count"] == before["key_count"] + 1 == len(page["hsm_keys"])
    assert after["keys_digest"] == page["keys_digest"] != before["keys_digest"]


def test_other_mbk_reported_and_packages_rejected(control: Control, api: Api) -> None:
    """A node with another MBK reports it and rejects packages."""
    content, original = api.package(), api("GET", "/node").data["mbk"]
    control.fault("other_mbk", node="node1", mbk="STRANGE", check_value="00ff00ff00ff00ff")
    mbk = {"name": "STRANGE", "check_value": "00ff00ff00ff00ff", "m": 2, "n": 3}
    assert api("GET", "/node").data["mbk"] == mbk
    assert api("POST", "/hsm/imports", content).code == "mbk_mismatch"
    foreign = api.package()
    control.clear_faults()
    assert api("GET", "/node").data["mbk"] == original
    assert api("POST", "/hsm/imports", foreign).code == "mbk_mismatch"


def test_slot_full_rejects_import(control: Control, api: Api) -> None:
    """A full slot rejects an import."""
    control.generate_key("node2", "one-more")
    content = Api(control, "node2").package()
    control.delete_key("node2", "one-more")
    control.fault("slot_full", node="node1")
    rejected = api("POST", "/hsm/imports", content)
    assert (rejected.status, rejected.code) == (409, "slot_full")
    control.clear_faults()
    staged = api("POST", "/hsm/imports", content)
    assert staged.status == 201
    assert api("DELETE", f"/hsm/imports/{staged.data['id']}").data["state"] == "discarded"


@pytest.mark.parametrize("keys", ["old", "new"])
def test_restart_during_import_returns_old_or_new_keys(control: Control, keys: str) -> None:
    """A node that restarts during an import returns with the old or the new keys."""
    control.generate_key("node2", f"restart-{keys}")
    before, after = control.node("node1")["keys_digest"], control.node("node2")["keys_digest"]
    api = Api(control, "node1")
    staged = api("POST", "/hsm/imports", Api(control, "node2").package()).data
    control.fault("restart_during_import", node="node1", keys=keys, seconds=3)
    with pytest.raises(CUT):
        api.apply(staged)
    with pytest.raises(CUT):
        api("GET", "/node")
    wait_for(lambda: _responds(api))
    assert api("GET", "/node").data["keys_digest"] == (before if keys == "old" else after)
    ended = api("GET", f"/hsm/imports/{staged['id']}").data
    assert ended["state"] == ("failed" if keys == "old" else "applied")
    assert (ended["problem"] or {}).get("code") == ("interrupted" if keys == "old" else None)
    if keys == "old":
        assert api.apply(staged).code == "import_finished"
        staged = api("POST", "/hsm/imports", Api(control, "node2").package()).data
    assert api.apply(staged).data["state"] == "applied"


def _responds(api: Api) -> bool:
    try:
        return api("GET", "/node").status == 200
    except CUT:
        return False


def test_pin_pad_unavailable_rejects_restore(control: Control, api: Api) -> None:
    """A guided restore is rejected if the PIN pad is unavailable."""
    control.fault("pin_pad_unavailable", pin_pad="front-usb")
    pads = {pad["name"]: pad["status"] for pad in api("GET", "/hsm/pin-pads").data["pin_pads"]}
    assert pads == {"front-usb": "unavailable", "rack-2": "unavailable"}


def test_node_down_resets_connections(control: Control) -> None:
    """A node that is down resets connections."""
    other = Api(control, "node2")
    control.fault("node_down", node="node2")
    with pytest.raises(CUT):
        other("GET", "/node")


def over_http(url: str, method: str, token: str, body: dict[str, t.Any] | None = None) -> tuple[int, t.Any]:
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(t.cast("str", place.hostname), place.port, timeout=20)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, place.path, content, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_fault_api_requires_token() -> None:
    """The fault API listens on 127.0.0.1 and requires the token."""
    with cluster(nodes=1, keys=1, fault_port=0) as control:
        url = json.loads((control.folder / "run.json").read_text(encoding="utf-8"))["faults"]
        token = (control.folder / "fault.token").read_text(encoding="utf-8").strip()
        assert (control.folder / "fault.token").stat().st_mode & 0o777 == 0o600
        assert url.startswith("http://127.0.0.1:")
        assert over_http(url, "GET", "another")[0] == 401
        assert over_http(url, "POST", "another", {"name": "alarm"})[0] == 401
        status, made = over_http(url, "POST", token, {"name": "alarm", "node": "node1", "params": {"reason": "lid"}})
        assert (status, made["name"], made["params"]) == (201, "alarm", {"reason": "lid"})
        assert control.node("node1")["state"] == "alarm"
        status, listed = over_http(url, "GET", token)
        assert (status, set(listed["kinds"]), listed["active"]) == (200, set(KINDS), [made])
        for wrong in ({"name": "nonsense"}, {"name": ["alarm"]}, {}, {"name": "alarm", "where": "node1"}):
            status, rejected = over_http(url, "POST", token, wrong)
            assert (status, bool(rejected["error"])) == (400, True)
        assert over_http(f"{url}/{made['id']}", "DELETE", token) == (200, {"cleared": 1})
        assert over_http(url, "DELETE", token) == (200, {"cleared": 0})
        assert control.node("node1")["state"] == "operational"


def test_fault_api_disabled_by_default(control: Control) -> None:
    """The fault API is disabled by default."""
    assert "faults" not in json.loads((control.folder / "run.json").read_text(encoding="utf-8"))
    assert not (control.folder / "fault.token").exists()


def names_in(source: str) -> set[str]:
    """Names of faults in a test file: arguments of `fault(…)` and first items of test cases."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        first: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fault":
            first = node.args[0]
        elif isinstance(node, ast.Tuple | ast.List) and node.elts:
            first = node.elts[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            found.add(first.value)
    return found


def test_every_fault_described_and_used_by_tests() -> None:
    """Every kind of fault has a description and is used by a test of the collection."""
    tests = Path(__file__).parents[2]
    patterns = ("modules/test_*.py", "playbooks/test_*.py", "conformance/test_rest_*.py")
    files = [path for pattern in patterns for path in tests.glob(pattern)]
    used = set().union(*(names_in(path.read_text(encoding="utf-8")) for path in files))
    assert set(KINDS) - used == set()
    assert all(kind.description for kind in KINDS.values())


def test_cut_route_is_a_fault_of_clients_only(control: Control, api: Api) -> None:
    """Members show the node as connected, because they reach it by another route."""
    control.fault("route_cut", node="node2")
    with pytest.raises(CUT):
        Api(control, "node2")("GET", "/node")
    members = {each["node"]: each["connection"] for each in api("GET", "/node").data["cluster"]["members"]}
    assert members["node2"] == "connected"


def test_replaced_hsm_has_another_serial(control: Control, api: Api) -> None:
    control.fault("hsm_serial", node="node1", serial="UT000999")
    assert api("GET", "/node").data["hsm"]["serial"] == "UT000999"
    control.clear_faults()
    assert api("GET", "/node").data["hsm"]["serial"] == "UT000001"


def test_renewed_certificate_is_presented_at_once(control: Control) -> None:
    """A client sees the new certificate without a restart, and the CA is the same."""
    old = control.node("node2")["tls_fingerprint"]
    new = control.renew_certificate("node2")
    assert new != old
    assert control.node("node2")["tls_fingerprint"] == new
    place = (control.node("node2")["address"], control.node("node2")["port"])
    presented = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(place))
    assert f"sha256:{hashlib.sha256(presented).hexdigest()}" == new
    assert Api(control, "node2")("GET", "/node").status == 200
