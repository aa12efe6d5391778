# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans of a synchronization and their approvals."""

from __future__ import annotations

import base64
import copy
import json
import os
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster import plan_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan import (
    check_plan,
    make_plan,
    plan_digest,
)

from tests.support.factories import key

if t.TYPE_CHECKING:
    from pathlib import Path

SOURCE = (key("old"), key("new"))


def target(name: str, *, completed: bool = False, **changes: t.Any) -> dict[str, t.Any]:
    """A target without the new key, or with the new key."""
    return {
        "host": name,
        "node": name,
        "hsm_serial": f"UT-{name}",
        "keys_digest": keys_digest(SOURCE) if completed else "sha256:before",
        "keys_digest_after": keys_digest(SOURCE),
        "add": [] if completed else [key("new").to_dict()],
        "replace": [],
        "kept": [],
        "unchanged": 2 if completed else 1,
        **changes,
    }


def changes(*targets: dict[str, t.Any], **options: t.Any) -> dict[str, t.Any]:
    return {
        "source": {"node": "node1", "keys_digest": keys_digest(SOURCE)},
        "options": {"extra_keys": "fail", **options},
        "batches": [[each["node"]] for each in targets if each["add"]],
        "targets": {each["node"]: each for each in targets},
    }


def plan(*targets: dict[str, t.Any], **options: t.Any) -> dict[str, t.Any]:
    return make_plan(
        changes(*targets, **options), requested_by="Ada", requester_account="ada", requested_at="2026-11-23T12:00:00Z"
    )


BOTH = (target("node2"), target("node3"))


def codes(problems: list[Problem]) -> set[str]:
    assert all(problem.text and problem.remedy for problem in problems)
    return {problem.code for problem in problems}


def test_check_plan_unchanged_cluster() -> None:
    """A plan has no problem if the cluster did not change."""
    assert check_plan(plan(*BOTH), changes(*BOTH)) == []


@pytest.mark.parametrize(
    "now",
    [
        changes(target("node2", keys_digest="sha256:other"), target("node3")),
        changes(target("node2", add=[key("surprise").to_dict()]), target("node3")),
        changes(target("node2", hsm_serial="UT-swapped"), target("node3")),
        changes(*BOTH, extra_keys="keep"),
        changes(target("node2")),
        changes(*BOTH, target("node4")),
    ],
    ids=[
        "other keys on a target",
        "another key to add",
        "another HSM",
        "another option",
        "one target less",
        "one more target",
    ],
)
def test_check_plan_changed_cluster_is_outdated(now: dict[str, t.Any]) -> None:
    """A plan is outdated if the planned changes differ now."""
    assert codes(check_plan(plan(*BOTH), now)) == {"plan_outdated"}


def test_check_plan_completed_targets_are_skipped() -> None:
    """An interrupted run can continue with the same plan."""
    assert check_plan(plan(*BOTH), changes(target("node2", completed=True), target("node3"))) == []
    assert check_plan(plan(*BOTH), changes(*(target(name, completed=True) for name in ("node2", "node3")))) == []


def test_check_plan_target_with_other_keys_is_outdated() -> None:
    """A target with other keys than planned is not completed."""
    different = target("node2", completed=True, keys_digest="sha256:else", keys_digest_after="sha256:else")
    assert codes(check_plan(plan(*BOTH), changes(different, target("node3")))) == {"plan_outdated"}


def test_check_plan_target_with_deleted_key_is_outdated() -> None:
    """A target that was in sync in the plan and lost a key is not completed."""
    planned = plan(target("node2"), target("node3", completed=True))
    assert check_plan(planned, changes(target("node2"), target("node3", completed=True))) == []
    assert codes(check_plan(planned, changes(*BOTH))) == {"plan_outdated"}
    assert codes(check_plan(planned, changes(target("node2", completed=True), target("node3")))) == {"plan_outdated"}


def test_check_plan_replaced_hsm_is_outdated() -> None:
    """Another HSM is not completed, even if it holds the planned keys."""
    swapped = target("node2", completed=True, hsm_serial="UT-swapped")
    assert codes(check_plan(plan(*BOTH), changes(swapped, target("node3")))) == {"plan_outdated"}


def test_check_plan_changed_document_is_refused() -> None:
    """A plan with a changed document does not fit its digest."""
    for alter in (
        lambda document: document.update(requested_by="Ben"),
        lambda document: document["changes"]["targets"]["node2"].update(add=[]),
        lambda document: document["changes"]["options"].update(extra_keys="keep"),
    ):
        altered = copy.deepcopy(plan(*BOTH))
        alter(altered)
        assert codes(check_plan(altered, changes(*BOTH))) == {"plan_digest_mismatch"}


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        "",
        [],
        {"format": 2},
        {"format": 1},
        {"format": 1, "changes": {}},
        {"format": 1, "changes": {"targets": []}},
        {"format": 1, "changes": {"targets": {"node2": "text"}}},
    ],
)
def test_check_plan_invalid_document_is_refused(nonsense: t.Any) -> None:
    """A document that is not a plan is rejected."""
    assert codes(check_plan(nonsense, changes(*BOTH))) == {"plan_invalid"}


