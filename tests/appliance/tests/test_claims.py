# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claim of the cluster: one holder, renewal, end, and restarts."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import secrets
import signal
import ssl
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest
import yaml
from utrust_appliance import process
from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import Api, Response, cluster

from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8")
)
CLAIM = "/cluster/claim"
FREE = {"claim": None, "own": False}
NODES = ("node1", "node2", "node3")


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=2, keys=2, key_mix={"ec-p256": 1}, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    yield running
    running.clear_faults()
    running.set_profile()
    end_claim(running)
    for node in ("node1", "node2"):
        api = Api(running, node)
        for kind in ("packages", "imports"):
            for one in api("GET", f"/hsm/{kind}").data[kind]:
                api("DELETE", f"/hsm/{kind}/{one['id']}")


def end_claim(control: Control) -> None:
    control.fault("end_claim", path="/node$")
    Api(control, "node1")("GET", "/node")


def fits(schema: str, document: t.Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    whole = {"$ref": f"#/components/schemas/{schema}", "components": CONTRACT["components"]}
    jsonschema.Draft202012Validator(whole, format_checker=checker).validate(document)


class Holder:
    """A client with a token of its own."""

    def __init__(self, control: Control, name: str = "run") -> None:
        self.token = secrets.token_urlsafe(24)
        self._control, self._name = control, name

    def api(self, node: str, **options: t.Any) -> Api:
        return Api(self._control, node, claim=self.token, **options)

    def claim(self, node: str = "node1", ttl: int = 60) -> Response:
        response = self.api(node)("PUT", CLAIM, {"holder": self._name, "ttl": ttl})
        fits("ClaimStatus" if response.status == 200 else "Problem", response.data)
        return response


def created(control: Control) -> str:
    return Api(control, "node1")("POST", "/hsm/packages", {}).code or "created"


def test_claim_is_valid_on_every_node(control: Control) -> None:
    """A claim holds on every node, and only a request with its token is the own one."""
    assert Api(control, "node1")("GET", CLAIM).data == FREE
    holder = Holder(control)
    made = holder.claim(ttl=60).data
    assert made["own"] is True
    assert (made["claim"]["holder"], made["claim"]["ttl"]) == ("run", 60)
    left = datetime.fromisoformat(made["claim"]["expires_at"]) - datetime.now(UTC)
    assert 55 < left.total_seconds() <= 60
    for node in NODES:
        assert holder.api(node)("GET", CLAIM).data["own"] is True
        other = Api(control, node)("GET", CLAIM).data
        assert (other["own"], other["claim"]["holder"]) == (False, "run")
    assert holder.token not in json.dumps([made, other])


def test_claim_second_holder_rejected(control: Control) -> None:
    """While one client has the claim, changes of others fail and name holder and end."""
    first, second = Holder(control, "first"), Holder(control, "second")
    assert first.claim().status == 200
    attempts = [
        second.claim("node2"),
        second.api("node3")("DELETE", CLAIM),
        second.api("node1")("POST", "/hsm/packages", {}),
        Api(control, "node1")("POST", "/hsm/packages", {}),
        Api(control, "node2")("POST", "/hsm/imports", b"no package"),
        Api(control, "node2")("DELETE", f"/hsm/imports/{'0' * 32}"),
        Api(control, "node3")("POST", "/hsm/restores", {"pin_pad": "front-usb", "source": "node1"}),
    ]
    for response in attempts:
        fits("Problem", response.data)
        assert (response.status, response.code) == (409, "cluster_claimed")
        assert response.data["claim"]["holder"] == "first"
        assert "first holds the claim until 2" in response.data["detail"]
    stopped = second.api("node3")("DELETE", f"/hsm/restores/{'0' * 32}")
    assert stopped.code == "not_found", "everybody can stop a restore"
    for path in ("/node", "/hsm/keys", "/hsm/packages", "/hsm/imports", "/hsm/restores", "/hsm/pin-pads", CLAIM):
        assert second.api("node1")("GET", path).status == 200
    assert first.api("node1")("POST", "/hsm/packages", {}).status == 201


def test_claim_put_again_replaces_holder_and_ttl(control: Control) -> None:
    """A repeated PUT with the token replaces holder and ttl, and the start stays."""
    holder = Holder(control)
    first = holder.claim(ttl=10).data["claim"]
    time.sleep(1.1)
    again = holder.api("node2")("PUT", CLAIM, {"holder": "other", "ttl": 120}).data["claim"]
    assert (again["holder"], again["ttl"], again["acquired_at"]) == ("other", 120, first["acquired_at"])


def test_claims_of_many_clients_at_once_give_one_holder(control: Control) -> None:
    """Of many simultaneous claims on all nodes, exactly one succeeds."""
    holders = [Holder(control, f"run {number}") for number in range(9)]
    with ThreadPoolExecutor(9) as pool:
        responses = list(pool.map(lambda pair: pair[1].claim(NODES[pair[0] % 3]), enumerate(holders)))
    winners = [response for response in responses if response.status == 200]
    assert len(winners) == 1
    assert {response.code for response in responses} == {None, "cluster_claimed"}
    named = {response.data["claim"]["holder"] for response in responses}
    assert named == {winners[0].data["claim"]["holder"]}


@pytest.mark.parametrize("token", ["", "short", "x" * 65, "x" * 21, f"{'x' * 30}!", f"{'x' * 30} "[:31] + "y"])
def test_claim_malformed_token_rejected(control: Control, token: str) -> None:
    """A malformed token is rejected on every request, also without a claim and without the capability."""
    for profile in ([], ["cluster_claim=no"]):
        control.set_profile(*profile)
        api = Api(control, "node1", claim=token)
        for response in (api("GET", "/node"), api("GET", CLAIM), api("POST", "/hsm/packages", {})):
            assert response.code == "invalid_request"
    control.set_profile()
    assert Api(control, "node1")("PUT", CLAIM, {"holder": "run", "ttl": 60}).code == "invalid_request"
    assert Api(control, "node1")("DELETE", CLAIM).code == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"holder": "run"},
        {"ttl": 60},
        {"holder": "", "ttl": 60},
        {"holder": "r" * 201, "ttl": 60},
        {"holder": "\ud800", "ttl": 60},
        {"holder": 7, "ttl": 60},
        {"holder": "run", "ttl": 9},
        {"holder": "run", "ttl": 121},
        {"holder": "run", "ttl": True},
        {"holder": "run", "ttl": "60"},
        {"holder": "run", "ttl": 60.5},
        {"holder": "run", "ttl": 60, "force": True},
    ],
)
def test_claim_invalid_body_rejected(control: Control, body: dict[str, t.Any]) -> None:
    """An invalid body does not claim the cluster."""
    assert Holder(control).api("node1")("PUT", CLAIM, body).code == "invalid_request"
    assert Api(control, "node1")("GET", CLAIM).data == FREE


