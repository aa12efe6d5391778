# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claims of a run on disk, and what a task does with them."""

from __future__ import annotations

import os
import stat
import threading
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils import _run_directory
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim import record as records
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim.record import (
    ClaimRecord,
    endpoint_of,
    save_record,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim.task import TaskClaims, describe_holder

if t.TYPE_CHECKING:
    from pathlib import Path

OPTIONS = {f"node{number}": {"host": f"127.0.0.{number}", "port": 8443} for number in (1, 2, 3)}
HOLDER = {"holder": "bob", "ttl": 120, "acquired_at": "a", "expires_at": "e"}
ROLE, OUTER = "keyops.utrust.key_sync", "keyops.utrust.renew_ca"
PID = os.getpid()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_run_directory, "base_directories", lambda: [tmp_path])
    monkeypatch.setattr(_run_directory, "start_guard", lambda *dummy: None)
    return tmp_path


def claim_files(base: Path) -> list[Path]:
    return sorted(base.glob("*/*" + records.SUFFIX))


class FakeNode:
    """Executes utrust_cluster_claim on a cluster with one claim."""

    def __init__(self) -> None:
        self.token: str | None = None
        self.calls: list[dict[str, t.Any]] = []

    def end(self) -> str | None:
        """End the claim, and return its token."""
        token, self.token = self.token, None
        return token

    def __call__(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        self.calls.append(arguments)
        token = arguments.get("cluster_claim")
        if arguments["state"] == "absent":
            self.token = None if token == self.token else self.token
            return {"changed": True, "claim": None, "supported": True}
        if self.token is not None and token != self.token:
            return {"failed": True, "code": "cluster_claimed", "msg": "bob has claimed the cluster", "claim": HOLDER}
        changed, self.token = self.token is None, self.token or arguments["new_claim"]
        return {"changed": changed, "claim": HOLDER, "supported": True}


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


def claims(node: t.Callable[[dict[str, t.Any]], dict[str, t.Any]], role: str = ROLE, **more: t.Any) -> TaskClaims:
    given = {"variables": {}, "show": lambda dummy: None, **more}
    return TaskClaims(PID, role, execute=node, options_of=OPTIONS.__getitem__, **given)


def test_claim_covers_all_nodes_of_the_play(base: Path, node: FakeNode) -> None:
    """The token is in a private file, and every operation of the run gets it, also for the nodes of a cluster."""
    assert claims(node).take("node1", ["node1", "node2"]) is True
    [file] = claim_files(base)
    assert (stat.S_IMODE(file.parent.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)
    given = claims(node).with_tokens({"host": " 127.0.0.2", "port": "8443"})
    assert given["cluster_claim"] == node.token
    several = claims(node).with_tokens({"nodes": [dict(OPTIONS["node1"]), dict(OPTIONS["node3"])]})
    assert ["cluster_claim" in options for options in several["nodes"]] == [True, False]


def test_claim_of_an_earlier_play_covers_this_play(base: Path, node: FakeNode) -> None:
    """Otherwise the run would be rejected because of its own claim."""
    claims(node, "").take("node1", [])
    assert claims(node).take("node1", ["node2", "node3"]) is False
    for name in OPTIONS:
        assert claims(node).with_tokens(dict(OPTIONS[name]))["cluster_claim"] == node.token
    claims(node).release("node1")
    assert node.token is not None, "the claim still belongs to the task that took it"
    claims(node, "").release("node3")
    assert not node.token
    assert claim_files(base) == []


def test_release_removes_the_token(base: Path, node: FakeNode) -> None:
    claims(node).take("node1", [])
    claims(node).release("node1")
    assert node.token is None
    assert claim_files(base) == []
    assert "cluster_claim" not in claims(node).with_tokens(dict(OPTIONS["node1"]))


def test_inner_role_neither_takes_nor_releases(base: Path, node: FakeNode) -> None:
    """The role that took the claim releases it, not a role inside of it."""
    claims(node, OUTER).take("node1", [])
    token = node.token
    assert claims(node).take("node1", []) is False
    claims(node).release("node1")
    assert node.token == token
    claims(node, OUTER).release("node1")
    assert node.token is None


def test_task_outside_of_roles_releases_every_claim(base: Path, node: FakeNode) -> None:
    claims(node).take("node1", [])
    claims(node, "").release("node1")
    assert node.token is None


def test_renewal_without_claim_does_nothing(base: Path, node: FakeNode) -> None:
    claims(node).renew(dict(OPTIONS["node2"]))
    assert node.calls == []
    assert claim_files(base) == []


def test_renewal_at_the_source_keeps_the_token(base: Path, node: FakeNode) -> None:
    claims(node).take("node1", ["node2"])
    token = node.token
    claims(node).renew(dict(OPTIONS["node2"]))
    assert (node.calls[-1]["host"], node.calls[-1]["cluster_claim"], node.calls[-1]["claim_wait"]) == (
        "127.0.0.1",
        token,
        0,
    )
    assert claims(node).with_tokens(dict(OPTIONS["node2"]))["cluster_claim"] == token


def test_renewal_after_the_end_takes_a_new_claim(base: Path, node: FakeNode) -> None:
    """The old token must not become valid again: a request with it can still be on its way."""
    claims(node, OUTER).take("node1", ["node2"])
    old = node.end()
    claims(node).renew(dict(OPTIONS["node2"]))
    assert node.token not in (None, old)
    assert claims(node).with_tokens(dict(OPTIONS["node2"]))["cluster_claim"] == node.token
    claims(node).release("node1")
    assert node.token is not None, "the claim still belongs to the role that took it first"


def test_renewal_fails_if_other_run_has_the_claim(base: Path, node: FakeNode) -> None:
    claims(node).take("node1", [])
    node.token = "of another run"
    with pytest.raises(UtrustError) as caught:
        claims(node).renew(dict(OPTIONS["node1"]))
    assert (caught.value.code, caught.value.details["claim"]) == ("cluster_claimed", HOLDER)


def test_renewal_at_unreachable_source_is_left_to_the_target(base: Path, node: FakeNode) -> None:
    """The target checks the claim itself."""
    claims(node).take("node1", [])
    claims(lambda dummy: {"failed": True, "code": "node_unreachable", "msg": "no route"}).renew(dict(OPTIONS["node1"]))


def test_parallel_renewals_take_one_new_claim(base: Path, node: FakeNode) -> None:
    """Two workers with two new tokens would reject each other."""
    claims(node).take("node1", ["node2", "node3"])
    node.end()
    failed: list[UtrustError] = []

    def renew(host: str) -> None:
        try:
            claims(node).renew(dict(OPTIONS[host]))
        except UtrustError as exc:
            failed.append(exc)

    workers = [threading.Thread(target=renew, args=(host,)) for host in OPTIONS]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failed == []
    assert claims(node).with_tokens(dict(OPTIONS["node3"]))["cluster_claim"] == node.token


def test_failed_claim_leaves_no_file(base: Path, node: FakeNode) -> None:
    node.token = "of another run"
    with pytest.raises(UtrustError):
        claims(node).take("node1", [])
    assert claim_files(base) == []


LOST = {"failed": True, "code": "response_lost", "msg": "the response was lost"}
UNREACHABLE = {"failed": True, "code": "node_unreachable", "msg": "no route"}


@pytest.mark.parametrize("failure", [LOST, UNREACHABLE], ids=["lost", "unreachable"])
@pytest.mark.parametrize("acted", [True, False], ids=["claimed", "not claimed"])
def test_claim_with_a_lost_response_is_not_of_another_run(
    base: Path, node: FakeNode, failure: dict[str, t.Any], acted: bool
) -> None:
    """The token is on disk before the request, so that the next task of the run requests the claim with the same token."""

    def lossy(arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        if acted:
            node(arguments)
        return failure

    with pytest.raises(UtrustError, match=str(failure["msg"])):
        claims(lossy).take("node1", ["node2"])
    assert "cluster_claim" not in claims(node).with_tokens(dict(OPTIONS["node1"])), "no request has a doubtful token"
    [file] = base.glob("*/*" + records.PENDING)
    assert (stat.S_IMODE(file.stat().st_mode), file.read_text()) == (0o600, node.token or file.read_text())

    claims(claim_again(node)).take("node1", ["node2"])
    assert claims(node).with_tokens(dict(OPTIONS["node2"]))["cluster_claim"] == node.token
    claims(node).release("node1")
    assert claim_files(base) == list(base.glob("*/*" + records.PENDING)) == []


def claim_again(node: FakeNode) -> t.Callable[[dict[str, t.Any]], dict[str, t.Any]]:
    """Return a node that accepts a second request with the token of its claim, as the contract says."""

    def execute(arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        if node.token is not None and arguments.get("new_claim") == node.token:
            return {"changed": True, "claim": HOLDER, "supported": True}
        return node(arguments)

    return execute


def test_renewal_with_a_lost_response_gets_its_claim(base: Path, node: FakeNode) -> None:
    """The claim had ended, and the run did not see that its new claim was accepted."""
    claims(node).take("node1", ["node2"])
    node.end()

    def lossy(arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        node(arguments)
        return LOST

    with pytest.raises(UtrustError):
        claims(lossy).renew(dict(OPTIONS["node2"]))
    claims(claim_again(node)).renew(dict(OPTIONS["node2"]))
    assert claims(node).with_tokens(dict(OPTIONS["node2"]))["cluster_claim"] == node.token


def test_bastion_wait_is_announced(base: Path, node: FakeNode) -> None:
    """A module has no terminal, so the action asks once without waiting."""
    node.token = "of another run"
    lines: list[str] = []
    with pytest.raises(UtrustError):
        claims(node, show=lines.append, remote=True).take("node1", [], claim_wait=7.0)
    assert lines == ["waiting at most 7.0 s. bob has claimed the cluster"]
    assert [call["claim_wait"] for call in node.calls] == [0, 7.0]


def test_full_disk_fails_with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(dummy: Path) -> t.NoReturn:
        raise UtrustError("no space left on device", code="package_not_written")

    monkeypatch.setattr(records.store, "atomic_write", full)
    with pytest.raises(UtrustError) as caught:
        save_record(tmp_path, ClaimRecord("t" * 43, "node1", ("127.0.0.1 8443",), ROLE))
    assert caught.value.code == "claim_not_stored"


def test_record_does_not_show_its_token() -> None:
    assert "secret" not in repr(ClaimRecord("secret", "node1", (), ROLE))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"host": "Node1 "}, "node1 443"),
        ({"host": "[::1]", "port": None}, "::1 443"),
        ({"host": "n", "port": " 8443"}, "n 8443"),
        ({}, " 443"),
    ],
)
def test_endpoint_is_normalized(options: dict[str, t.Any], expected: str) -> None:
    assert endpoint_of(options) == expected


@pytest.mark.parametrize(
    ("variables", "role", "expected"),
    [
        ({"awx_user_name": "alice", "awx_job_id": 7}, ROLE, "key_sync by alice@{host} (job 7)"),
        ({"tower_user_name": "bob"}, "", "ansible-playbook by bob@{host} (pid 4711)"),
    ],
)
def test_holder_names_person_controller_and_run(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, t.Any], role: str, expected: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "controller1")
    assert describe_holder(variables, role, 4711) == expected.format(host="controller1")
