# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plays of users with the role key_sync: keywords, tags, conditions and values that must not switch a check off."""

from __future__ import annotations

import json
import typing as t
from itertools import cycle

import pytest
from utrust_appliance.testing import cluster

from tests.support.matrix import covering, some
from tests.support.playbook import changing_methods, inventories, methods, own_playbook, play, reset_cluster

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=2, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Control:
    """Three nodes with the same keys, and with empty logs."""
    reset_cluster(running)
    return running


ROLE = "keyops.utrust.key_sync"
IMPORT = {"ansible.builtin.import_role": {"name": ROLE}}
INCLUDE = {"ansible.builtin.include_role": {"name": ROLE}}


@pytest.mark.parametrize("dest", [None, "kept.ksp"])
def test_keyword_check_mode_of_the_caller_only_reads(control: Control, tmp_path: Path, dest: str | None) -> None:
    """The keyword counts as --check, although ansible_check_mode is false."""
    tmp_path.chmod(0o700)
    control.generate_key("node1", "onlyPredicted")
    caller = {"roles": [{"role": ROLE, "check_mode": True}]}
    arguments = ["-e", f"key_sync_dest={tmp_path / dest}"] if dest is not None else []

    run = play(own_playbook(tmp_path, caller), control, *arguments)

    assert run.status == 0, run.output
    assert "node3 would be synchronized: " in run.text
    assert changing_methods(control) == set()


IGNORED = {"ignore_errors": True}
CALLERS: dict[str, dict[str, t.Any]] = {
    "play": {**IGNORED, "roles": [ROLE]},
    "role": {"ignore_unreachable": True, "roles": [{"role": ROLE, **IGNORED}]},
    "import": {"tasks": [{**IMPORT, **IGNORED}]},
    "include": {"tasks": [{**INCLUDE, **IGNORED}]},
    "apply": {"tasks": [{"ansible.builtin.include_role": {"name": ROLE, "apply": IGNORED}}]},
    "block": {"tasks": [{"block": [INCLUDE], **IGNORED}]},
}
NOT_VALIDATED: dict[str, dict[str, t.Any]] = {
    "import": {"tasks": [{"ansible.builtin.import_role": {"name": ROLE, "rolespec_validate": False}}]},
    "include": {"tasks": [{"ansible.builtin.include_role": {"name": ROLE, "rolespec_validate": False}}], **IGNORED},
}


GATES: dict[str, dict[str, t.Any]] = {
    "approvers_missing": {"key_sync_approvals_required": 2},
    "audit_inactive": {"key_sync_audit": "required"},
    "quorum_at_risk": {},
}


@pytest.mark.parametrize(("caller", "code"), covering(list(CALLERS), list(GATES), strength=1))
def test_ignore_errors_of_the_caller_opens_no_gate(two_nodes: Control, tmp_path: Path, caller: str, code: str) -> None:
    """With ignore_errors of the caller, every gate still stops the role before a change."""
    two_nodes.clear_log()
    run = play(own_playbook(tmp_path, CALLERS[caller]), two_nodes, "-e", json.dumps(GATES[code]))
    assert run.status != 0, run.output
    assert code in run.text
    assert changing_methods(two_nodes) == set()


@pytest.mark.parametrize(
    ("value", "caller"),
    some([*zip(("two", "-1", -1, 1.5, "1.5", "0x2", [2], {"people": 2}, float("nan")), cycle(NOT_VALIDATED))], 4),
    ids=repr,
)
def test_number_of_approvals_is_checked_without_the_role_spec(
    two_nodes: Control, tmp_path: Path, caller: str, value: t.Any
) -> None:
    """A caller that turns the validation of the role off does not turn the approvals off."""
    two_nodes.clear_log()
    options = {"key_sync_approvals_required": value, "key_sync_allow_outage": True}
    run = play(own_playbook(tmp_path, NOT_VALIDATED[caller]), two_nodes, "-e", json.dumps(options))
    assert run.status != 0, run.output
    assert "approvals_required" in run.text
    assert methods(two_nodes) == set()


@pytest.mark.parametrize("value", some([None, "", " ", "0", 0, False], 2), ids=repr)
def test_blank_number_of_approvals_means_no_approvals(two_nodes: Control, tmp_path: Path, value: t.Any) -> None:
    """A survey that is left blank sets nothing. The value in the inventory is the one that counts."""
    options = {"key_sync_approvals_required": value, "key_sync_allow_outage": True}
    playbook = own_playbook(tmp_path, NOT_VALIDATED["import"])
    run = play(playbook, two_nodes, "--check", "-e", json.dumps(options))
    assert run.status == 0, run.output
    assert "node2 would be synchronized: " in run.text


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Control]:
    """A cluster that an import would stop, with a key that node2 lacks."""
    with cluster(nodes=2, restored=2, keys=1) as control:
        control.generate_key("node1", "neverImported")
        yield control


