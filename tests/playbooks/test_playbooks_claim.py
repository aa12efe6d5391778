# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs at once on one cluster: one of them claims the cluster, and the other waits or fails without a change."""

from __future__ import annotations

import json
import os
import signal
import typing as t

import pytest
import yaml
from utrust_appliance.testing import Api, cluster

from tests.support.playbook import PACKAGES, finish, inventories, methods, play, start
from tests.support.wait import wait_for, wait_until_applying

if t.TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

SYNC = "keyops.utrust.key_sync"
CLAIM = "/cluster/claim"
TOKEN = "a-token-of-another-client-0001"
HOLDER = "another run by bob@controller2 (pid 1)"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}, faults=True, restart_time=1.0) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """Three nodes without faults and without a claim. A new key is on the source only."""
    running.generate_key("node1", f"key{len(running.keys('node1'))}")
    running.clear_log()
    yield running
    running.clear_faults()
    running.set_profile()
    Api(running, "node1", claim=TOKEN)("DELETE", CLAIM)


def claim_of(control: Control) -> dict[str, t.Any] | None:
    return t.cast("dict[str, t.Any] | None", Api(control, "node1")("GET", CLAIM).data["claim"])


def claim_by_other(control: Control, ttl: int = 120) -> None:
    assert Api(control, "node1", claim=TOKEN)("PUT", CLAIM, {"holder": HOLDER, "ttl": ttl}).status == 200


def claims_of_runs(control: Control) -> list[tuple[str, int]]:
    """The requests that took or released the claim, without those that were rejected because of another claim."""
    return [
        (request["method"], request["status"])
        for request in control.requests("node1")
        if request["path"].endswith(CLAIM) and request["method"] != "GET" and request["status"] != 409
    ]


def files_of_claims() -> set[Path]:
    return set(PACKAGES.glob("*/*.claim"))


def start_and_hold(control: Control, *arguments: str) -> subprocess.Popen[str]:
    """Start a run, and return when it has the claim and its import into node2 does not continue."""
    control.fault("hold_apply", node="node2")
    process = start(SYNC, control, *arguments)
    wait_until_applying(control, "node2")
    return process


def shown_holder(pid: int) -> str:
    return f"(pid {pid}) has claimed the cluster until"


def test_second_run_waits_and_then_goes(control: Control) -> None:
    """The first run has the claim until its end, and only then the second run reads the cluster."""
    control.set_profile("restart=node")
    first = start_and_hold(control)
    second = start(SYNC, control)
    wait_for(lambda: any(r["path"].endswith(CLAIM) and r["status"] == 409 for r in control.requests("node1")))
    control.clear_faults()

    done, waited = finish(first), finish(second)

    assert (done.status, waited.status) == (0, 0), done.output + waited.output
    assert shown_holder(first.pid) in waited.text
    assert "has claimed" not in done.text
    assert waited.changed == 0
    assert claims_of_runs(control) == [("PUT", 200), ("DELETE", 200)] * 2
    assert len(set(inventories(control).values())) == 1
    assert claim_of(control) is None
    assert files_of_claims() == set()


def test_limit_beside_limit_runs_one_after_the_other(control: Control) -> None:
    """Two runs with different targets would restart both at once, and the cluster would have no quorum."""
    control.set_profile("restart=node")
    first = start_and_hold(control, "--limit", "node2")
    second = start(SYNC, control, "--limit", "node3")
    wait_for(lambda: any(r["path"].endswith(CLAIM) and r["status"] == 409 for r in control.requests("node1")))
    assert [r for r in control.requests("node3") if r["method"] == "POST"] == []
    control.clear_faults()

    done, waited = finish(first), finish(second)

    assert (done.status, waited.status) == (0, 0), done.output + waited.output
    assert (done.recap["node2"]["changed"], waited.recap["node3"]["changed"]) == (1, 1)
    assert claims_of_runs(control) == [("PUT", 200), ("DELETE", 200)] * 2


def test_run_that_does_not_wait_fails_unchanged(control: Control) -> None:
    """The failure names the holder and the end of its claim."""
    before = inventories(control)
    claim_by_other(control)
    control.clear_log()

    run = play(SYNC, control, "-e", "key_sync_claim_wait=0")

    assert run.status != 0
    assert f"{HOLDER} has claimed the cluster until 20" in run.text
    assert "code: cluster_claimed" in run.text
    assert "Nothing was changed" in run.text
    assert inventories(control) == before
    assert methods(control) == {"GET", "PUT"}
    assert {r["path"] for r in control.requests("node1")} == {"/api/v1/node", "/api/v1/cluster/claim"}
    assert claim_of(control) is not None
    assert files_of_claims() == set()


