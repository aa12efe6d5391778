# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After kill -9 at any point, an HSM holds either the old or the new keys, and the node reports the correct state."""

from __future__ import annotations

import http.client
import os
import signal
import typing as t

import pytest
from utrust_appliance import process
from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import Api, cluster

if t.TYPE_CHECKING:
    from collections.abc import Iterator

DEAD = (ConnectionError, http.client.HTTPException, OSError)


@pytest.fixture(scope="module")
def control(hsm: str) -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=3, faults=True, hsm=hsm) as running:
        yield running


def up_again(control: Control) -> None:
    while process.running(control.folder):  # until the kernel has released the lock of the killed process
        pass
    Control.up(control.folder, faults=True)


def test_kill_keeps_state(control: Control) -> None:
    """After a kill, all objects and keys still exist."""
    control.generate_key("node1", "before-the-kill", "rsa-2048")
    before, cards, signature = control.status(), control.cards(), control.sign("node1", "before-the-kill", b"m")
    os.kill(control.pid, signal.SIGKILL)
    up_again(control)
    assert control.status()["nodes"] == before["nodes"]
    assert control.cards() == cards
    assert control.sign("node1", "before-the-kill", b"m") == signature


@pytest.mark.parametrize(
    ("point", "applied"),
    [
        ("import.applying", False),
        ("hsm.before_transaction", False),
        ("hsm.in_transaction", False),
        ("hsm.before_commit", False),
        ("hsm.after_commit", True),
        ("import.applied", True),
    ],
)
def test_kill_during_apply_is_atomic(control: Control, point: str, applied: bool) -> None:
    """A kill during an import leaves either the old or the new keys."""
    control.generate_key("node1", f"at-{point}-a")
    control.generate_key("node1", f"at-{point}-b", "rsa-2048")
    target = Api(control, "node2")
    old, new = control.node("node2")["keys_digest"], control.node("node1")["keys_digest"]
    staged = target("POST", "/hsm/imports", Api(control, "node1").package()).data
    key = f"apply-at-{point.replace('.', '-')}"
    control.fault("crash_at", node="node2", point=point)
    with pytest.raises(DEAD):
        target.apply(staged, idempotency_key=key)
    up_again(control)
    assert control.node("node2")["keys_digest"] == (new if applied else old)
    after = target("GET", f"/hsm/imports/{staged['id']}").data
    assert after["state"] == ("applied" if applied else "failed")
    assert (after["problem"] or {}).get("code") == (None if applied else "interrupted")
    added = {row["outcome"] for row in after["rows"] if row["action"] == "add"}
    assert added == ({"done"} if applied else {"pending"})
    # The client repeats its request after the lost response.
    again = target.apply(staged, idempotency_key=key)
    assert (again.status, again.data) == (200, after)
    if not applied:
        staged = target("POST", "/hsm/imports", Api(control, "node1").package()).data
        assert target.apply(staged).data["state"] == "applied"
    assert control.node("node2")["keys_digest"] == new
    signatures = {control.sign(node, f"at-{point}-b", b"m") for node in ("node1", "node2")}
    assert len(signatures) == 1  # PKCS #1 v1.5 is deterministic


@pytest.mark.parametrize("point", ["import.received", "import.staged"])
def test_kill_during_staging_leaves_no_orphan(control: Control, point: str) -> None:
    """A kill during staging does not change keys and leaves no file without an import."""
    control.generate_key("node1", f"at-{point}")
    target, content = Api(control, "node2"), Api(control, "node1").package()
    old = control.node("node2")["keys_digest"]
    control.fault("crash_at", node="node2", point=point)
    key = f"stage-at-{point.replace('.', '-')}"
    with pytest.raises(DEAD):
        target("POST", "/hsm/imports", content, idempotency_key=key)
    up_again(control)
    found = target("GET", f"/hsm/imports?idempotency_key={key}").data["imports"]
    assert [entry["state"] for entry in found] == (["staged"] if point == "import.staged" else [])
    assert control.node("node2")["keys_digest"] == old
    files = {path.stem for path in (control.folder / "nodes/node2/imports").iterdir()}
    staged = {entry["id"] for entry in target("GET", "/hsm/imports").data["imports"] if entry["state"] == "staged"}
    assert files == staged
    assert target("POST", "/hsm/imports", content, idempotency_key=key).status == 201


def test_kill_during_package_creation_leaves_none(control: Control) -> None:
    """A kill during the creation of a package leaves no package."""
    control.fault("crash_at", point="package.written")
    with pytest.raises(DEAD):
        Api(control, "node1")("POST", "/hsm/packages", {})
    up_again(control)
    ended = Api(control, "node1")("GET", "/hsm/packages").data["packages"][0]
    assert (ended["state"], ended["problem"]["code"]) == ("failed", "interrupted")
    assert not list((control.folder / "nodes/node1/packages").iterdir())


def ceremony_until_the_end(control: Control, target: Api) -> t.NoReturn:
    target("POST", "/hsm/restores", {"pin_pad": "front-usb", "source": "node1"})
    control.present_card("node2", "KEYOPS-1")
    control.present_card("node2", "KEYOPS-2")
    while True:
        control.status()


@pytest.mark.parametrize(
    ("point", "restored"),
    [
        ("restore.started", False),
        ("restore.card_accepted", False),
        ("restore.fetched", False),
        ("hsm.before_transaction", False),
        ("hsm.in_transaction", False),
        ("hsm.before_commit", False),
        ("hsm.after_commit", True),
        ("restore.done", True),
    ],
)
def test_kill_during_restore_is_atomic(control: Control, point: str, restored: bool) -> None:
    """After a kill during a guided restore, the restore is complete or the HSM is in Factory Reset Mode."""
    control.factory_reset("node2")
    target = Api(control, "node2")
    control.fault("crash_at", node="node2", point=point)
    with pytest.raises((*DEAD, OperationError)):
        ceremony_until_the_end(control, target)
    up_again(control)
    node = target("GET", "/node").data
    restore = target("GET", "/hsm/restores").data["restores"][0]
    assert node["running"] is None
    assert not list((control.folder / "nodes" / "node2" / "restore").iterdir()), "a copy of every key was left"
    if restored:
        assert (node["hsm"]["state"], restore["state"]) == ("operational", "succeeded")
        assert node["keys_digest"] == control.node("node1")["keys_digest"] == restore["result"]["keys_digest"]
    else:
        assert (node["hsm"]["state"], node["mbk"], node["key_count"]) == ("factory_reset", None, 0)
        assert (restore["state"], restore["problem"]["code"]) == ("failed", "interrupted")
        assert control.restore("node2")["keys_digest"] == control.node("node1")["keys_digest"]