def test_claim_login_checked_first(control: Control) -> None:
    """The login is checked before the claim, and the claim before the state of objects."""
    Holder(control).claim()
    assert Api(control, "node1", client=None)("POST", "/hsm/packages", {}).code == "unauthenticated"
    assert Api(control, "node1", client="guest")("DELETE", CLAIM).code == "forbidden"
    assert Api(control, "node1")("POST", f"/hsm/imports/{'0' * 32}/apply", {}).code == "cluster_claimed"


def test_claim_release_frees_cluster(control: Control) -> None:
    """After DELETE the cluster is free, and the old token no longer changes anything."""
    holder = Holder(control)
    holder.claim()
    assert holder.api("node2")("DELETE", CLAIM).data == FREE
    assert holder.api("node3")("DELETE", CLAIM).data == FREE
    ended = holder.api("node1")("POST", "/hsm/packages", {})
    fits("Problem", ended.data)
    assert (ended.status, ended.code) == (409, "claim_ended")
    assert holder.api("node1")("DELETE", f"/hsm/packages/{'0' * 32}").code == "claim_ended"
    assert holder.api("node1")("GET", "/node").status == 200
    assert created(control) == "created"
    assert Holder(control, "next").claim().status == 200


def test_claim_end_erases_what_it_created(control: Control) -> None:
    """The end of a claim ends its packages and staged imports, and nothing of others."""
    foreign = Api(control, "node1")("POST", "/hsm/packages", {}).data["id"]
    content = Api(control, "node1")("GET", f"/hsm/packages/{foreign}/content").data
    before = Api(control, "node2")("POST", "/hsm/imports", content).data["id"]
    holder = Holder(control)
    holder.claim()
    own = holder.api("node1")("POST", "/hsm/packages", {}).data["id"]
    staged = holder.api("node2")("POST", "/hsm/imports", content).data["id"]
    holder.api("node3")("DELETE", CLAIM)
    assert Api(control, "node1")("GET", f"/hsm/packages/{own}/content").code == "package_not_ready"
    ended = Api(control, "node2")("GET", f"/hsm/imports/{staged}").data
    assert ended["state"] == "discarded"
    assert ended["problem"]["code"] == "claim_ended"
    assert Api(control, "node1")("GET", f"/hsm/packages/{foreign}/content").data == content
    assert Api(control, "node2")("GET", f"/hsm/imports/{before}").data["state"] == "staged"
    files = [path.stem for path in control.folder.glob("nodes/*/*/*.ksp")]
    assert sorted(files) == sorted([foreign, before])
    Api(control, "node2")("DELETE", f"/hsm/imports/{before}")


