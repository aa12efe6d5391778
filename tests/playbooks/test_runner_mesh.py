# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs on other machines of AWX's mesh: the controller sends a job as a stream, and gets back its events and artifacts."""

from __future__ import annotations

import shutil
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.approvals import Person, encode_approvals
from tests.support.awx_job import RUNNER, Controller, JobResult, isolated, job_environment
from tests.support.awx_mesh import process, transmit, work
from tests.support.playbook import changing_methods, inventories

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control


@pytest.fixture
def control() -> Iterator[Control]:
    """Three nodes, and a key on node1 that both targets lack."""
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}) as control:
        control.generate_key("node1", "newKey")
        yield control


@pytest.fixture(scope="module")
def equal() -> Iterator[Control]:
    """Three nodes with the same keys. No test changes a node."""
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}) as control:
        yield control


def run_on_mesh(controller: Controller, folder: Path, private: Path, *arguments: str) -> JobResult:
    """Send a job to an execution node. The directories of both sides exist for this job only, and each side sees only its own."""
    here, there = folder / "controller", folder / "execution-node"
    here.mkdir()
    there.mkdir()
    (there / "home").mkdir(mode=0o555)
    moved = folder / "sent"
    private.rename(moved)
    sent = transmit(moved, *arguments)
    shutil.rmtree(moved)
    worker = isolated(RUNNER, "worker", "--private-data-dir", str(there / "job"))
    events, shown = work(worker, sent, env=job_environment(there), cwd=there)
    shutil.rmtree(there)
    result = process(here, events, shown)
    shutil.rmtree(here)
    return result


def test_workflow_on_machines_that_share_nothing(control: Control, tmp_path: Path) -> None:
    """Plan and application run on two execution nodes, and the plan reaches the second one as an artifact."""
    controller = Controller(control, tmp_path / "jobs")
    ben = Person("Ben")
    controller.group_vars |= {"key_sync_approvals_required": 1, "key_sync_approvers": [ben.approver()]}
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    made = run_on_mesh(controller, tmp_path / "first", controller.prepare("key_sync"), "--check")
    assert made.status == "successful", made.output
    assert changing_methods(control) == set()
    approvals = encode_approvals(ben.approve(made.artifacts["key_sync_plan_digest"]))
    survey = {**made.artifacts, "key_sync_approvals_base64": approvals}
    run = run_on_mesh(controller, tmp_path / "second", controller.prepare("key_sync", survey))
    assert run.status == "successful", run.output
    assert run.changed == 2
    assert run.output.count("node2: package applied, verifying") == 1
    assert len(set(inventories(control).values())) == 1


@pytest.mark.parametrize("playbook", ["key_sync", "initial_sync"])
def test_job_on_nodes_without_a_claim_needs_a_shared_lock(tmp_path: Path, playbook: str) -> None:
    """Jobs of AWX run on several machines, so a lock on one of them protects nothing."""
    restored = 2 if playbook == "key_sync" else 1
    with cluster(nodes=2, restored=restored, keys=1, key_mix={"ec-p256": 1}) as control:
        control.set_profile("cluster_claim=no")
        control.generate_key("node1", "newKey")
        controller = Controller(control, tmp_path)
        survey = {"key_sync_allow_outage": "true", "utrust_lock_dir": ""}
        refused = controller.run(playbook, survey)
        assert refused.status == "failed"
        assert "claim_not_shared" in refused.text
        assert changing_methods(control) == set()
        if playbook == "key_sync":
            (tmp_path / "volume").mkdir()
            run = controller.run(playbook, {**survey, "utrust_lock_dir": str(tmp_path / "volume")})
            assert run.status == "successful", run.output
            assert len(set(inventories(control).values())) == 1


@pytest.mark.parametrize(("number", "code"), [(1, "member_not_in_inventory"), (2, "host_unknown")])
@pytest.mark.parametrize("playbook", ["key_sync", "initial_sync"])
def test_slice_of_a_cluster_is_refused(equal: Control, tmp_path: Path, playbook: str, number: int, code: str) -> None:
    """A sliced job has a part of the inventory. One part lacks a member, and the other part lacks the source."""
    controller = Controller(equal, tmp_path)
    controller.slice = (number, 2)
    run = controller.run(playbook, {"key_sync_allow_outage": "true"})
    assert run.status == "failed", run.output
    assert code in run.text
    assert changing_methods(equal) == set()


def test_limit_of_a_job_names_the_other_members(control: Control, tmp_path: Path) -> None:
    """A limit leaves the inventory complete, so the run names the members that it did not synchronize."""
    run = Controller(control, tmp_path).run("key_sync", None, "--limit", "node3")
    assert run.status == "successful", run.output
    assert "node2 MUST BE GATED before use" in run.text
