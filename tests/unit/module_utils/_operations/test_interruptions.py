# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interruptions after the point of no return, such as the time-out of a task: the node is read, and the message says what is true."""

from __future__ import annotations

import dataclasses as dc
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import KEY_LIST, Member
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._interruption import InterruptedTaskError

from tests.support.factories import key, node
from tests.support.operations import (
    AFTER,
    APPLIED,
    AWAY,
    DONE,
    JOINING,
    NEW,
    OLD,
    RESTORED,
    RESTORING,
    STAGED,
    TARGET,
    WAITING,
    import_into,
    joining,
    restore,
    target,
    write_package,
)

if t.TYPE_CHECKING:
    from pathlib import Path


class TaskTimeoutError(BaseException):
    """Ansible raises an exception like this in the middle of a task."""


OVER = TaskTimeoutError()
AT_ONCE = frozenset({KEY_LIST})
RUNNING = dc.replace(JOINING, running=("restore", "7c9e"))
APPLYING = dc.replace(APPLIED, state="waiting_for_card", prompt="Insert MBK card 1 of 2")
THIRD = key("third")
#: Where the interruption happens after the commit.
AFTER_COMMIT: dict[str, dict[str, t.Any]] = {
    "commit": {"apply_import": OVER},
    "upload that commits": {"capabilities": AT_ONCE, "stage_import": OVER},
    "watching": {"apply_import": APPLYING, "read_import": OVER},
    "verifying": {"node": [TARGET, OVER, AFTER]},
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path)


@pytest.mark.parametrize(
    "kind", [TaskTimeoutError, KeyboardInterrupt, SystemExit, RecursionError, OverflowError, OSError]
)
@pytest.mark.parametrize("where", AFTER_COMMIT)
def test_interrupted_import_verifies_the_keys(package: Path, where: str, kind: type[BaseException]) -> None:
    """The node applied the package, so the result is as without the interruption, with a warning."""
    error = kind()

    def replaced(result: t.Any) -> t.Any:
        return [replaced(one) for one in result] if isinstance(result, list) else error if result is OVER else result

    results = {name: replaced(result) for name, result in AFTER_COMMIT[where].items()}
    fake = target(**{"node": [TARGET, AFTER], "discard_import": False, **results})
    result = import_into(fake, package)
    assert (result["changed"], result["verified"], result["in_sync"]) == (True, True, True)
    assert f"the task was interrupted ({kind.__name__})" in result["warnings"][-1]
    assert fake.calls.count("apply_import") <= 1
    assert fake.calls.count("stage_import") == 1


@pytest.mark.parametrize("where", ["commit", "upload that commits", "watching"])
def test_interrupted_import_that_changed_nothing_fails(package: Path, where: str) -> None:
    with pytest.raises(InterruptedTaskError, match="node2 holds the same keys as before") as caught:
        import_into(target(**AFTER_COMMIT[where]), package)
    assert caught.value.code == "task_interrupted"


def test_unexpected_error_after_the_commit_reads_the_node(package: Path) -> None:
    """A fault of the collection does not hide what is true."""
    with pytest.raises(InterruptedTaskError, match="node2 holds the same keys as before") as caught:
        import_into(target(apply_import=RecursionError()), package)
    assert caught.value.code == "internal_error"
    with pytest.raises(InterruptedTaskError, match="The restore is still running") as caught:
        restore(joining(watch_restore=UnicodeEncodeError("ascii", "x", 0, 1, "y"), node=[JOINING, RUNNING]))
    assert caught.value.code == "internal_error"


def test_interrupted_upload_is_discarded(package: Path) -> None:
    """The package was staged. The node waits for no cards, and nothing stays on it."""
    fake = target(stage_import=dc.replace(STAGED, state="checking"), read_import=OVER)
    with pytest.raises(InterruptedTaskError, match=r"so nothing was changed\. Run again"):
        import_into(fake, package)
    assert fake.calls == ["node", "list_keys", "stage_import", "read_import", "discard_import", "node"]


def test_interrupted_wait_for_cards_is_discarded_first(package: Path) -> None:
    """An import that waits for cards uses the HSM, so its end must not be waited for."""
    busy = dc.replace(TARGET, running=("import", "1b67"))
    fake = target(apply_import=APPLYING, read_import=OVER, node=[TARGET, busy, TARGET])
    with pytest.raises(InterruptedTaskError, match="so nothing was changed"):
        import_into(fake, package)
    assert fake.calls[-3:] == ["discard_import", "node", "node"]


@pytest.mark.parametrize(
    ("after", "code"),
    [((OLD, NEW, THIRD), "unexpected_keys"), ((NEW,), "import_not_verified")],
    ids=["more keys", "a lost key"],
)
def test_interrupted_import_with_other_keys_fails(package: Path, after: tuple[t.Any, ...], code: str) -> None:
    later = node(*after, name="node2")
    with pytest.raises(UtrustError, match="the task was interrupted") as caught:
        import_into(target(apply_import=OVER, node=[TARGET, later], list_keys=[(OLD,), after]), package)
    assert (caught.value.code, caught.value.details["changed"]) == (code, True)