def test_claim_end_stops_unfinished_jobs(control: Control) -> None:
    """A package in the state `preparing` and an import in the state `checking` end with the claim."""
    holder = Holder(control)
    holder.claim()
    content = holder.api("node1").package()
    control.fault("async_package", node="node1", seconds=1.0)
    control.fault("async_import", node="node2", seconds=1.0)
    package = holder.api("node1")("POST", "/hsm/packages", {}).data
    staged = holder.api("node2")("POST", "/hsm/imports", content).data
    assert (package["state"], staged["state"]) == ("preparing", "checking")
    end_claim(control)
    for dummy in range(2):
        deleted = Api(control, "node1")("GET", f"/hsm/packages/{package['id']}").data
        discarded = Api(control, "node2")("GET", f"/hsm/imports/{staged['id']}").data
        fits("Package", deleted)
        fits("Import", discarded)
        assert (deleted["state"], deleted["problem"]["code"]) == ("deleted", "claim_ended")
        assert (discarded["state"], discarded["problem"]["code"]) == ("discarded", "claim_ended")
        wait_for(lambda: all(Api(control, node)("GET", "/node").data["running"] is None for node in NODES))
    assert list(control.folder.glob("nodes/*/*/*.ksp")) == []


def test_claim_end_cancels_waiting_import(control: Control) -> None:
    """An import that waits for cards becomes `canceled`, and the PIN pad is free again."""
    control.set_profile("cards=required")
    control.generate_key("node1", "waits")
    holder = Holder(control)
    holder.claim()
    target = holder.api("node2")
    staged = target("POST", "/hsm/imports", holder.api("node1").package()).data
    assert target.apply(staged).data["state"] == "waiting_for_card"
    holder.api("node1")("DELETE", CLAIM)
    ended = Api(control, "node2")("GET", f"/hsm/imports/{staged['id']}").data
    assert (ended["state"], ended["problem"]["code"]) == ("canceled", "claim_ended")
    assert Api(control, "node2")("GET", "/node").data["running"] is None
    assert control.pin_pad("node2")["restore"] is None


def test_claim_end_does_not_stop_applying_import(control: Control) -> None:
    """An import in the state `applying` continues to its end."""
    control.generate_key("node1", "applying")
    holder = Holder(control)
    holder.claim()
    target = holder.api("node2")
    staged = target("POST", "/hsm/imports", holder.api("node1").package()).data
    control.fault("hold_apply", node="node2")
    with ThreadPoolExecutor(1) as pool:
        applied = pool.submit(target.apply, staged)
        place = f"/hsm/imports/{staged['id']}"
        wait_for(lambda: Api(control, "node2")("GET", place).data["state"] == "applying")
        end_claim(control)
        assert Api(control, "node1")("GET", CLAIM).data == FREE
        other = Holder(control, "other")
        assert other.claim().status == 200
        assert other.api("node2")("DELETE", place).code == "import_in_progress"
        control.clear_faults("hold_apply")
        assert applied.result().data["state"] == "applied"
    assert "applying" in {key["label"] for key in control.keys("node2")}
    assert Api(control, "node1")("GET", CLAIM).data["claim"]["holder"] == "other"


def test_claim_end_does_not_stop_restore(control: Control) -> None:
    """A guided restore of a claim that has ended continues with people at the PIN pad."""
    holder = Holder(control)
    holder.claim()
    body = {"pin_pad": "front-usb", "source": "node1"}
    restore = holder.api("node3")("POST", "/hsm/restores", body).data
    holder.api("node1")("DELETE", CLAIM)
    Holder(control, "other").claim()
    control.present_card("node3", "KEYOPS-1")
    control.present_card("node3", "KEYOPS-2")
    wait_for(lambda: Api(control, "node3")("GET", "/node").data["running"] is None)
    assert Api(control, "node3")("GET", f"/hsm/restores/{restore['id']}").data["state"] == "succeeded"
    control.factory_reset("node3")


