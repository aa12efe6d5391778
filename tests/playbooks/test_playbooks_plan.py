# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan, approval and application of a plan, as a user runs them."""

from __future__ import annotations

import base64
import json
import subprocess
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.approvals import Person, write_approvals
from tests.support.playbook import changing_methods, command, environment, finish, inventories, methods, play, start
from tests.support.wait import wait_until_applying

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

SYNC = "keyops.utrust.key_sync"


@pytest.fixture
def control() -> Iterator[Control]:
    """Three nodes, and a key on node1 that both targets lack."""
    with cluster(nodes=3, restored=3, keys=3, faults=True) as control:
        control.generate_key("node1", "plannedKey")
        yield control


def extra(**variables: t.Any) -> list[str]:
    return ["-e", json.dumps(variables)]


def test_plan_with_two_approvals_is_applied(control: Control, tmp_path: Path) -> None:
    """The run applies the plan of check mode after two people other than the requester approve."""
    path = tmp_path / "plan.json"

    made = play(SYNC, control, "--check", *extra(key_sync_plan_dest=str(path), key_sync_requested_by="Ada"))

    assert made.status == 0, made.output
    assert methods(control) == {"GET"}
    plan = json.loads(path.read_bytes())
    assert [key["label"] for key in plan["changes"]["targets"]["node2"]["add"]] == ["plannedKey"]
    assert plan["changes"]["mbk"]["check_value"] == control.node("node1")["mbk"]["check_value"]
    assert plan["requested_by"] == "Ada"

    people = {name: Person(name) for name in ("Ada", "Ben", "Cleo")}
    approvers = [person.approver() for person in people.values()]

    def apply(*names: str) -> t.Any:
        entries = [people[name].approve(plan["digest"]) for name in names]
        approvals = write_approvals(tmp_path / "approvals.json", *entries)
        options = {"key_sync_plan": str(path), "key_sync_approvals": approvals, "key_sync_approvers": approvers}
        return play(SYNC, control, *extra(key_sync_approvals_required=2, **options))

    refused = apply("Ada", "Ben")
    assert refused.status != 0
    assert "approvals_missing" in refused.text
    assert "approval_by_requester: Ada requested the plan" in refused.text
    assert changing_methods(control) == set()

    applied = apply("Ben", "Cleo")
    assert applied.status == 0, applied.output
    assert applied.changed == 2
    assert len(set(inventories(control).values())) == 1
    assert "node2 synchronized now: 1 key(s) added, 0 replaced. Make a new backup" in applied.text
    assert apply("Ben", "Cleo").changed == 0


def test_outdated_plan_is_rejected(control: Control, tmp_path: Path) -> None:
    """The run fails if the keys changed after the plan was written."""
    path = tmp_path / "plan.json"
    assert play(SYNC, control, "--check", *extra(key_sync_plan_dest=str(path))).status == 0
    control.generate_key("node1", "laterKey")

    run = play(SYNC, control, *extra(key_sync_plan=str(path)))

    assert run.status != 0
    assert "plan_outdated" in run.text
    assert "source.keys_digest was" in run.text
    assert changing_methods(control) == set()


def test_altered_plan_is_rejected(control: Control, tmp_path: Path) -> None:
    """The run fails if the digest of the plan does not match."""
    path = tmp_path / "plan.json"
    assert play(SYNC, control, "--check", *extra(key_sync_plan_dest=str(path))).status == 0
    text = path.read_text(encoding="utf-8")
    altered = text.replace('"extra_keys": "fail"', '"extra_keys": "keep"')
    assert altered != text
    path.write_text(altered, encoding="utf-8")

    run = play(SYNC, control, *extra(key_sync_plan=str(path)))

    assert run.status != 0
    assert "plan_digest_mismatch" in run.text
    assert changing_methods(control) == set()


@pytest.mark.parametrize(
    ("text", "code"),
    [(None, "plan_unreadable"), ("a: [", "plan_invalid"), ("{}\n", "plan_invalid"), ('{"format":1}', "plan_invalid")],
)
def test_unreadable_plan_is_rejected(control: Control, tmp_path: Path, text: str | None, code: str) -> None:
    """The run fails if the plan is missing or invalid."""
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    run = play(SYNC, control, *extra(key_sync_plan=str(path)))

    assert run.status != 0
    assert code in run.text
    assert methods(control) == set()


