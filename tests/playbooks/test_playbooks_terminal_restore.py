# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guided restore with transport assisted at a terminal: card holders work at Webconf and the PIN pad."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.assisted import Rehearsal, api_requests
from tests.support.terminal import PersonAtTerminal, Prompt, play_at_terminal
from tests.support.webconf_person import WebconfPerson

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

INITIAL = "keyops.utrust.initial_sync"
SERIAL: Prompt = ("node2", "hsm_restored", "hsm_serial")


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=1, keys=2, key_mix={"ec-p256": 1}, ejbca=True, no_api=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Control:
    """A cluster whose second node is in Factory Reset Mode."""
    if running.node("node2")["state"] != "factory_reset":
        running.factory_reset("node2")
    running.clear_log()
    return running


def arguments(control: Control, folder: Path) -> tuple[str, ...]:
    rehearsal = Rehearsal(control, folder)
    return (
        "-i",
        str(rehearsal.inventory),
        *rehearsal.arguments(utrust_terminal=True, guided_restore_cards_available=3),
    )


def test_card_holders_restore_a_node_at_the_terminal(control: Control, tmp_path: Path) -> None:
    at_terminal = PersonAtTerminal(WebconfPerson(control))
    run = play_at_terminal(INITIAL, control, *arguments(control, tmp_path), reply=at_terminal)

    assert run.status == 0, run.output
    assert at_terminal.prompts == [SERIAL, ("node2", "hsm_restored", "confirmed_by")]
    assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"]
    assert "Click *Start Restore* once." in run.text
    assert api_requests(control) == []


def test_other_serial_number_stops_the_restore(control: Control, tmp_path: Path) -> None:
    """The person stands in front of another appliance, so nobody clicks."""
    at_terminal = PersonAtTerminal(WebconfPerson(control), {SERIAL: "UT000003"})
    run = play_at_terminal(INITIAL, control, *arguments(control, tmp_path), reply=at_terminal)

    assert run.status != 0
    assert "confirmation_mismatch" in run.text
    assert at_terminal.prompts == [SERIAL]
    assert control.node("node2")["state"] == "factory_reset"