def test_interrupted_import_into_a_node_that_is_away(package: Path) -> None:
    """The time to wait is short, because the time of the task is over."""
    with pytest.raises(UtrustError, match=r"timed out after 60 s.*Its keys may have changed") as caught:
        import_into(target(apply_import=OVER, node=[TARGET, AWAY]), package)
    assert caught.value.code == "node_wait_timeout"


def test_interrupted_wait_for_members_reports_the_keys(package: Path) -> None:
    away = tuple(Member(name, "127.0.0.2", 443, True, "disconnected") for name in ("node1", "node3"))
    back = tuple(dc.replace(member, connection="connected") for member in away)
    fake = target(
        node=[dc.replace(TARGET, members=back), dc.replace(AFTER, members=away), OVER, dc.replace(AFTER, members=back)]
    )
    assert import_into(fake, package)["verified"] is True


NONSENSE = [
    ApiError("GET: the response is not JSON", code="response_not_json", http_status=200),
    ApiError("reading a response: 'node' is missing", code="response_invalid"),
    ApiError("GET: HTTP 403 forbidden", code="forbidden", http_status=403),
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda error: error.code)
def test_nonsense_of_a_node_with_verified_keys(package: Path, nonsense: ApiError) -> None:
    """The keys are there. Only whether the members are back is unknown."""
    away = (Member("node1", "127.0.0.2", 443, True, "disconnected"),)
    back = (Member("node1", "127.0.0.2", 443, True, "connected"),)
    before, after = dc.replace(TARGET, members=back), dc.replace(AFTER, members=away)
    done = import_into(target(node=[before, after, nonsense, dc.replace(AFTER, members=back)]), package)
    assert done["verified"] is True
    with pytest.raises(UtrustError, match="the node has all keys of the package, and they are verified") as caught:
        import_into(target(node=[before, after, nonsense]), package)
    assert (caught.value.code, caught.value.details["changed"]) == (nonsense.code, True)


# Guided restore


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (RUNNING, "The restore is still running. Run again to watch it"),
        (JOINING, r"The HSM holds the same 0 key\(s\) as before"),
        (RESTORED, r"The HSM changed: it is operational with MBK KEYOPS \(5c1de3b2a4f60718\) and 2 key\(s\)"),
        (AWAY, "Its keys are unknown"),
    ],
    ids=["running", "unchanged", "restored", "away"],
)
@pytest.mark.parametrize(
    "results", [{"start_restore": OVER}, {"watch_restore": [RESTORING, OVER]}], ids=["starting", "watching"]
)
def test_interrupted_restore_reads_the_node(results: dict[str, t.Any], after: t.Any, text: str) -> None:
    with pytest.raises(InterruptedTaskError, match=text) as caught:
        restore(joining(**{"node": [JOINING, after], **results}))
    assert (caught.value.code, caught.value.details["changed"]) == ("task_interrupted", True)


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda error: error.code)
def test_nonsense_while_a_restore_is_watched(nonsense: ApiError) -> None:
    """A proxy can respond for a while. If the nonsense does not end, the node is read."""
    assert restore(joining(watch_restore=[nonsense, RESTORING, nonsense, DONE]))["in_sync"] is True
    with pytest.raises(UtrustError, match=r"Last: PIN pad.*The HSM changed: it is operational") as caught:
        restore(joining(watch_restore=nonsense))
    assert (caught.value.code, caught.value.details["restore_id"]) == (nonsense.code, "7c9e")


def test_nonsense_for_a_started_restore_finds_the_restore() -> None:
    """The node started the restore, and its response was nonsense. It is not started again."""
    started = joining(
        start_restore=NONSENSE[1], node=[JOINING, NONSENSE[0], RUNNING, RESTORED], running_restore=WAITING
    )
    assert restore(started)["in_sync"] is True
    assert started.calls.count("start_restore") == 1
    with pytest.raises(ApiError, match="no such restore is running"):
        restore(joining(start_restore=NONSENSE[1], node=JOINING))


def test_nonsense_for_ever_after_the_start_is_unknown() -> None:
    with pytest.raises(UtrustError, match="Whether the restore runs is unknown") as caught:
        restore(joining(start_restore=NONSENSE[1], node=[JOINING, NONSENSE[0]]))
    assert (caught.value.code, caught.value.details["changed"]) == ("outcome_unknown", True)


def test_restore_refused_is_not_read_again() -> None:
    fake = joining(start_restore=ApiError("HTTP 409", code="pin_pad_busy", http_status=409))
    with pytest.raises(ApiError) as caught:
        restore(fake)
    assert (caught.value.code, fake.calls[-1]) == ("pin_pad_busy", "start_restore")


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda error: error.code)
def test_nonsense_after_a_successful_restore(nonsense: ApiError) -> None:
    assert restore(joining(node=[JOINING, nonsense, RESTORED]))["in_sync"] is True
    with pytest.raises(UtrustError, match="the node reports success, but could not be read") as caught:
        restore(joining(node=[JOINING, nonsense]))
    assert (caught.value.code, caught.value.details["changed"]) == ("restore_not_verified", True)