def test_approvals_without_plan_are_rejected(control: Control) -> None:
    """Required approvals without a plan are an error."""
    run = play(SYNC, control, *extra(key_sync_approvals_required=2, key_sync_approvers=[Person("Ben").approver()]))

    assert run.status != 0
    assert "plan_missing" in run.text
    assert methods(control) == set()


def test_failed_run_ends_with_the_result_of_every_node(control: Control) -> None:
    """The last task shows the result of every node, also after a failure."""
    control.fault("lost_response_before", node="node2", method="POST", path="/apply$")

    run = play(SYNC, control, "-e", "key_sync_wait_timeout=3")

    assert run.status != 0
    end = " ".join(run.output[run.output.index("Verify all nodes") :].split())
    assert "node2 not touched: 1 key(s) are still missing" in end
    assert "node3 not touched: 1 key(s) are still missing" in end


@pytest.mark.parametrize(
    "option",
    [
        {"key_sync_import_effect": "overwriting"},
        {"key_sync_dest": "kept.ksp"},
        {"key_sync_allow_outage": True},
        {"key_sync_ignore_members": ["node9"]},
        {"key_sync_batch_size": 1},
        {"key_sync_max_backup_hours": 1000000},
        {"key_sync_min_certificate_days": 0},
        {"key_sync_max_clock_skew": 59},
    ],
    ids=lambda option: next(iter(option)),
)
def test_option_that_the_plan_does_not_have_is_refused(
    control: Control, tmp_path: Path, option: dict[str, t.Any]
) -> None:
    """A plan covers every option that changes what a run does."""
    path, kept = tmp_path / "plan.json", tmp_path / "kept"
    kept.mkdir(mode=0o700)
    option = {name: str(kept / value) if name == "key_sync_dest" else value for name, value in option.items()}
    backups = {
        "key_sync_manual_confirmations": [
            {"subject": "backup", "node": node, "confirmed_by": "Ada", "reason": "seen"}
            for node in ("node1", "node2", "node3")
        ]
    }
    assert play(SYNC, control, "--check", *extra(key_sync_plan_dest=str(path), **backups)).status == 0

    run = play(SYNC, control, *extra(key_sync_plan=str(path), **backups, **option))

    assert run.status != 0
    name = next(iter(option)).removeprefix("key_sync_")
    assert f"options.{name} was" in run.text or (name == "batch_size" and "plan_outdated" in run.text)
    assert changing_methods(control) == set()