@pytest.mark.parametrize("step", ["upload", "apply", "package"])
def test_claim_checked_again_before_acting(control: Control, step: str) -> None:
    """A claim that ends after the first check of a request still stops the request before it acts."""
    control.generate_key("node1", f"ends-{step}")
    holder = Holder(control)
    holder.claim()
    source, target = holder.api("node1"), holder.api("node2")
    content, before = source.package(), control.keys("node2")
    staged = target("POST", "/hsm/imports", content).data if step == "apply" else {}
    node, path = {"upload": ("node2", "/imports$"), "apply": ("node2", "/apply$"), "package": ("node1", "/packages$")}[
        step
    ]
    control.fault("end_claim", node=node, method="POST", path=path, when="during")
    act: dict[str, t.Callable[[], Response]] = {
        "upload": lambda: target("POST", "/hsm/imports", content),
        "apply": lambda: target.apply(staged),
        "package": lambda: source("POST", "/hsm/packages", {}),
    }
    response = act[step]()
    assert (response.status, response.code) == (409, "claim_ended")
    assert control.keys("node2") == before
    assert [one for one in target("GET", "/hsm/imports").data["imports"] if one["state"] == "staged"] == []
    assert Api(control, "node1")("GET", "/node").data["running"] is None


def test_claim_made_meanwhile_stops_unclaimed_upload(control: Control) -> None:
    """A request without a token that was accepted before a claim is stopped right before it acts."""
    content = Api(control, "node1").package()
    control.fault("latency", node="node2", method="POST", path="/imports$", seconds=0.1)
    with SlowUpload(control, "node2", content) as finish:
        assert Holder(control).claim().status == 200
        assert finish()["code"] == "cluster_claimed"


class SlowUpload:
    """An upload that stops before its last byte. Entering returns a function that sends the rest and returns the response."""

    def __init__(self, control: Control, node: str, content: bytes, claim: str | None = None) -> None:
        facts = control.node(node)
        tls = ssl.create_default_context(cafile=str(control.ca_file))
        tls.load_cert_chain(*control.client())
        self._connection = http.client.HTTPSConnection(facts["address"], facts["port"], timeout=30, context=tls)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        self._headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(content)),
            "Content-Digest": f"sha-256=:{digest}:",
            "Idempotency-Key": secrets.token_hex(16),
        }
        if claim:
            self._headers["Cluster-Claim"] = claim
        self._content = content

    def __enter__(self) -> t.Callable[[], dict[str, t.Any]]:
        self._connection.putrequest("POST", "/api/v1/hsm/imports")
        for name, value in self._headers.items():
            self._connection.putheader(name, value)
        self._connection.endheaders(self._content[:-1])
        time.sleep(0.5)  # the node has checked the claim
        return self._finish

    def _finish(self) -> dict[str, t.Any]:
        self._connection.send(self._content[-1:])
        return t.cast("dict[str, t.Any]", json.loads(self._connection.getresponse().read()))

    def __exit__(self, *dummy: object) -> None:
        self._connection.close()


# Time. One second of a claim takes 0.1 s.


@pytest.fixture(scope="module")
def fast() -> Iterator[Control]:
    with cluster(
        nodes=3, restored=2, keys=2, key_mix={"ec-p256": 1}, faults=True, claim_second=0.1, request_time=3
    ) as control:
        yield control
        assert "Traceback" not in (control.folder / "log").read_text(encoding="utf-8")


def free(control: Control) -> bool:
    return bool(Api(control, "node1")("GET", CLAIM).data == FREE)


def test_claim_ends_after_ttl_and_next_run_follows(fast: Control) -> None:
    """A killed holder loses the claim after its ttl, with everything that it created."""
    killed, waiting = Holder(fast, "killed"), Holder(fast, "waiting")
    killed.claim(ttl=20)
    content = killed.api("node1").package()
    staged = killed.api("node2")("POST", "/hsm/imports", content).data["id"]
    began = time.monotonic()
    assert waiting.claim("node2").code == "cluster_claimed"
    wait_for(lambda: waiting.claim("node2").status == 200, 10)
    assert 1.5 < time.monotonic() - began < 5
    assert Api(fast, "node2")("GET", f"/hsm/imports/{staged}").data["state"] == "discarded"
    assert killed.api("node2")("DELETE", f"/hsm/imports/{staged}").code == "cluster_claimed"
    waiting.api("node1")("DELETE", CLAIM)


