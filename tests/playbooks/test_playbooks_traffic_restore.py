# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes in and out of traffic during a guided restore."""

from __future__ import annotations

import json
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import card_holders, inventories, methods, play
from tests.support.traffic import Traffic

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

INITIAL = "keyops.utrust.initial_sync"


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, restored=1, keys=1, key_mix={"ec-p256": 1}, ejbca=True, claim_second=0.1) as running:
        yield running


def test_restored_node_is_undrained_after_its_gate(control: Control, tmp_path: Path) -> None:
    """A failed drain, a restore, a closed gate, and a run that finds the node in sync."""
    traffic = Traffic(tmp_path, "guided_restore")
    checked = play(INITIAL, control, *traffic.options(), "--check")
    assert checked.status == 0, checked.output
    assert f"node2: would drain the node with {tmp_path}/drain.yml" in checked.text
    assert (traffic.events, methods(control)) == ([], {"GET"})

    traffic.write("drain", failing="node2")
    failed = play(INITIAL, control, *traffic.options())
    assert failed.status != 0
    assert traffic.events == ["drain node2"]
    assert "node2: DRAINED, because its undrain tasks did not end." in failed.text
    assert control.node("node2")["state"] == "factory_reset"

    traffic.write("drain")
    view = {"guided_restore_ejbca_view": True, "guided_restore_ejbca_view_timeout": 0}
    control.ejbca("node2", "set", auto_activation=False)
    control.ejbca("node2", "deactivate")
    with card_holders(control, "node2"):
        closed = play(INITIAL, control, *traffic.options(**view))
    assert closed.status != 0
    assert "code: ejbca_view_not_verified" in closed.text, closed.output
    assert traffic.events[1:] == ["drain node2"]
    assert "node2: DRAINED, " in closed.text
    assert len(set(inventories(control).values())) == 1

    control.ejbca("node2", "activate")
    again = play(INITIAL, control, *traffic.options(**view))
    assert again.status == 0, again.output
    assert traffic.events[2:] == ["undrain node2"]
    assert "DRAINED" not in again.text


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, "change_reference_missing"),
        ({"utrust_change_reference": "CHG-0640"}, "audit_inactive"),
        ({"utrust_change_reference": "CHG-0640", "guided_restore_audit": "optional"}, "reason_missing"),
        ({"guided_restore_undrain_tasks": "undrain.yml", "utrust_transport": "rest"}, "option_invalid"),
    ],
    ids=["reference", "audit", "reason", "path"],
)
def test_restore_on_strict_transports_is_refused(
    control: Control, tmp_path: Path, changed: dict[str, t.Any], code: str
) -> None:
    options = {"utrust_transport": "assisted", "utrust_source": "node1", **changed}
    control.clear_log()
    run = play(INITIAL, control, "-e", json.dumps(options))
    assert run.status != 0
    assert f"code: {code}" in run.text, run.output
    assert methods(control) == set()
