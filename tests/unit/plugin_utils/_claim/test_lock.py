# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of a run on a cluster whose nodes offer no claim."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions
from ansible_collections.keyops.utrust.plugins.plugin_utils import _run_directory
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim import lock as lock_module
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim.lock import ClusterLock, lock_directory
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim.task import TaskClaims

from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = {f"node{number}": {"host": f"127.0.0.{number}", "port": 8443} for number in (1, 2)}
ROLE = "keyops.utrust.key_sync"
NOW = WaitOptions(0)


@pytest.fixture(autouse=True)
def _base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "runtime"
    base.mkdir()
    monkeypatch.setattr(_run_directory, "base_directories", lambda: [base])


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    folder = tmp_path / "locks"
    folder.mkdir()
    return folder


class Run:
    """A run of another process."""

    def __init__(self, locks: Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.lines: list[str] = []
        self.locks = locks

    def claims(self, role: str = ROLE, **variables: t.Any) -> TaskClaims:
        return TaskClaims(
            self.process.pid,
            role,
            execute=lambda dummy: {"changed": False, "claim": None, "supported": False, "cluster_id": "cluster-1"},
            options_of=OPTIONS.__getitem__,
            variables={"utrust_lock_dir": str(self.locks), **variables},
            show=self.lines.append,
        )

    def take(self, wait: float = 0.0) -> bool:
        return self.claims().take("node1", ["node2"], claim_wait=wait)

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def runs(locks: Path) -> Iterator[list[Run]]:
    started = [Run(locks) for dummy in range(2)]
    yield started
    for run in started:
        run.process.communicate()


def refusal(run: Run) -> UtrustError:
    with pytest.raises(UtrustError) as caught:
        run.take()
    return caught.value


def test_second_run_waits_for_the_first(runs: list[Run]) -> None:
    first, second = runs
    assert first.take() is True
    assert first.take() is False, "a role inside of another role"
    error = refusal(second)
    assert error.code == "cluster_claimed"
    assert f"key_sync by {os.environ.get('USER', '')}"[:11] in str(error)
    assert f"pid {first.process.pid}" in str(error)
    first.claims().release("node1")
    assert second.take() is True


def test_lock_carries_no_token(runs: list[Run]) -> None:
    """The nodes would reject a request with a token that they do not know."""
    runs[0].take()
    assert "cluster_claim" not in runs[0].claims().with_tokens(dict(OPTIONS["node2"]))


def test_lock_of_killed_run_ends(runs: list[Run]) -> None:
    first, second = runs
    first.take()
    first.end()
    assert second.take(wait=30.0) is True


def test_wait_for_the_lock_is_shown(runs: list[Run]) -> None:
    first, second = runs
    first.take()
    with pytest.raises(UtrustError):
        second.take(wait=2.5)
    [line] = second.lines
    assert line.startswith("waiting at most 2 s: key_sync by ")


def test_change_takes_the_lock_again_after_its_guard_was_killed(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard can be killed. No other run may then begin between two imports, unless it is first."""
    first, second = runs
    with monkeypatch.context() as killed:
        killed.setattr(lock_module, "start_guard", lambda *dummy: None)
        first.take()
    first.claims().renew(dict(OPTIONS["node2"]))
    assert refusal(second).code == "cluster_claimed"


def test_change_fails_if_other_run_has_the_lock_now(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = runs
    with monkeypatch.context() as killed:
        killed.setattr(lock_module, "start_guard", lambda *dummy: None)
        first.take()
    second.take()
    with pytest.raises(UtrustError) as caught:
        first.claims().renew(dict(OPTIONS["node2"]))
    assert caught.value.code == "cluster_claimed"


def test_release_is_only_for_the_role_that_took_the_lock(runs: list[Run]) -> None:
    first, second = runs
    first.take()
    first.claims("keyops.utrust.preflight").release("node1")
    assert refusal(second).code == "cluster_claimed"


def test_check_mode_reports_the_lock_of_another_run(runs: list[Run]) -> None:
    first, second = runs
    first.take()
    [problem] = second.claims().check("node1")
    assert problem.code == "cluster_claimed"
    assert first.claims().check("node1") == []
    assert second.claims().preview_at(OPTIONS["node1"], {})["failed"] is True


@pytest.mark.parametrize("job", [{"awx_job_id": 7}, {"tower_job_id": "7"}])
@pytest.mark.parametrize("blank", [None, "", "  "])
def test_controller_job_needs_a_shared_directory(runs: list[Run], job: dict[str, t.Any], blank: str | None) -> None:
    claims = runs[0].claims(utrust_lock_dir=blank, **job)
    with pytest.raises(UtrustError) as caught:
        claims.take("node1", [])
    assert caught.value.code == "claim_not_shared"
    [problem] = claims.check("node1")
    assert problem.code == "claim_not_shared"
    assert runs[0].claims(**job).take("node1", []) is True


def test_default_directory_is_shared_by_all_users() -> None:
    found = lock_directory({})
    assert found.stat().st_mode & 0o1777 == 0o1777


def test_directory_of_root_is_not_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where only root can write in /run/lock, the lock of root would be another lock than that of a user."""
    for name, mode in (("run", 0o755), ("group", 0o1775), ("shm", 0o1777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    folders = [tmp_path / name for name in ("missing", "run", "group", "shm")]
    monkeypatch.setattr(lock_module, "SHARED_DIRECTORIES", folders)
    assert lock_directory({}) == folders[-1]
    monkeypatch.setattr(lock_module, "SHARED_DIRECTORIES", folders[:-1])
    with pytest.raises(UtrustError) as caught:
        lock_directory({})
    assert caught.value.code == "lock_not_available"


@pytest.mark.parametrize("content", [b"", b"\xff{", b"[]", b'{"holder": "\\u001b[2J\\u202e"}', b"9" * 9000])
def test_content_of_other_user_is_only_text(runs: list[Run], locks: Path, content: bytes) -> None:
    """Another user can write anything into a file of a shared directory."""
    first, second = runs
    first.take()
    lock = ClusterLock(locks, "cluster-1", first.process.pid, Path("/nonexistent"))
    lock.path.write_bytes(content)
    text = str(refusal(second))
    assert text.isprintable()
    assert len(text) < 900


def test_planted_link_is_refused(runs: list[Run], locks: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"unrelated")
    ClusterLock(locks, "cluster-1", 1, tmp_path).path.symlink_to(target)
    assert refusal(runs[0]).code == "lock_not_available"
    assert target.read_bytes() == b"unrelated"


def test_missing_directory_is_refused(runs: list[Run], locks: Path) -> None:
    locks.rmdir()
    error = refusal(runs[0])
    assert error.code == "lock_not_available"
    assert "utrust_lock_dir" in str(error)


def test_name_of_the_file_has_no_text_of_a_node(locks: Path) -> None:
    path = ClusterLock(locks, "../../etc/cron.d/x\x00", 1, locks).path
    assert path.parent == locks
    assert path.name.isascii()


def test_two_clusters_have_two_locks(locks: Path, runs: list[Run]) -> None:
    first, second = (
        ClusterLock(locks, name, run.process.pid, locks / name) for name, run in zip("ab", runs, strict=True)
    )
    for lock in (first, second):
        lock.private.mkdir()
        assert lock.take("holder", NOW, print) is True
    runs[0].end()
    wait_for(lambda: ClusterLock(locks, "a", 1, locks).other_holder() is None)
    assert ClusterLock(locks, "b", 1, locks).other_holder() == "holder"
