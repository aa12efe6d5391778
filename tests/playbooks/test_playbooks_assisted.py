# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""key_sync with transport assisted, behind a job without people: confirmations are data, and each run continues by state."""

from __future__ import annotations

import functools
import json
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.approvals import Person, write_approvals
from tests.support.assisted import CLUSTER, SYNC, Rehearsal, api_requests
from tests.support.playbook import finish, methods, start
from tests.support.wait import wait_for
from tests.support.webconf_person import WebconfPerson

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

NOT_CHECKED = "NOT CHECKED on this transport: keys that EJBCA does not show"


@pytest.fixture
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, **CLUSTER) as running:
        running.clear_log()
        yield running


@pytest.fixture
def rehearsal(control: Control, tmp_path: Path) -> Rehearsal:
    """A cluster whose source has a new key that EJBCA shows."""
    found = Rehearsal(control, tmp_path)
    found.new_key("fresh")
    return found


@pytest.fixture
def person(control: Control) -> WebconfPerson:
    return WebconfPerson(control, "Ada")


def test_each_run_continues_where_people_stopped(rehearsal: Rehearsal, person: WebconfPerson, tmp_path: Path) -> None:
    """Every run changes nothing but asks for the next step, and the last run records who confirmed what."""
    control = rehearsal.control
    first = rehearsal.sync()
    assert "confirmation_missing" in first.text
    assert "Click *Download Cluster Key Synchronization Package*." in first.text
    assert "node2 not touched: 2 key(s) are still missing" in first.text

    downloaded = person.act("node1", "package_downloaded")
    for node, other in (("node2", "node3"), ("node3", "node2")):
        run = rehearsal.sync(downloaded)
        assert "confirmation_missing" in run.text
        assert f'"node": "{node}", "step": "package_uploaded"' in run.text
        assert f'"node": "{other}", "step": "package_uploaded"' not in run.text
        assert "NOT DESTROYED. The package is where people downloaded it" in run.text
        person.upload(node)
        rehearsal.show(node)

    undestroyed = rehearsal.sync(downloaded)
    assert undestroyed.status != 0
    assert "Delete every copy of the package" in undestroyed.text
    audit = tmp_path / "audit.jsonl"
    env = {"UTRUST_AUDIT_FILE": str(audit), "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit"}
    uploaded = [person.confirmation(node, "package_uploaded") for node in ("node2", "node3")]
    last = rehearsal.sync(downloaded, *uploaded, person.act("node1", "package_destroyed"), env=env)
    assert (last.status, last.changed) == (0, 0), last.output
    assert "Ada confirmed that every copy was destroyed" in last.text
    assert NOT_CHECKED in last.text
    records = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
    steps = [record["result"]["step"] for record in records if record["event"] == "step_confirmed"]
    assert steps == ["package_uploaded", "package_uploaded", "package_destroyed"]
    planned = next(record["result"] for record in records if record["event"] == "declaration")
    assert planned["key_scope"] == "ejbca"
    assert "HSM serial number (declared)" in planned["not_checked"]
    assert api_requests(control) == []


def test_upload_during_a_run_is_verified_by_the_view(rehearsal: Rehearsal, person: WebconfPerson) -> None:
    """A confirmation alone proves nothing: the run waits until the view of each target shows the key."""
    downloaded = person.act("node1", "package_downloaded")
    uploaded = [person.confirmation(node, "package_uploaded") for node in ("node2", "node3")]
    destroyed = person.confirmation("node1", "package_destroyed")
    arguments = rehearsal.arguments(downloaded, *uploaded, destroyed, key_sync_ejbca_view_timeout=90)
    process = start(SYNC, rehearsal.control, *arguments, inventory=rehearsal.inventory)
    for node in ("node2", "node3"):
        person.upload(node)
        rehearsal.show(node)
    run = finish(process)
    assert run.status == 0, run.output
    assert rehearsal.labels("node2") == rehearsal.labels("node3") == rehearsal.labels("node1")


def test_check_mode_only_reads_and_names_what_is_not_checked(rehearsal: Rehearsal) -> None:
    run = rehearsal.sync(check=True)
    assert run.status == 0, run.output
    assert "node2 would be synchronized: 2 key(s) to add, 0 to replace" in run.text
    assert NOT_CHECKED in run.text
    assert methods(rehearsal.control) == {"GET"}
    assert api_requests(rehearsal.control) == []


def test_approvers_approve_what_nobody_checked(rehearsal: Rehearsal, person: WebconfPerson, tmp_path: Path) -> None:
    """The list is a part of the plan, so another declaration makes the plan outdated."""
    plan, people = tmp_path / "plan.json", [Person("Alice"), Person("Bob")]
    approvers = [each.approver() for each in people]
    # Both jobs have the strict number of approvals. A plan that was made with fewer would name the weaker value.
    strict = {"key_sync_approvers": approvers, "key_sync_approvals_required": 2}
    made = rehearsal.sync(check=True, key_sync_plan_dest=str(plan), key_sync_requested_by="Carol", **strict)
    assert made.status == 0, made.output
    document = json.loads(plan.read_text(encoding="utf-8"))
    assert "MBK (declared)" in document["changes"]["not_checked"]
    approved = {
        "key_sync_plan": str(plan),
        **strict,
        "key_sync_approvals": write_approvals(
            tmp_path / "approvals.json", *(each.approve(document["digest"]) for each in people)
        ),
    }
    downloaded = person.act("node1", "package_downloaded")
    person.upload("node2")
    rehearsal.show("node2")
    run = rehearsal.sync(downloaded, **approved)
    assert '"node": "node3", "step": "package_uploaded"' in run.text, run.output
    document["changes"]["not_checked"] = []
    plan.write_text(json.dumps(document), encoding="utf-8")
    assert "plan_" in rehearsal.sync(downloaded, **approved).text


