# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""key_sync as a user runs it, on nodes with other behavior than the defaults of the contract."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import card_holders, changing_methods, inventories, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

KEY_SYNC = "keyops.utrust.key_sync"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=2, key_mix={"ec-p256": 1}, faults=True, restart_time=1.0) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """Three nodes with the same two keys, and a third key on node1."""
    running.generate_key("node1", "newKey")
    running.clear_log()
    yield running
    running.clear_faults()
    running.set_profile()
    running.delete_key("node1", "newKey")
    for node in ("node2", "node3"):
        running.factory_reset(node)
        running.restore(node)


def test_nodes_that_restart_after_upload_run_one_at_a_time(control: Control) -> None:
    """Nodes that restart after the upload are synchronized one at a time."""
    control.set_profile("worst-case")
    run = play(KEY_SYNC, control)
    assert run.status == 0, run.output
    assert len(set(inventories(control).values())) == 1
    uploads = {
        node: [entry for entry in control.requests(node) if entry["method"] == "POST"] for node in ("node2", "node3")
    }
    assert {node: [entry["path"] for entry in entries] for node, entries in uploads.items()} == {
        "node2": ["/api/v1/hsm/imports"],
        "node3": ["/api/v1/hsm/imports"],
    }
    assert uploads["node2"][0]["at"] < uploads["node3"][0]["at"]


def test_unknown_import_effect_stops_run_with_extra_keys(control: Control) -> None:
    """If the effect of an import is unknown, extra keys stop the run until the operator declares the effect."""
    control.set_profile("vendor-page")
    control.generate_key("node3", "extraKey")
    before = inventories(control)
    run = play(KEY_SYNC, control, "-e", "key_sync_extra_keys=keep")
    assert run.status != 0
    assert "import_effect_unknown" in run.text
    assert "then set import_effect" in run.text
    assert (inventories(control), changing_methods(control)) == (before, set())
    run = play(KEY_SYNC, control, "-e", "key_sync_extra_keys=keep", "-e", "key_sync_import_effect=additive")
    assert run.status == 0, run.output
    assert {key["label"] for key in control.keys("node3")} == {"key-0001", "key-0002", "newKey", "extraKey"}


def test_next_run_continues_an_incomplete_import(control: Control) -> None:
    """If a node imports key by key and fails, the next run imports the remaining keys."""
    control.set_profile("key-by-key")
    control.generate_key("node1", "secondKey")
    control.fault("import_failure", node="node2", after=1)
    run = play(KEY_SYNC, control)
    assert run.status != 0
    assert "import_incomplete" in run.text
    assert "the import failed after 1 of 2 keys" in run.text
    assert len(control.keys("node2")) == 3
    assert len(control.keys("node3")) == 2, "no other node changes after a failed canary"
    run = play(KEY_SYNC, control)
    assert run.status == 0, run.output
    assert len(set(inventories(control).values())) == 1
    control.delete_key("node1", "secondKey")


def test_terminal_shows_that_an_import_waits_for_cards(control: Control) -> None:
    """The terminal shows the prompt of the PIN pad while an import waits for MBK cards."""
    control.set_profile("backup")
    with card_holders(control, "node2", "node3"):
        run = play(KEY_SYNC, control)
    assert run.status == 0, run.output
    assert "node2: PIN pad front-usb: Insert MBK card 1 of 2" in run.text
    assert len(set(inventories(control).values())) == 1