def test_claim_ends_without_any_request(fast: Control) -> None:
    """The node erases what the claim created at its end, and does not wait for a request."""
    holder = Holder(fast)
    holder.claim(ttl=10)
    holder.api("node1")("POST", "/hsm/packages", {})

    def files() -> list[Path]:
        return list(fast.folder.glob("nodes/*/packages/*.ksp"))

    assert len(files()) == 1
    wait_for(lambda: not files() and not (fast.folder / "claim.json").exists(), 5)


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_claim_renewed_by_each_request(fast: Control, node: str) -> None:
    """Each request with the token renews the claim, also a GET and also a rejected request."""
    holder = Holder(fast)
    holder.claim(ttl=10)
    began = time.monotonic()
    while time.monotonic() - began < 2.5:
        time.sleep(0.3)
        holder.api(node)("GET", "/node")
        holder.api(node)("GET", f"/hsm/imports/{'0' * 32}")
    assert holder.api(node)("GET", CLAIM).data["own"] is True
    began = time.monotonic()
    wait_for(lambda: free(fast), 5)
    assert time.monotonic() - began > 0.7


def test_claim_does_not_end_during_request(fast: Control) -> None:
    """A claim does not end while an upload with its token runs, and its time counts from the response."""
    content = Api(fast, "node1").package()
    holder = Holder(fast)
    holder.claim(ttl=10)
    with SlowUpload(fast, "node2", content, holder.token) as finish:
        time.sleep(1.5)
        assert Holder(fast, "other").claim().code == "cluster_claimed"
        assert finish()["state"] == "staged"
    assert holder.api("node1")("GET", CLAIM).data["own"] is True
    holder.api("node1")("DELETE", CLAIM)


def test_claim_ends_after_hanging_request(fast: Control) -> None:
    """The node closes a request that takes too long, so a lost host does not keep the claim."""
    content = Api(fast, "node1").package()
    holder = Holder(fast)
    holder.claim(ttl=10)
    with SlowUpload(fast, "node2", content, holder.token) as finish:
        wait_for(lambda: free(fast), 10)
        with pytest.raises((OSError, http.client.HTTPException)):
            finish()
    assert list(fast.folder.glob("nodes/*/imports/*.part")) == []


def test_claim_ends_in_middle_of_import(fast: Control) -> None:
    """If the time of the holder ends between upload and apply, nothing is applied."""
    fast.generate_key("node1", "never-applied")
    holder = Holder(fast)
    holder.claim(ttl=10)
    target = holder.api("node2")
    staged = target("POST", "/hsm/imports", holder.api("node1").package()).data
    before = fast.keys("node2")
    wait_for(lambda: free(fast), 5)
    assert target.apply(staged).code == "claim_ended"
    assert fast.keys("node2") == before
    assert target("GET", f"/hsm/imports/{staged['id']}").data["state"] == "discarded"


def test_claim_survives_restart_of_one_node(fast: Control) -> None:
    """A restart of the node that got the claim does not end it, and the other nodes still know it."""
    holder = Holder(fast)
    holder.claim("node2", ttl=120)
    staged = holder.api("node2")("POST", "/hsm/imports", holder.api("node1").package()).data
    fast.fault("restart_node", node="node2", path="/node$", seconds=1.0)
    with pytest.raises((OSError, http.client.HTTPException)):
        holder.api("node2")("GET", "/node")
    assert Holder(fast, "other").claim("node1").code == "cluster_claimed"
    assert holder.api("node1")("GET", CLAIM).data["own"] is True

    def back() -> bool:
        try:
            return bool(holder.api("node2")("GET", CLAIM).data["own"])
        except (OSError, http.client.HTTPException):
            return False

    wait_for(back, 10)
    assert holder.api("node2")("GET", f"/hsm/imports/{staged['id']}").data["state"] == "staged"
    holder.api("node2")("DELETE", CLAIM)


def test_claim_requires_majority(fast: Control) -> None:
    """A node that reaches only itself cannot claim the cluster. With one of three members away it can."""
    fast.fault("node_down", node="node3")
    assert Holder(fast).claim("node1").status == 200
    end_claim(fast)
    fast.fault("node_down", node="node2")
    response = Holder(fast).claim("node1")
    assert (response.status, response.code) == (503, "unavailable")
    assert int(response.headers["Retry-After"]) <= 60
    fast.clear_faults()
    assert free(fast)