def test_check_mode_reports_claim_of_other_run(control: Control) -> None:
    """Check mode never waits and only reads. The claim is one of the problems."""
    control.generate_key("node3", "onlyOnNode3")
    claim_by_other(control)
    control.clear_log()

    run = play(SYNC, control, "--check")

    assert run.status != 0
    assert f"node1: cluster_claimed: {HOLDER} has claimed the cluster until" in run.text
    assert "extra_key" in run.text, "the other problems are reported, too"
    assert methods(control) == {"GET"}
    control.delete_key("node3", "onlyOnNode3")


@pytest.mark.parametrize("playbook", ["keyops.utrust.status", "keyops.utrust.preflight"])
def test_reading_playbook_ignores_the_claim(control: Control, playbook: str) -> None:
    """Playbooks that only read neither take the claim nor fail because of it."""
    claim_by_other(control)
    control.clear_log()

    run = play(playbook, control)

    assert run.status == 0, run.output
    assert methods(control) == {"GET"}
    assert not any(r["path"].endswith(CLAIM) for r in control.requests("node1"))


def test_claim_is_released_after_problems(control: Control) -> None:
    """A plan with problems releases the claim itself, because no later task does."""
    control.generate_key("node3", "unknownKey")

    run = play(SYNC, control)

    assert run.status != 0
    assert "extra_key" in run.text
    assert claims_of_runs(control) == [("PUT", 200), ("DELETE", 200)]
    assert files_of_claims() == set()
    control.delete_key("node3", "unknownKey")


def test_claim_that_ends_during_an_import_stops_it(control: Control) -> None:
    """The node discards what is staged, and rejects the commit. The next run succeeds."""
    before = inventories(control)
    control.fault("end_claim", node="node2", method="POST", path="/imports$", when="after")

    run = play(SYNC, control)

    assert run.status != 0
    assert "claim_ended" in run.text
    assert inventories(control) == before
    assert claim_of(control) is None

    again = play(SYNC, control)
    assert again.status == 0, again.output
    assert len(set(inventories(control).values())) == 1


def test_claim_that_ended_between_nodes_is_taken_again(control: Control) -> None:
    """A claim can end while a node restarts. The run takes a new one, because nobody else has claimed the cluster."""
    control.fault("end_claim", node="node2", method="GET", path="/hsm/keys", when="after")

    run = play(SYNC, control, "-e", "key_sync_batch_size=1")

    assert run.status == 0, run.output
    assert claims_of_runs(control) == [("PUT", 200), ("PUT", 200), ("DELETE", 200)]
    assert len(set(inventories(control).values())) == 1


def test_claim_of_other_run_stops_the_next_node(control: Control) -> None:
    """If another run has claimed the cluster in the meantime, the next node stays as it is."""
    before = inventories(control)
    process = start_and_hold(control, "-e", "key_sync_batch_size=1")
    control.fault("end_claim", node="node1", method="GET", path="/node$")
    Api(control, "node1")("GET", "/node")
    claim_by_other(control)
    control.clear_faults()

    run = finish(process)

    assert run.status != 0
    assert f"{HOLDER} has claimed the cluster until" in run.text
    assert inventories(control)["node3"] == before["node3"]
    assert [r for r in control.requests("node3") if r["method"] == "POST"] == []
    claim = claim_of(control)
    assert claim is not None
    assert claim["holder"] == HOLDER


