# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan, approvals and application as separate jobs, which share nothing but what AWX hands over."""

from __future__ import annotations

import base64
import json
import shutil
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.approvals import Person, encode_approvals
from tests.support.awx_job import Controller, JobResult
from tests.support.playbook import changing_methods, inventories

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

ANNA, BEN, CLEO, DORA = Person("Anna"), Person("Ben", "ben", "ben.admin"), Person("Cleo"), Person("Dora")
#: An administrator writes these into the inventory.
APPROVERS: t.Final = {
    "key_sync_approvals_required": 2,
    "key_sync_approvers": [person.approver() for person in (ANNA, BEN, CLEO, DORA)],
}


@pytest.fixture
def control() -> Iterator[Control]:
    """Three nodes, and a key on node1 that both targets lack."""
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}) as control:
        control.generate_key("node1", "plannedKey")
        yield control


def controller_of(control: Control, folder: Path) -> Controller:
    controller = Controller(control, folder)
    controller.group_vars |= APPROVERS
    return controller


def last_lines(job: JobResult) -> str:
    """Return what the job shows between its last task and the recap."""
    return job.output[job.output.rindex("TASK [") : job.output.index("PLAY RECAP")]


def test_workflow_applies_exactly_the_approved_plan(control: Control, tmp_path: Path) -> None:
    """The plan travels as data, and the disk of the first job is gone before the second job starts."""
    controller = controller_of(control, tmp_path)
    made = controller.run("key_sync", {"key_sync_requested_by": ""}, "--check", user="anna")
    assert made.status == "successful", made.output
    shutil.rmtree(made.folder)
    plan = json.loads(base64.b64decode(made.artifacts["key_sync_plan_base64"]))
    digest = made.artifacts["key_sync_plan_digest"]
    assert (plan["digest"], plan["requested_by"], plan["requester_account"]) == (digest, "anna", "anna")
    assert set(made.artifacts) == {"key_sync_plan_base64", "key_sync_plan_digest"}
    shown = last_lines(made)
    assert "plannedKey" in shown
    assert "on node2, node3" in shown
    assert "plan of anna (account anna)" in shown
    assert digest in shown
    assert changing_methods(control) == set()

    approvals = encode_approvals(BEN.approve(digest), CLEO.approve(digest))
    applied = controller.run("key_sync", {**made.artifacts, "key_sync_approvals_base64": approvals}, user="dora")

    assert applied.status == "successful", applied.output
    assert applied.changed == 2
    assert digest in last_lines(applied)
    assert applied.artifacts == {}
    assert len(set(inventories(control).values())) == 1
    report = controller.run("status", {**made.artifacts, "key_status_fail_on_drift": "true"}, user="dora")
    assert report.status == "successful", report.output


class Attempt(t.NamedTuple):
    """Who makes the plan, who approves it, and who starts the job that applies it."""

    code: str
    requester: str | None = "anna"
    approvers: tuple[Person, ...] = (BEN, CLEO)
    launcher: str | None = "dora"
    survey: dict[str, t.Any] = {}
    forged: dict[str, t.Any] = {}
    inventory: dict[str, t.Any] = {}


REFUSED: t.Final = {
    "approved_by_the_launcher": Attempt("approval_by_launcher", launcher="ben"),
    "approved_by_an_account_of_the_launcher": Attempt("approval_by_launcher", launcher="BEN.Admin "),
    "approved_by_the_launcher_with_another_name": Attempt(
        "approval_by_launcher", launcher="ben", forged={"awx_user_name": "dora"}
    ),
    "approved_by_the_requester": Attempt("approval_by_requester", approvers=(ANNA, CLEO)),
    "approved_by_the_requester_with_another_name": Attempt(
        "approval_by_requester", approvers=(ANNA, CLEO), survey={"key_sync_requested_by": "Zoe"}
    ),
    "approved_by_one_person": Attempt("approvals_missing", approvers=(BEN,)),
    "approved_by_one_person_twice": Attempt("approvals_missing", approvers=(BEN, BEN)),
    "planned_by_a_schedule": Attempt("requester_unknown", requester=None),
    "started_by_a_schedule": Attempt("launcher_unknown", launcher=None),
    "planned_by_a_schedule_with_a_name": Attempt(
        "requester_unknown", requester=None, inventory={"awx_user_name": "zoe"}
    ),
    "started_by_a_schedule_with_a_name": Attempt(
        "launcher_unknown", launcher=None, inventory={"tower_user_name": "zoe"}
    ),
}


