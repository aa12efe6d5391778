# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test utrust_cluster_claim through both runners: the later tasks of a run use its claim, and nothing shows the token."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import RUN_PREFIX
from utrust_appliance.testing import Api, cluster

from tests.support.playbook import methods
from tests.support.runners import connection_args, node_variables, task
from tests.support.wait import wait_for, wait_until_applying

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.runners import AnsibleRunner

CLAIM, EXPORT, IMPORT = "utrust_cluster_claim", "utrust_ksp_export", "utrust_ksp_import"
PATH = "/cluster/claim"
TOKEN = "a-token-of-another-client-0001"
HOLDER = "another run by bob@controller2 (pid 1)"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=1, key_mix={"ec-p256": 1}, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    running.clear_log()
    yield running
    running.clear_faults()
    running.set_profile()
    Api(running, "node1", claim=TOKEN)("DELETE", PATH)


def hosts_of(control: Control) -> dict[str, t.Any]:
    return {node: node_variables(control, node, utrust_source="node1") for node in ("node1", "node2")}


def claim_by_other(control: Control) -> None:
    assert Api(control, "node1", claim=TOKEN)("PUT", PATH, {"holder": HOLDER, "ttl": 120}).status == 200
    control.clear_log()


def test_later_tasks_use_the_claim(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """An export and an import of the same run are accepted. No result and no output has the token."""
    control.generate_key("node1", f"claimed-{runner.name}")
    package = str(tmp_path / "cluster.ksp")
    control.fault("hold_apply", node="node2")
    started = runner.start(
        task(CLAIM, {}, run_once=True),
        task(CLAIM, {}, run_once=True),
        task(EXPORT, connection_args(control, "node1", dest=package), run_once=True, register="export"),
        task(
            IMPORT,
            {"src": package, "manifest_sha256": "{{ export.manifest_sha256 }}"},
            when="inventory_hostname == 'node2'",
        ),
        task(CLAIM, {"state": "absent"}, run_once=True),
        task(CLAIM, {"state": "absent"}, run_once=True),
        hosts=hosts_of(control),
        arguments=["-vvvv"],
        env={"ANSIBLE_INJECT_INVOCATION": "true"},
    )
    wait_until_applying(control, "node2")
    [file] = (runner.folder / "runtime").glob(f"{RUN_PREFIX}*/*.claim")
    token = json.loads(file.read_text(encoding="utf-8"))["token"]
    control.clear_faults()
    ran = runner.finish(started)
    results = [result for result in ran.results if not result.get("skipped")]
    assert [result.get("failed", False) for result in results] == [False] * 6, ran.output
    assert [result["changed"] for result in results] == [True, False, True, True, True, False]
    claim = results[0]["claim"]
    assert claim["holder"].startswith("ansible-playbook by ")
    assert claim["ttl"] == 120
    assert token not in ran.output + json.dumps(ran.results)
    wait_for(lambda: not list((runner.folder / "runtime").iterdir()))
    assert Api(control, "node1")("GET", PATH).data["claim"] is None


def test_claim_of_other_run_is_reported(control: Control, runner: AnsibleRunner) -> None:
    """A run that does not wait fails, names the holder, and sends nothing else."""
    claim_by_other(control)
    ran = runner.run(task(CLAIM, {"claim_wait": 0}, run_once=True), hosts=hosts_of(control))
    assert (ran.result["failed"], ran.result["code"]) == (True, "cluster_claimed")
    assert ran.result["claim"]["holder"] == HOLDER
    assert f"{HOLDER} has claimed the cluster until" in ran.result["msg"]


def test_check_mode_reports_claim_of_other_run(control: Control, runner: AnsibleRunner) -> None:
    claim_by_other(control)
    ran = runner.run(task(CLAIM, {}, run_once=True), hosts=hosts_of(control), arguments=["--check"])
    assert (ran.result["failed"], ran.result["code"]) == (True, "cluster_claimed")
    assert methods(control) == {"GET"}


def test_check_mode_predicts_the_claim(control: Control, runner: AnsibleRunner) -> None:
    ran = runner.run(task(CLAIM, {}, run_once=True), hosts=hosts_of(control), arguments=["--check"])
    assert (ran.result["failed"], ran.result["changed"], ran.result["claim"]) == (False, True, None)
    assert methods(control) == {"GET"}


def test_run_waits_for_the_claim(control: Control, runner: AnsibleRunner) -> None:
    """People see who has the claim, on the controller and with a bastion."""
    claim_by_other(control)
    started = runner.start(
        task(CLAIM, {}, run_once=True), task(CLAIM, {"state": "absent"}, run_once=True), hosts=hosts_of(control)
    )
    wait_for(lambda: any(request["status"] == 409 for request in control.requests("node1")))
    Api(control, "node1", claim=TOKEN)("DELETE", PATH)
    ran = runner.finish(started)
    assert [result["failed"] for result in ran.results] == [False, False]
    assert f"{HOLDER} has claimed the cluster until" in ran.output


@pytest.mark.parametrize("option", ["new_claim", "cluster_claim"])
def test_token_in_a_task_fails(control: Control, runner: AnsibleRunner, option: str) -> None:
    ran = runner.run(task(CLAIM, {option: "x" * 43}, run_once=True), hosts=hosts_of(control))
    assert (ran.result["failed"], ran.result["code"]) == (True, "option_invalid")
    assert "x" * 43 not in json.dumps(ran.results)
    assert control.requests("node1") == []


def test_node_without_claim_is_locked_on_the_controller(
    control: Control, runner: AnsibleRunner, tmp_path: Path
) -> None:
    """A node that does not offer the claim has none, so the run takes a lock. Nothing is sent to the node."""
    control.set_profile("cluster_claim=no")
    ran = runner.run(
        task(CLAIM, {}, run_once=True),
        task(CLAIM, {}, run_once=True),
        task(CLAIM, {"state": "absent"}, run_once=True),
        task(CLAIM, {"state": "absent"}, run_once=True),
        hosts=hosts_of(control),
        arguments=["-e", f"utrust_lock_dir={tmp_path}"],
    )
    assert [result["failed"] for result in ran.results] == [False] * 4, ran.output
    assert [result["changed"] for result in ran.results] == [True, False, True, False]
    assert ran.results[0]["supported"] is False
    assert len(list(tmp_path.glob("*.lock"))) == 1
    assert methods(control) == {"GET"}