def test_claim_fault_rejects_unknown_time(fast: Control) -> None:
    """The fault end_claim has three times."""
    with pytest.raises(OperationError, match="before, during or after"):
        fast.fault("end_claim", when="never")


def test_claim_ends_after_its_response(fast: Control) -> None:
    """The fault end_claim can end the claim after a response."""
    holder = Holder(fast)
    holder.claim(ttl=120)
    fast.fault("end_claim", node="node1", method="POST", when="after")
    assert holder.api("node1")("POST", "/hsm/packages", {}).status == 201
    assert free(fast)


# Restarts of the process, which are restarts of all nodes


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_claim_ends_with_restart_of_all_nodes(how: str) -> None:
    """A restart of all nodes ends the claim and what was created with it, also after a kill."""
    with cluster(nodes=2, restored=2, keys=1, key_mix={"ec-p256": 1}) as control:
        content = Api(control, "node1").package()
        kept = Api(control, "node2")("POST", "/hsm/imports", content).data["id"]
        holder = Holder(control)
        holder.claim(ttl=120)
        package = holder.api("node1")("POST", "/hsm/packages", {}).data["id"]
        staged = holder.api("node2")("POST", "/hsm/imports", content).data["id"]
        stored = b"".join(path.read_bytes() for path in control.folder.rglob("*") if path.is_file())
        assert holder.token.encode() not in stored
        assert json.loads((control.folder / "claim.json").read_text(encoding="utf-8"))["holder"] == "run"
        if how == "kill":
            os.kill(control.pid, signal.SIGKILL)
            wait_for(lambda: process.running(control.folder) is None)
        else:
            control.down()
        Control.up(control.folder)
        assert Api(control, "node1")("GET", CLAIM).data == FREE
        assert holder.api("node2").apply({"id": staged, "keys_digest": "x"}).code == "claim_ended"
        ended = Api(control, "node2")("GET", f"/hsm/imports/{staged}").data
        assert (ended["state"], ended["problem"]["code"]) == ("discarded", "claim_ended")
        assert Api(control, "node2")("GET", f"/hsm/imports/{kept}").data["state"] == "staged"
        assert Api(control, "node1")("GET", f"/hsm/packages/{package}/content").code == "package_not_ready"
        assert not (control.folder / "claim.json").exists()


def test_claim_of_import_killed_while_applying() -> None:
    """A kill after the commit leaves the import applied. The claim has ended, and the next run can start."""
    with cluster(nodes=2, restored=2, keys=1, key_mix={"ec-p256": 1}, faults=True) as control:
        control.generate_key("node1", "committed")
        holder = Holder(control)
        holder.claim(ttl=120)
        target = holder.api("node2")
        staged = target("POST", "/hsm/imports", holder.api("node1").package()).data
        control.fault("crash_at", node="node2", point="hsm.after_commit")
        with pytest.raises((OSError, http.client.HTTPException)):
            target.apply(staged)
        Control.up(control.folder, faults=True)
        assert target("GET", f"/hsm/imports/{staged['id']}").data["state"] == "applied"
        assert control.keys("node2") == control.keys("node1")
        assert Holder(control, "next").claim().status == 200


# Nodes without the claim


def test_claim_offered_by_joined_nodes_only() -> None:
    """A node that has not joined does not offer the claim, and a profile removes it from all nodes."""
    with cluster(nodes=2, joined=1, keys=1, key_mix={"ec-p256": 1}) as control:
        assert "cluster_claim" in Api(control, "node1")("GET", "/node").data["capabilities"]
        assert "cluster_claim" not in Api(control, "node2")("GET", "/node").data["capabilities"]
        assert Holder(control).claim("node2").code == "not_supported"
        assert Holder(control).claim("node1").status == 200
        control.set_profile("cluster_claim=no")
        for response in (
            Api(control, "node1")("GET", CLAIM),
            Holder(control).claim("node1"),
            Holder(control).api("node1")("DELETE", CLAIM),
        ):
            assert (response.status, response.code) == (501, "not_supported")
        assert created(control) == "created"


def test_claim_does_not_bind_people(control: Control) -> None:
    """People at the PIN pads and commands of the simulator work while the cluster is claimed."""
    body = {"pin_pad": "front-usb", "source": "node1"}
    Api(control, "node3")("POST", "/hsm/restores", body)
    Holder(control).claim()
    assert control.insert_card("node3", "KEYOPS-1")["state"] == "waiting_for_pin"
    assert control.cancel_at_pin_pad("node3")["state"] == "canceled"
    assert control.generate_key("node1", "by-people")