@pytest.fixture(scope="module")
def lacking() -> Iterator[Control]:
    """Two nodes, of which one lacks a key. No test changes a node."""
    with cluster(nodes=2, restored=2, keys=2, key_mix={"ec-p256": 1}) as control:
        control.generate_key("node1", "plannedKey")
        yield control


def make_plan(
    controller: Controller, requester: str | None, survey: dict[str, t.Any] | None = None
) -> dict[str, t.Any]:
    given = {"key_sync_allow_outage": "yes", **(survey or {})}
    made = controller.run("key_sync", given, "--check", user=requester)
    assert made.status == "successful", made.output
    return {"key_sync_allow_outage": "yes", **made.artifacts}


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=list(REFUSED))
def test_plan_without_approvals_of_others_is_refused(lacking: Control, tmp_path: Path, attempt: Attempt) -> None:
    controller = controller_of(lacking, tmp_path)
    controller.group_vars |= attempt.inventory
    plan = make_plan(controller, attempt.requester, attempt.survey)
    approvals = encode_approvals(*(person.approve(plan["key_sync_plan_digest"]) for person in attempt.approvers))
    given = {**plan, "key_sync_approvals_base64": approvals, **attempt.forged}
    run = controller.run("key_sync", given, user=attempt.launcher)
    assert run.status == "failed"
    assert attempt.code in run.text
    assert changing_methods(lacking) == set()


@pytest.mark.parametrize("forged", [{"awx_user_name": "zoe"}, {"tower_user_name": "zoe"}], ids=["awx", "tower"])
def test_plan_with_two_requesters_is_refused(lacking: Control, tmp_path: Path, forged: dict[str, str]) -> None:
    """A plan names one account, so the approval of the other account would count."""
    controller = controller_of(lacking, tmp_path)
    made = controller.run("key_sync", {"key_sync_allow_outage": "yes", **forged}, "--check", user="anna")
    assert made.status == "failed"
    assert "requester_unknown" in made.text
    assert made.artifacts == {}


def test_approvals_of_another_plan_are_refused(lacking: Control, tmp_path: Path) -> None:
    """Two plans of the same change differ, because each names its requester and time."""
    controller = controller_of(lacking, tmp_path)
    first, second = make_plan(controller, "anna"), make_plan(controller, "zoe")
    approvals = encode_approvals(*(person.approve(first["key_sync_plan_digest"]) for person in (BEN, CLEO)))
    run = controller.run("key_sync", {**second, "key_sync_approvals_base64": approvals}, user="dora")
    assert run.status == "failed"
    assert "approval_plan_mismatch" in run.text
    assert changing_methods(lacking) == set()


def test_job_without_a_plan_is_refused(lacking: Control, tmp_path: Path) -> None:
    """A blank field of the survey is not a plan."""
    controller = controller_of(lacking, tmp_path)
    run = controller.run("key_sync", {"key_sync_plan_base64": " ", "key_sync_approvals_base64": None})
    assert run.status == "failed"
    assert "plan_missing" in run.text
    assert changing_methods(lacking) == set()


@pytest.mark.parametrize("change", ["another_key", "other_keys_on_a_target"])
def test_plan_of_a_changed_cluster_is_refused(control: Control, tmp_path: Path, change: str) -> None:
    controller = controller_of(control, tmp_path)
    made = controller.run("key_sync", None, "--check")
    digest = made.artifacts["key_sync_plan_digest"]
    if change == "another_key":
        control.generate_key("node1", "laterKey")
    else:
        control.delete_key("node3", control.keys("node3")[0]["label"])
    approvals = encode_approvals(BEN.approve(digest), CLEO.approve(digest))
    run = controller.run("key_sync", {**made.artifacts, "key_sync_approvals_base64": approvals}, user="dora")
    assert run.status == "failed"
    assert "plan_outdated" in run.text
    assert changing_methods(control) == set()