@pytest.mark.parametrize(
    "hidden",
    [
        {"options": {"extra_keys": "keep"}, "options.extra_keys": "fail"},
        {"source.node": "node1"},
        {"source": {"node": "node1", "keys_digest": keys_digest(SOURCE), "": {}}},
        {"batches": [["node3"], ["node2"]]},
        {"batches": [["node2"], ["node3"], []]},
        {"more": None},
    ],
)
def test_check_plan_with_another_member_is_outdated(hidden: dict[str, t.Any]) -> None:
    """A name with a dot does not stand for a member below another member."""
    other = make_plan(
        {**changes(*BOTH), **hidden}, requested_by="Ada", requester_account="ada", requested_at="2026-11-23T12:00:00Z"
    )
    assert codes(check_plan(other, changes(*BOTH))) == {"plan_outdated"}


@pytest.mark.parametrize("value", [1, 1.0, "true", [True]])
def test_check_plan_compares_values_with_their_types(value: t.Any) -> None:
    assert codes(check_plan(plan(*BOTH, allow_outage=value), changes(*BOTH, allow_outage=True))) == {"plan_outdated"}


def test_plan_digest_ignores_the_order() -> None:
    """The digest does not depend on the order of the document."""
    made = plan(*BOTH)
    assert plan_digest(dict(reversed(made.items()))) == made["digest"]


# The file of a plan


def test_plan_file_returns_the_plan_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan_file.write(str(path), plan(*BOTH))
    assert plan_file.read(str(path)) == plan(*BOTH)
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a: [",
        b"[]\n",
        b'{"a": 1}',
        b'{"a": 1, "a": 1}\n',
        b'{\n  "b": 1,\n  "a": 1\n}\n',
        '{\n  "a": "\u00e4"\n}\n'.encode(),
        b"\xff\xfe",
        b"\xef\xbb\xbf" + plan_file.serialize(plan(*BOTH)),
        plan_file.serialize(plan(*BOTH)).replace(b'"digest": "', b'"digest": "sha256:2",\n  \xef\xbb\xbf"digest": "'),
        plan_file.serialize(plan(*BOTH)).replace(b'"format": 1', b'"format": 1.0'),
        plan_file.serialize(plan(*BOTH)).replace(b'"format": 1', b'"format": NaN'),
        plan_file.serialize(plan(*BOTH)).replace(b'"format": 1', b'"format": 1' + b"0" * 5000),
        plan_file.serialize(plan(*BOTH))[:-1],
        plan_file.serialize(plan(*BOTH)) + b"\n",
        plan_file.serialize({**plan(*BOTH), "requested_by": ["Ada"]}),
        plan_file.serialize({**plan(*BOTH), "requested_at": 7}),
        plan_file.serialize({**plan(*BOTH), "changes": json.loads("[" * 20 + "]" * 20)}),
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        b"[" * 100_000,
        plan_file.serialize({**plan(*BOTH), "note": "another member"}),
        plan_file.serialize({name: value for name, value in plan(*BOTH).items() if name != "requested_by"}),
    ],
)
def test_plan_file_rejects_every_other_form(tmp_path: Path, content: bytes) -> None:
    """A plan is accepted in the one form in which it is written, so that two readers cannot read different plans."""
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(UtrustError) as caught:
        plan_file.read(str(path))
    assert caught.value.code == "plan_invalid"


@pytest.mark.parametrize("path", ["/nonexistent/plan.json", "/", "a\0b"])
def test_plan_file_that_is_no_file_has_a_code(path: str) -> None:
    with pytest.raises(UtrustError) as caught:
        plan_file.read(path)
    assert caught.value.code == "plan_unreadable"

    with pytest.raises(UtrustError) as caught:
        plan_file.write(path, {})
    assert caught.value.code == "plan_not_written"


def test_plan_file_that_is_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(UtrustError, match="not a regular file"):
        plan_file.read(str(tmp_path / "plan.json"))


def test_plan_as_base64_is_the_plan_of_the_file(tmp_path: Path) -> None:
    """A plan travels between jobs as base64 text, which no template can change."""
    text = plan_file.to_base64(plan(*BOTH))
    assert plan_file.read_base64(text) == plan(*BOTH)
    wrapped = base64.encodebytes(plan_file.serialize(plan(*BOTH))).decode()
    assert plan_file.read_base64(wrapped) == plan(*BOTH)
    for other in (text[:-4], "{}", "ü", base64.b64encode(json.dumps(plan(*BOTH)).encode()).decode()):
        with pytest.raises(UtrustError) as caught:
            plan_file.read_base64(other)
        assert caught.value.code == "plan_invalid"
