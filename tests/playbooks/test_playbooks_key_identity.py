# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same key in another place, or twice: every playbook uses one notion of key identity."""

from __future__ import annotations

import json
import sqlite3
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import changing_methods, inventories, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

STATUS, REPORT, SYNC = "keyops.utrust.status", "keyops.utrust.report", "keyops.utrust.key_sync"
COLUMNS = "slot, label, id, type, size, curve, fingerprint, public, complete, handle"


def store(control: Control, statement: str) -> None:
    """Change the keys of node2 in the storage of the simulator, which has no operation for this. A slot setting reloads the keys."""
    with sqlite3.connect(control.folder / "nodes/node2/hsm/keys.sqlite3") as db:
        assert db.execute(statement).rowcount == 1
    db.close()
    control.set_slot("node2", 0)


@pytest.fixture
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=3, key_mix={"ec-p256": 1}) as running:
        yield running


def reported(control: Control, folder: Path) -> dict[str, t.Any]:
    """Return the drift of node2 in the data of the report."""
    data = folder / "report.json"
    files = {"key_report_page": str(folder / "report.html"), "key_report_data": str(data)}
    run = play(REPORT, control, "-e", json.dumps(files))
    assert run.status == 0, run.output
    [drift] = json.loads(data.read_text(encoding="utf-8"))["matrix"]["drift"]
    assert drift["node"] == "node2"
    return t.cast("dict[str, t.Any]", drift)


@pytest.mark.parametrize("change", ["label = 'other'", "id = 'abcd'"], ids=["label", "id"])
def test_moved_key_is_moved_everywhere(control: Control, tmp_path: Path, change: str) -> None:
    """A key in another place is neither missing nor extra, and no import would put it right."""
    label = control.keys("node2")[0]["label"]
    store(control, f"UPDATE hsm_keys SET {change} WHERE label = '{label}'")
    control.clear_log()

    status = play(STATUS, control)
    assert "node2 against node1: 1 moved" in status.text
    assert "MOVED" in status.output
    found = reported(control, tmp_path)
    assert {name: len(found[name]) for name in ("missing", "extra", "mismatched", "moved", "duplicate")} == {
        "missing": 0, "extra": 0, "mismatched": 0, "moved": 1, "duplicate": 0,
    }  # fmt: skip
    for arguments in ((), ("--check",), ("-e", "key_sync_extra_keys=keep")):
        run = play(SYNC, control, *arguments)
        assert run.status != 0, run.output
        assert "key_moved" in run.text
        assert "extra_keys:" not in run.text
    assert changing_methods(control) == set()


def test_moved_key_does_not_hide_a_missing_key(control: Control) -> None:
    """Both are named, and the import does not start."""
    label = control.keys("node2")[0]["label"]
    store(control, f"UPDATE hsm_keys SET label = 'other' WHERE label = '{label}'")
    control.generate_key("node1", "newKey")
    status = play(STATUS, control)
    assert "node2 against node1: 1 missing, 1 moved" in status.text
    run = play(SYNC, control)
    assert run.status != 0
    assert "key_moved" in run.text
    assert "newKey" not in {key["label"] for key in control.keys("node3")}


def test_duplicate_key_is_a_duplicate_everywhere(control: Control, tmp_path: Path) -> None:
    """A second copy of a key is not missing, and is not the only copy of another key."""
    label = control.keys("node2")[0]["label"]
    copy = COLUMNS.replace("label", "'copyKey'")
    store(control, f"INSERT INTO hsm_keys ({COLUMNS}) SELECT {copy} FROM hsm_keys WHERE label = '{label}'")
    control.clear_log()

    status = play(STATUS, control)
    assert "node2 against node1: 1 duplicate" in status.text
    assert "DUPLICATE" in status.output
    assert len(reported(control, tmp_path)["duplicate"]) == 1
    for arguments in ((), ("--check",)):
        run = play(SYNC, control, *arguments)
        assert run.status == 0, run.output
        assert (
            "node2 up to date: 3 key(s) as on the source. The node also has keys that differ: 1 duplicate" in run.text
        )
    assert changing_methods(control) == set()

    control.generate_key("node1", "newKey")
    run = play(SYNC, control)
    assert run.status == 0, run.output
    assert "node2 synchronized now: 1 key(s) added, 0 replaced" in run.text
    assert {"copyKey", "newKey"} < {key["label"] for key in control.keys("node2")}


@pytest.mark.parametrize("profile", ["effect=replacing", "effect=replacing commit=upload"])
def test_replacing_import_removes_a_copy_of_a_key(control: Control, profile: str) -> None:
    """The target has one key twice. The import removes the copy, as the plan predicts, and no key is lost."""
    label = control.keys("node2")[0]["label"]
    copy = COLUMNS.replace("label", "'copyKey'")
    store(control, f"INSERT INTO hsm_keys ({COLUMNS}) SELECT {copy} FROM hsm_keys WHERE label = '{label}'")
    control.generate_key("node1", "newKey")
    control.set_profile(*profile.split())
    run = play(SYNC, control)
    control.set_profile()
    assert run.status == 0, run.output
    assert "node2 synchronized now: 1 key(s) added, 0 replaced" in run.text
    assert len(set(inventories(control).values())) == 1
    assert "copyKey" not in {key["label"] for key in control.keys("node2")}