def test_plan_dest_is_relative_to_the_working_directory(control: Control, tmp_path: Path) -> None:
    """A relative path does not lead into the installed collection."""
    process = subprocess.run(
        command(SYNC, control, "--check", "-e", "key_sync_plan_dest=plan.json"),
        cwd=tmp_path,
        env={name: value for name, value in environment().items() if name != "PWD"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    assert json.loads((tmp_path / "plan.json").read_bytes())["requested_by"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Control]:
    """Two nodes with the same keys. No test changes them."""
    with cluster(nodes=2, restored=2, keys=2) as control:
        yield control


def test_plan_as_base64_travels_between_jobs(control: Control, tmp_path: Path) -> None:
    """A second job applies the base64 text of the plan that the first job returned, with approvals as base64 text."""
    path = tmp_path / "plan.json"
    assert play(SYNC, control, "--check", *extra(key_sync_plan_dest=str(path))).status == 0
    content = path.read_bytes()
    ben = Person("Ben")
    approvals = json.dumps([ben.approve(json.loads(content)["digest"])]).encode()

    run = play(
        SYNC,
        control,
        *extra(
            key_sync_plan_base64=base64.b64encode(content).decode(),
            key_sync_approvals_base64=base64.b64encode(approvals).decode(),
            key_sync_approvals_required=1,
            key_sync_approvers=[ben.approver()],
        ),
    )

    assert run.status == 0, run.output
    assert run.changed == 2


MARK = "{{ lookup('pipe', 'touch MARK') }}"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"key_sync_approvals": [{"name": "Ben", "time": "2026-11-23T13:00:00Z"}]}, "option_invalid"),
        ({"key_sync_approvals": {"name": "Ben"}}, "option_invalid"),
        ({"key_sync_plan": {"format": 1}}, "option_invalid"),
        ({"key_sync_approvals": "/nonexistent/approvals.json"}, "approvals_unreadable"),
        ({"key_sync_approvals_base64": "W10=", "key_sync_approvals": "/dev/null"}, "option_invalid"),
        ({"key_sync_plan_base64": "W10=", "key_sync_plan": "/dev/null"}, "option_invalid"),
        ({"key_sync_plan_base64": "W10="}, "plan_invalid"),
        ({"key_sync_approvals_base64": "e30="}, "approvals_invalid"),
        ({"key_sync_approvals_required": 1}, "approvers_missing"),
        ({"key_sync_approvals_required": "two"}, "option_invalid"),
        ({"key_sync_approvals_required": -1}, "option_invalid"),
        ({"key_sync_approvers": [{"name": "Ben", "public_key": "x"}]}, "option_invalid"),
        ({"key_sync_approvers": [Person("Ben").approver(), Person("B\u200ben").approver()]}, "approver_duplicate"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_plan_and_approvals_of_another_form_are_refused(shared: Control, options: dict[str, t.Any], code: str) -> None:
    """The run fails before it contacts a node."""
    run = play(SYNC, shared, *extra(**options))
    assert run.status != 0
    assert code in run.text
    assert methods(shared) == set()


def test_file_of_approvals_is_never_evaluated(control: Control, tmp_path: Path) -> None:
    """Template syntax of an approver stays text, also where it is shown and recorded."""
    path, mark, audit = tmp_path / "plan.json", tmp_path / "mark", tmp_path / "audit.jsonl"
    assert play(SYNC, control, "--check", *extra(key_sync_plan_dest=str(path))).status == 0
    digest = json.loads(path.read_bytes())["digest"]
    ben, hostile = Person("Ben"), Person(MARK.replace("MARK", str(mark)), "mallory")
    approvals = write_approvals(tmp_path / "approvals.json", ben.approve(digest), hostile.approve(digest))
    options = {"key_sync_plan": str(path), "key_sync_approvals": approvals, "key_sync_approvers": [ben.approver()]}
    env = {
        "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit",
        "UTRUST_AUDIT_FILE": str(audit),
        "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
    }

    refused = play(SYNC, control, *extra(key_sync_approvals_required=2, **options), env=env)
    applied = play(SYNC, control, *extra(key_sync_approvals_required=1, **options), "-vv", env=env)

    assert "approver_unknown" in refused.text
    assert (refused.status != 0, applied.status) == (True, 0), applied.output
    assert hostile.name in audit.read_text(encoding="utf-8")
    assert not mark.exists()


def test_variables_of_a_target_do_not_change_the_plan(control: Control, tmp_path: Path) -> None:
    """The imports use the options that were planned and approved."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    inventory["utrust"]["hosts"]["node3"] |= {
        "key_sync_extra_keys": "keep",
        "key_sync_dest": str(tmp_path / "leak.ksp"),
    }
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    tasks = [
        {
            "ansible.builtin.include_role": {"name": "keyops.utrust.key_sync"},
            "vars": {"key_sync_source": "node1", "key_sync_canary": "node2"},
        },
    ]
    playbook = tmp_path / "sync.yml"
    playbook.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    # node3 gets an extra key after the plan was made, while node2 imports.
    control.fault("hold_apply", node="node2")
    process = start(str(playbook), control, inventory=tmp_path / "inventory.yml")
    wait_until_applying(control, "node2")
    control.generate_key("node3", "onlyHere")
    control.clear_faults()
    run = finish(process)

    assert run.status != 0
    assert "extra_keys" in run.text
    assert "plannedKey" not in [key["label"] for key in control.keys("node3")]
    assert not (tmp_path / "leak.ksp").exists()