def test_token_is_in_no_output_and_no_record(control: Control, tmp_path: Path) -> None:
    """The token is in a private file of the run only, and not in the arguments of its processes."""
    audit = tmp_path / "audit.jsonl"
    environment = {
        "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit",
        "UTRUST_AUDIT_FILE": str(audit),
        "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
        "ANSIBLE_INJECT_INVOCATION": "true",
    }
    control.fault("hold_apply", node="node2")
    process = start(SYNC, control, "-vvvv", "--diff", env=environment)
    wait_until_applying(control, "node2")
    [file] = files_of_claims()
    token = json.loads(file.read_text(encoding="utf-8"))["token"]
    assert (file.parent.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    claim = claim_of(control)
    assert claim is not None
    assert claim["holder"].startswith("key_sync by ")
    assert claim["holder"].endswith(f"(pid {process.pid})")
    control.clear_faults()

    run = finish(process)

    assert run.status == 0, run.output
    assert len(token) >= 22
    assert token not in run.output
    assert token not in audit.read_text(encoding="utf-8")
    assert not [r for node in ("node1", "node2", "node3") for r in control.requests(node) if token in json.dumps(r)]
    assert files_of_claims() == set()


def test_bastion_claims_and_releases(control: Control, tmp_path: Path) -> None:
    """All requests are sent on the bastion, and the token is stored on the controller only."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    inventory["others"] = {"hosts": {"bastion": {"ansible_connection": "local", "ansible_host": "127.0.0.1"}}}
    path = tmp_path / "inventory.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")

    run = play(SYNC, control, "-e", "utrust_bastion=bastion", inventory=path)

    assert run.status == 0, run.output
    assert claims_of_runs(control) == [("PUT", 200), ("DELETE", 200)]
    assert len(set(inventories(control).values())) == 1
    assert files_of_claims() == set()


@pytest.fixture(scope="module")
def quick() -> Iterator[Control]:
    """A cluster in which a claim of 120 seconds ends after six seconds, and a restart takes longer than that."""
    with cluster(
        nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}, faults=True, claim_second=0.05, restart_time=8.0
    ) as control:
        yield control


def test_claim_of_killed_run_ends_by_itself(quick: Control) -> None:
    """The next run waits until the claim ends, and succeeds. The guard removes the token of the killed run."""
    quick.generate_key("node1", "killedKey")
    process = start_and_hold(quick)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    wait_for(lambda: not files_of_claims())  # by the guard
    quick.clear_faults()
    wait_for(lambda: quick.node("node2")["running"] is None)

    run = play(SYNC, quick)

    assert run.status == 0, run.output
    assert len(set(inventories(quick).values())) == 1


def test_restart_that_outlives_the_claim_does_not_end_the_run(quick: Control) -> None:
    """While the canary restarts, no request renews the claim. The run takes a new claim for the next node."""
    quick.generate_key("node1", "restartKey")
    quick.set_profile("restart=node")

    run = play(SYNC, quick, "-e", "key_sync_batch_size=1")

    assert run.status == 0, run.output
    assert len(set(inventories(quick).values())) == 1
    quick.set_profile()


def test_node_restart_keeps_the_claim(control: Control) -> None:
    """Node2 applies the package and restarts without a response. The claim of the run stays, and the run goes on."""
    control.fault("restart_node", node="node2", method="POST", path="/apply$", seconds=1.0)

    run = play(SYNC, control, "-e", "key_sync_batch_size=1")

    assert run.status == 0, run.output
    assert claims_of_runs(control) == [("PUT", 200), ("DELETE", 200)]
    assert len(set(inventories(control).values())) == 1


# Nodes without a claim


def test_nodes_without_claim_are_locked_by_the_run(control: Control, tmp_path: Path) -> None:
    """A second run on the same controller is refused or waits. The nodes get no request about a claim."""
    control.set_profile("cluster_claim=no")
    lock = ("-e", f"utrust_lock_dir={tmp_path}")
    first = start_and_hold(control, *lock)

    refused = play(SYNC, control, *lock, "-e", "key_sync_claim_wait=0")
    checked = play(SYNC, control, *lock, "--check")
    elsewhere = play(SYNC, control, "-e", "awx_job_id=7", "-e", "key_sync_claim_wait=0")
    waiting = start(SYNC, control, *lock)
    control.clear_faults()

    assert (refused.status, checked.status, elsewhere.status) == (2, 2, 2)
    for run in (refused, checked):
        assert "cluster_claimed" in run.text
        assert f"(pid {first.pid}) has locked the cluster" in run.text
    assert "claim_not_shared" in elsewhere.text
    for process in (first, waiting):
        run = finish(process)
        assert run.status == 0, run.output
    assert len([r for r in control.requests("node2") if r["path"].endswith("/apply")]) == 1
    assert claims_of_runs(control) == []


def test_lock_of_killed_run_ends_with_the_run(control: Control, tmp_path: Path) -> None:
    control.set_profile("cluster_claim=no")
    lock = ("-e", f"utrust_lock_dir={tmp_path}")
    killed = start_and_hold(control, *lock)
    os.kill(killed.pid, signal.SIGKILL)
    finish(killed)
    control.clear_faults()
    wait_for(lambda: control.node("node2")["running"] is None)

    run = play(SYNC, control, *lock, "-e", "key_sync_claim_wait=5")

    assert run.status == 0, run.output
    assert len(set(inventories(control).values())) == 1
