# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of every type, keys without a label, and a node that cannot list its keys, through the playbooks."""

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

STATUS, REPORT, SYNC, PREFLIGHT = (f"keyops.utrust.{name}" for name in ("status", "report", "key_sync", "preflight"))
KINDS = ("ed25519", "ed448", "x25519", "ml-dsa-65", "ml-kem-768", "des3-168", "aes-256", "ec-p256")


@pytest.fixture
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=1, key_mix={"ed25519": 1}, faults=True) as running:
        yield running


def test_keys_of_all_types_are_synchronized(control: Control) -> None:
    """Real keys of all types, and one without a label, reach every node and can be used there."""
    for kind in KINDS:
        control.generate_key("node1", f"new-{kind}", kind)
    control.generate_key("node1", "", "ml-dsa-44")

    run = play(SYNC, control)

    assert run.status == 0, run.output
    keys = inventories(control)
    assert len(set(keys.values())) == 1
    assert f"{len(KINDS) + 1} key(s) added" in run.text
    for label in ("new-ed25519", "new-ml-dsa-65"):
        assert control.sign("node3", label, b"message")
    status = play(STATUS, control)
    assert f"hold the same {len(KINDS) + 2} key(s)" in status.text
    assert "ML-DSA-65" in status.text


def test_type_that_nobody_knows_yet_is_shown(control: Control, tmp_path: Path) -> None:
    """The other keys are shown, too, and the digests are compared as for every type."""
    for node in ("node1", "node2", "node3"):
        with sqlite3.connect(control.folder / f"nodes/{node}/hsm/keys.sqlite3") as db:
            assert db.execute("UPDATE hsm_keys SET type = 'frobnicate-9', curve = NULL, size = NULL").rowcount == 1
        db.close()
        control.set_slot(node, 0)
    control.generate_key("node1", "known", "ec-p256")

    status = play(STATUS, control)
    page = tmp_path / "keys.html"
    report = play(REPORT, control, "-e", json.dumps({"key_report_page": str(page)}))

    assert "FROBNICATE-9" in status.text
    assert "DRIFT: node2 against node1: 1 missing" in status.text
    assert report.status == 0, report.output
    assert "FROBNICATE-9" in page.read_text(encoding="utf-8")


def test_nodes_that_cannot_list_keys_show_their_facts(control: Control, tmp_path: Path) -> None:
    """What cannot be compared is not synchronized, and each node is named."""
    control.set_profile("bridge")
    control.clear_log()

    status = play(STATUS, control)
    preflight = play(PREFLIGHT, control)
    refused = play(SYNC, control)
    report = play(REPORT, control, "-e", json.dumps({"key_report_page": str(tmp_path / "keys.html")}))

    assert status.status != 0
    for node in ("node1", "node2", "node3"):
        assert f"UNKNOWN: {node}: " in status.text
    assert "MBK KEYOPS" in status.text
    assert "in sync" not in status.text
    for run in (preflight, refused):
        assert run.status != 0
        assert "node1: keys_unknown: " in run.text
    assert "INCOMPLETE: " in report.text
    assert changing_methods(control) == set()