def test_other_package_is_never_taken_for_the_exported_one(rehearsal: Rehearsal, person: WebconfPerson) -> None:
    downloaded = person.act("node1", "package_downloaded")
    uploaded = person.confirmation("node2", "package_uploaded", sha256="f" * 64)
    run = rehearsal.sync(downloaded, uploaded)
    assert "code: confirmation_mismatch" in run.text, run.output
    assert "The EJBCA view of node2 shows the same keys as before. The view can be old" in run.text
    assert "fresh" not in rehearsal.labels("node2") | rehearsal.labels("node3")


def test_upload_to_the_wrong_node_is_found_by_the_view(rehearsal: Rehearsal, person: WebconfPerson) -> None:
    """The next run continues with the node that people forgot."""
    downloaded = person.act("node1", "package_downloaded")
    person.upload("node3")
    uploaded = person.confirmation("node2", "package_uploaded")
    run = rehearsal.sync(downloaded, uploaded)
    assert "code: ejbca_view_not_verified" in run.text, run.output
    assert "Check which package was uploaded to which node" in run.text
    rehearsal.show("node3")
    again = rehearsal.sync(downloaded)
    assert '"node": "node2", "step": "package_uploaded"' in again.text, again.output
    assert '"node": "node3", "step": "package_uploaded"' not in again.text


def test_old_view_stops_the_rollout_before_the_next_node(rehearsal: Rehearsal, person: WebconfPerson) -> None:
    """The key is in the HSM of node2, but nobody can know that before its crypto token was reactivated."""
    downloaded = person.act("node1", "package_downloaded")
    person.upload("node2")
    uploaded = [person.confirmation(node, "package_uploaded") for node in ("node2", "node3")]
    run = rehearsal.sync(downloaded, *uploaded, key_sync_batch_size=1)
    assert "code: ejbca_view_not_verified" in run.text, run.output
    assert "node3: Ada confirmed step package_uploaded" not in run.text
    assert run.recap["node2"]["changed"] == 0
    assert "fresh" in rehearsal.labels("node2")


def test_killed_run_continues_by_state(rehearsal: Rehearsal, person: WebconfPerson) -> None:
    """The run waits for the view of node2 when it is killed. People finish the upload, and the next run needs only node3."""
    downloaded = person.act("node1", "package_downloaded")
    uploaded = person.confirmation("node2", "package_uploaded")
    arguments = rehearsal.arguments(downloaded, uploaded, key_sync_ejbca_view_timeout=90)
    process = start(SYNC, rehearsal.control, *arguments, inventory=rehearsal.inventory)
    rehearsal.control.clear_log()
    wait_for(functools.partial(_views_of, rehearsal.control, "node2", 3), 60)
    process.kill()
    process.communicate()
    person.upload("node2")
    rehearsal.show("node2")
    run = rehearsal.sync(downloaded)
    assert '"node": "node3", "step": "package_uploaded"' in run.text, run.output
    assert "cluster_claimed" not in run.text


def _views_of(control: Control, node: str, number: int) -> bool:
    """Whether EJBCA of a node has shown its list of crypto tokens this often."""
    return (
        sum(entry["path"].partition("?")[0].endswith("cryptotokens.xhtml") for entry in control.requests(node))
        >= number
    )


def test_inactive_token_is_never_a_node_without_keys(rehearsal: Rehearsal) -> None:
    """The keys of the source are in this crypto token, so nobody knows whether the target lacks them."""
    control = rehearsal.control
    control.ejbca("node1", "set", auto_activation=False)  # the database of all nodes
    control.ejbca("node2", "deactivate")
    run = rehearsal.sync(check=True)
    assert "node2: crypto_token_inactive: crypto token SigningToken of node2 is inactive" in run.text, run.output
    assert "1 key(s) to add" not in run.text


def test_inactive_token_of_the_source_is_named(rehearsal: Rehearsal) -> None:
    """Its keys are in the package, and nobody compares them."""
    control = rehearsal.control
    control.ejbca("node1", "set", auto_activation=False)
    control.ejbca("node1", "deactivate")
    run = rehearsal.sync(check=True)
    assert "source_not_ready" in run.text or "keys of the inactive crypto token" in run.text, run.output


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"utrust_ejbca_reader_client_cert": ""}, "credentials_missing"),
        ({"utrust_declared": {"cluster_id": "rack"}}, "declaration_invalid"),
        ({"utrust_declared": ""}, "declaration_invalid"),
        ({"utrust_bastion": "localhost"}, "transport_needs_controller"),
        ({"utrust_page_map": "latest"}, "page_map_unknown"),
        ({"utrust_ejbca_view": False}, "ejbca_view_left_out"),
    ],
    ids=str,
)
def test_source_that_cannot_be_assisted_is_refused(
    control: Control, tmp_path: Path, changed: dict[str, t.Any], code: str
) -> None:
    refused = Rehearsal(control, tmp_path, node1=changed)
    refused.new_key("refused")
    run = refused.sync()
    assert run.status != 0
    assert code in run.text, run.output
    assert methods(control) == {"GET"} or not methods(control)
    assert api_requests(control) == []


def test_nodes_with_two_transports_are_refused(control: Control, tmp_path: Path) -> None:
    control.set_api(True, node="node2")
    mixed = Rehearsal(control, tmp_path)
    run = mixed.sync(check=True)
    assert "transport_mismatch" in run.text or "node_not_joined" in run.text, run.output