TAGGED = {"tags": ["sync"]}
SELECTIONS: list[tuple[dict[str, t.Any], list[str]]] = [
    (TAGGED, ["--tags", "sync"]),
    (TAGGED, ["--tags", "sync", "--skip-tags", "always"]),
    (TAGGED, ["--skip-tags", "untagged"]),
    (TAGGED, ["--tags", "tagged"]),
    ({}, ["--skip-tags", "tagged"]),
    ({}, ["--tags", "untagged"]),
    ({}, ["--skip-tags", "always,never"]),
]


@pytest.mark.parametrize(("selection", "form"), covering(SELECTIONS, ["role", "import"], strength=1), ids=repr)
def test_tags_do_not_cut_the_role(
    control: Control, tmp_path: Path, form: str, selection: tuple[dict[str, t.Any], list[str]]
) -> None:
    """The role runs as a whole, whatever tags the caller selects."""
    role, arguments = selection
    caller = {"roles": [{"role": ROLE, **role}]} if form == "role" else {"tasks": [{**IMPORT, **role}]}

    run = play(own_playbook(tmp_path, caller), control, *arguments)

    assert run.status == 0, run.output
    assert "node3  up to date" in run.output


@pytest.mark.parametrize("arguments", [["--tags", "sync"], ["--tags", "sync", "--skip-tags", "always,untagged"]])
def test_tags_that_an_include_applies_do_not_cut_the_role(
    control: Control, tmp_path: Path, arguments: list[str]
) -> None:
    role = {"name": ROLE, "apply": {"tags": ["sync"]}}
    caller = {"tasks": [{"ansible.builtin.include_role": role, "tags": ["sync"]}]}
    run = play(own_playbook(tmp_path, caller), control, *arguments)
    assert run.status == 0, run.output
    assert "node3  up to date" in run.output


@pytest.mark.parametrize(
    ("caller", "arguments"),
    [
        ({"roles": [ROLE]}, ["--tags", "activate"]),
        ({"roles": [ROLE]}, ["--skip-tags", "untagged"]),
        # Ansible includes the role, but not its tasks, because only apply gives them a tag.
        ({"tasks": [{**INCLUDE, "tags": ["sync"]}]}, ["--tags", "sync"]),
        ({"tasks": [{**INCLUDE, "tags": ["always"]}]}, ["--tags", "sync"]),
        ({"tasks": [{**INCLUDE, "tags": ["sync"]}]}, ["--tags", "sync", "--skip-tags", "always"]),
    ],
)
def test_tags_that_skip_the_role_change_nothing(
    control: Control, tmp_path: Path, caller: dict[str, t.Any], arguments: list[str]
) -> None:
    control.generate_key("node1", "untaggedKey")
    control.clear_log()
    run = play(own_playbook(tmp_path, caller), control, *arguments)
    assert run.status == 0, run.output
    assert methods(control) == set()


@pytest.mark.parametrize("form", ["role", "import", "include"])
def test_condition_that_skips_the_source_works(control: Control, tmp_path: Path, form: str) -> None:
    """The condition skips the first host, and with it no task that runs once."""
    condition = {"when": "inventory_hostname != utrust_source"}
    callers: dict[str, dict[str, t.Any]] = {
        "role": {"roles": [{"role": ROLE, **condition}]},
        "import": {"tasks": [{**IMPORT, **condition}]},
        "include": {"tasks": [{**INCLUDE, **condition}]},
    }
    control.generate_key("node1", f"conditionKey-{form}")
    playbook = own_playbook(tmp_path, callers[form])

    predicted = play(playbook, control, "--check")
    assert (predicted.status, predicted.changed) == (0, 2), predicted.output

    run = play(playbook, control)
    assert (run.status, run.changed) == (0, 2), run.output
    assert len(set(inventories(control).values())) == 1


@pytest.mark.parametrize("arguments", [["--check"], []], ids=["check", "run"])
def test_target_that_a_condition_leaves_out_is_named(control: Control, tmp_path: Path, arguments: list[str]) -> None:
    """The plan has every target of the play, so check mode predicts the same failure as the run."""
    control.generate_key("node1", f"leftOut{len(arguments)}")
    caller = {"tasks": [{**INCLUDE, "when": "inventory_hostname != 'node3'"}]}

    run = play(own_playbook(tmp_path, caller), control, *arguments)

    assert run.status != 0
    assert "code: sync_incomplete" in run.text
    assert "node2 would be synchronized" in run.text if arguments else "node2 synchronized now" in run.text
    assert "node3 not touched" in run.text


def test_second_role_shows_nothing_of_the_first(control: Control, tmp_path: Path) -> None:
    """A run that is refused does not repeat the result of the run before, and removes no package of it."""
    control.generate_key("node1", "firstRunKey")
    roles = [ROLE, {"role": ROLE, "vars": {"key_sync_batch_size": 0}}]

    run = play(own_playbook(tmp_path, {"roles": roles}), control)

    assert run.status != 0
    assert run.output.count("synchronized now") == 2, "once for each target"
    assert run.output.count(": Remove the package]") == 1
    assert "batch_size: 0 is invalid" in run.text
