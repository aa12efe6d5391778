# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""initial_sync with transport assisted, behind a job without people: card holders restore at Webconf, and confirmations are data."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.assisted import CLUSTER, INITIAL, Rehearsal, api_requests
from tests.support.playbook import methods, play
from tests.support.webconf_person import WebconfPerson

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control


@pytest.fixture
def control() -> Iterator[Control]:
    with cluster(nodes=2, restored=1, **CLUSTER) as running:
        running.clear_log()
        yield running


@pytest.fixture
def rehearsal(control: Control, tmp_path: Path) -> Rehearsal:
    return Rehearsal(control, tmp_path)


def test_restore_of_card_holders_is_verified_by_the_view(rehearsal: Rehearsal) -> None:
    """The first run lists the steps, the card holders do them, and the next run finds the keys in the view."""
    control, person = rehearsal.control, WebconfPerson(rehearsal.control)
    first = rehearsal.play(INITIAL)
    assert "code: confirmation_missing" in first.text, first.output
    assert "Click *Synchronize HSM* in the red field." in first.text
    assert "If the page shows *Initialize HSM*, stop" in first.text
    assert "Have the MBK cards and their PINs ready: 2 of 3." in first.text
    assert control.node("node2")["state"] == "factory_reset"

    confirmed = person.act("node2", "hsm_restored")
    second = rehearsal.play(INITIAL, confirmed)
    assert second.status == 0, second.output
    assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"]
    assert "NOT CHECKED on this transport: keys that EJBCA does not show" in second.text
    third = rehearsal.play(INITIAL)
    assert (third.status, third.changed) == (0, 0), third.output
    assert api_requests(control) == []


def test_check_mode_of_a_restore_only_reads(rehearsal: Rehearsal) -> None:
    run = rehearsal.play(INITIAL, check=True)
    assert run.status == 0, run.output
    assert methods(rehearsal.control) == {"GET"}
    assert rehearsal.control.node("node2")["state"] == "factory_reset"


def test_confirmed_restore_without_keys_is_never_a_success(rehearsal: Rehearsal) -> None:
    """People confirm a restore that never happened. One more view is read, and the next run starts again."""
    confirmed = WebconfPerson(rehearsal.control).confirmation("node2", "hsm_restored")
    run = rehearsal.play(INITIAL, confirmed)
    assert run.status != 0
    assert "code: restore_not_verified" in run.text, run.output
    assert "people confirmed the restore, but" in run.text
    assert "code: confirmation_missing" in rehearsal.play(INITIAL).text


def test_other_hsm_is_never_restored(rehearsal: Rehearsal) -> None:
    confirmed = WebconfPerson(rehearsal.control).confirmation("node2", "hsm_restored", hsm_serial="UT000099")
    run = rehearsal.play(INITIAL, confirmed)
    assert "code: confirmation_mismatch" in run.text, run.output
    assert "Check the HSM in Webconf, page Security, before you run again" in run.text


def test_map_a_hands_over_after_the_button(control: Control, tmp_path: Path) -> None:
    """The published pages show no more words, so nothing is guessed."""
    run = Rehearsal(control, tmp_path, node2={"utrust_page_map": "a"}).play(INITIAL)
    assert "Click *Synchronize HSM* in section *HSM Configuration*." in run.text, run.output
    assert "Start Restore" not in run.text


def test_status_names_the_scope_of_the_keys(rehearsal: Rehearsal) -> None:
    run = play("keyops.utrust.status", rehearsal.control, *rehearsal.arguments(), inventory=rehearsal.inventory)
    assert "3 key(s) in its EJBCA view, in sync" in run.text, run.output
    assert api_requests(rehearsal.control) == []
