# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`ansible-playbook keyops.utrust.initial_sync` as a user runs it, with people at the PIN pads."""

from __future__ import annotations

import json
import os
import signal
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.playbook import (
    ROOT,
    at_terminal,
    card_holders,
    changing_methods,
    finish,
    inventories,
    methods,
    play,
    start,
    waits_for_card,
)
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

INITIAL = "keyops.utrust.initial_sync"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    # The claim of a killed run ends after 12 seconds instead of 120.
    with cluster(nodes=3, faults=True, claim_second=0.1) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Control:
    """Node1 operational; node2 and node3 joined and in Factory Reset Mode."""
    running.clear_faults()
    for node in ("node2", "node3"):
        if waits_for_card(running, node):
            running.cancel_at_pin_pad(node)
        if running.node(node)["state"] != "factory_reset":
            running.factory_reset(node)
    running.clear_log()
    return running


def test_restore_runs_node_by_node_and_is_idempotent(control: Control) -> None:
    """The playbook restores one node at a time, and a second run changes nothing."""
    with card_holders(control, "node2", "node3"):
        run = play(INITIAL, control)

    assert run.status == 0, run.output
    assert {host: numbers["changed"] for host, numbers in run.recap.items()} == {"node1": 0, "node2": 1, "node3": 1}
    assert len(set(inventories(control).values())) == 1
    assert control.sign("node3", "signKey-2025", b"message") == control.sign("node1", "signKey-2025", b"message")
    assert (
        "HSM Guided Restore Summary: HSM UT000002, TLS fingerprint " + control.node("node2")["tls_fingerprint"]
        in run.text
    )
    prompts = [line for line in run.output.splitlines() if line.startswith("node2 HSM UT000002: PIN pad front-usb:")]
    assert any("card 1 of 2" in prompt for prompt in prompts)
    assert any("card 2 of 2" in prompt for prompt in prompts)
    started = [
        request for node in ("node2", "node3") for request in control.requests(node) if request["method"] == "POST"
    ]
    assert [request["path"] for request in started] == ["/api/v1/hsm/restores"] * 2
    end = run.text[run.text.rindex("Show the result") :]
    for node in ("node2", "node3"):
        assert f"{node} restored now: 10 key(s) under MBK KEYOPS. Make a new backup" in end

    first_log = control.requests("node1")
    control.clear_log()
    claims = [(r["method"], r["status"]) for r in first_log if r["path"].endswith("/cluster/claim")]
    assert claims == [("PUT", 200), ("GET", 200), ("DELETE", 200)] * 2, "each node has a claim of its own"
    second = play(INITIAL, control)

    assert second.status == 0, second.output
    assert second.changed == 0
    assert changing_methods(control) == set()


def test_check_mode_shows_the_summary_and_only_reads(control: Control) -> None:
    """Check mode predicts the changes and sends only GET requests."""
    run = play(INITIAL, control, "--check", "--diff")

    assert run.status == 0, run.output
    assert {host: numbers["changed"] for host, numbers in run.recap.items()} == {"node1": 0, "node2": 1, "node3": 1}
    assert "+10 key(s) of node1" in run.output
    assert methods(control) == {"GET"}
    assert control.node("node2")["state"] == "factory_reset"


def test_limit_restores_that_node_only(control: Control) -> None:
    with card_holders(control, "node3"):
        run = play(INITIAL, control, "--limit", "node3")

    assert run.status == 0, run.output
    assert control.node("node3")["state"] == "operational"
    assert control.node("node2")["state"] == "factory_reset"
    assert control.connections("node2") == 0


def test_restore_reports_problems_of_all_nodes_first(control: Control) -> None:
    """The playbook reports the problems of all nodes before a restore starts."""
    control.fault("pin_pad_unavailable", node="node2")
    control.fault("version_skew", node="node3")

    run = play(INITIAL, control)

    assert run.status != 0
    assert "pin_pad_not_ready" in run.text
    assert "appliance_version_mismatch" in run.text
    assert methods(control) == {"GET"}


def test_restore_reports_source_and_member_problems_first(control: Control) -> None:
    """A disconnected member and a source that is not ready stop the run before a restore starts."""
    control.fault("member_disconnected", node="node1", member="node3")
    run = play(INITIAL, control)
    assert run.status != 0
    assert "member_disconnected" in run.text
    control.clear_faults()
    control.fault("driver_stopped", node="node1")
    run = play(INITIAL, control)
    assert run.status != 0
    assert "source_not_ready" in run.text or "hsm_unavailable" in run.text
    assert methods(control) == {"GET"}


def test_restore_checks_fips_certificate_and_backup_first(control: Control) -> None:
    """The playbook checks facts outside of the preview before a restore starts."""
    control.fault("fips", node="node2")
    limits = ["-e", "guided_restore_max_backup_hours=24", "-e", "guided_restore_min_certificate_days=99999"]

    run = play(INITIAL, control, *limits)

    assert run.status != 0
    for code in ("fips_mode_mismatch", "certificate_expiring", "backup_unknown"):
        assert code in run.text
    assert methods(control) == {"GET"}


RESTORE: dict[str, t.Any] = {"name": "keyops.utrust.guided_restore"}
NOT_THE_SOURCE = {"when": "inventory_hostname != 'node1'"}


@pytest.mark.parametrize(
    "caller",
    [
        {"tasks": [{"ansible.builtin.include_role": RESTORE}]},
        {"roles": ["keyops.utrust.guided_restore"]},
        {"roles": [{"role": "keyops.utrust.guided_restore", **NOT_THE_SOURCE}]},
        {"tasks": [{"ansible.builtin.import_role": RESTORE, **NOT_THE_SOURCE}]},
        {"tasks": [{"ansible.builtin.include_role": RESTORE, **NOT_THE_SOURCE}]},
    ],
    ids=["include", "role", "role with condition", "import with condition", "include with condition"],
)
def test_role_without_serial_fails_for_two_nodes(control: Control, tmp_path: Path, caller: dict[str, t.Any]) -> None:
    """The role fails if a play restores two nodes at once, also if a condition skips the first host."""
    play_of = {"hosts": "utrust", "gather_facts": False, **caller}
    (tmp_path / "restore.yml").write_text(json.dumps([play_of]), encoding="utf-8")

    run = play(str(tmp_path / "restore.yml"), control, "-e", "guided_restore_source=node1")

    assert run.status != 0
    assert "guided_restore of node2, node3 at once: nothing was changed" in run.text
    assert "[play_serial_required]" in run.text
    assert methods(control) == set()


def test_keyword_check_mode_of_the_caller_restores_nothing(control: Control, tmp_path: Path) -> None:
    """The keyword counts as --check, although ansible_check_mode is false."""
    playbook = tmp_path / "own.yml"
    role = {"role": "keyops.utrust.guided_restore", "check_mode": True}
    playbook.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "serial": 1, "roles": [role]}]))

    run = play(str(playbook), control)

    assert run.status == 0, run.output
    assert "would be restored" in run.text
    assert methods(control) == {"GET"}


def test_restore_fails_if_limit_leaves_only_the_source(control: Control) -> None:
    """A run without a target fails."""
    run = play(INITIAL, control, "--limit", "node1")

    assert run.status != 0
    assert "The play has no host other than the source" in run.text


def test_canceled_restore_stops_before_the_next_node(control: Control) -> None:
    """If card holders cancel the first restore, the run does not contact the next PIN pad."""
    process = start(INITIAL, control)
    wait_for(lambda: waits_for_card(control, "node2"))
    control.cancel_at_pin_pad("node2")
    run = finish(process)

    assert run.status != 0
    assert "canceled_at_pin_pad" in run.text
    assert "The HSM holds the same 0 key(s) as before" in run.text
    end = run.text[run.text.rindex("Show the result") :]
    for node in ("node2", "node3"):
        assert f"{node} not restored: the HSM is in Factory Reset Mode" in end
    assert not [request for request in control.requests("node3") if request["method"] != "GET"]
    assert control.node("node2")["state"] == "factory_reset"


def test_killed_controller_resumes_its_restore(control: Control) -> None:
    """The next run watches the running restore and starts no other restore."""
    process = start(INITIAL, control, "--limit", "node2")
    wait_for(lambda: waits_for_card(control, "node2"))
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    cards = [card["card"] for card in control.cards(mbk="KEYOPS")]
    control.present_card("node2", cards[0])
    assert len([request for request in control.requests("node2") if request["method"] == "POST"]) == 1

    control.clear_log()
    process = start(INITIAL, control, "--limit", "node2")
    wait_for(lambda: any("sequence" in request["query"] for request in control.requests("node2")))
    control.present_card("node2", cards[1])
    run = finish(process)

    assert run.status == 0, run.output
    assert control.node("node2")["state"] == "operational"
    assert changing_methods(control) == set(), "the run watches the running restore and starts no other restore"


def test_cancel_works_from_a_playbook(control: Control) -> None:
    """The playbook cancels a restore also while the run that started it has claimed the cluster."""
    process = start(INITIAL, control, "--limit", "node2")
    wait_for(lambda: waits_for_card(control, "node2"))
    predicted = play("keyops.utrust.cancel_restore", control, "--check")
    assert predicted.changed == 1
    assert waits_for_card(control, "node2")

    canceled = play("keyops.utrust.cancel_restore", control)
    run = finish(process)

    assert canceled.status == 0, canceled.output
    assert {host: numbers["changed"] for host, numbers in canceled.recap.items()} == {
        "node1": 0,
        "node2": 1,
        "node3": 0,
    }
    assert run.status != 0
    assert "canceled_by_request" in run.text
    assert control.node("node2")["state"] == "factory_reset"
    assert play("keyops.utrust.cancel_restore", control).changed == 0


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ('{"guided_restore_hsm_serials": {"node2": "UT000003"}}', "node2: hsm_serial_mismatch: "),
        ('{"guided_restore_cards_available": 1}', "node2: not_enough_cards: "),
        ('{"guided_restore_cards_required": 3, "guided_restore_cards_total": 5}', "node2: card_quorum_mismatch: "),
    ],
)
def test_restore_fails_if_a_declaration_does_not_match(control: Control, argument: str, problem: str) -> None:
    """Declared serial numbers and card counts must match before a restore starts."""
    run = play(INITIAL, control, "--limit", "node2", "-e", argument)

    assert run.status != 0
    assert problem in run.text
    assert methods(control) == {"GET"}


def test_restore_asks_for_the_hsm_serial_at_the_terminal(control: Control) -> None:
    """The run fails if the typed serial number belongs to another HSM, or if the line is blank."""
    ask = ("--limit", "node2", "-e", "guided_restore_confirm_serial=true", "-e", "utrust_terminal=true")
    assert "hsm_serial_mismatch" in at_terminal(INITIAL, control, *ask, typed="UT000003\r")
    assert "[serial_not_confirmed]" in at_terminal(INITIAL, control, *ask, typed="\r")
    assert control.node("node2")["state"] == "factory_reset"

    with card_holders(control, "node2"):
        right = at_terminal(INITIAL, control, *ask, typed="UT000002\r")
    assert "Read the front display of node2 aloud" in right
    assert control.node("node2")["state"] == "operational"


@pytest.mark.parametrize("terminal", [(), ("-e", "utrust_terminal=true")])
def test_unconfirmed_hsm_serial_stops_the_restore(control: Control, tmp_path: Path, terminal: tuple[str, ...]) -> None:
    """Without a terminal, the run fails, and no audit record states that somebody read the serial number."""
    ask = ("--limit", "node2", "-e", "guided_restore_confirm_serial=true", *terminal)
    audit = tmp_path / "audit.jsonl"
    env = {"ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit", "UTRUST_AUDIT_FILE": str(audit)}

    run = play(INITIAL, control, *ask, env=env, warnings=["Not waiting for response to prompt as stdin is not"])

    assert run.status != 0
    assert "[serial_not_confirmed]" in run.text
    assert "node2 not restored: the HSM is in Factory Reset Mode" in run.text
    assert changing_methods(control) == set()
    assert '"hsm_serial_was_read":true' not in audit.read_text(encoding="utf-8").replace(" ", "")


@pytest.mark.parametrize("blank", ["", None, "  "])
def test_blank_options_of_a_survey_count_as_not_set(control: Control, blank: str | None) -> None:
    """Null and blank text mean the default, for every option of the role."""
    entries = yaml.safe_load((ROOT / "roles/guided_restore/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = [name for name in entries["argument_specs"]["main"]["options"] if name != "guided_restore_source"]
    assert len(options) > 10

    run = play(INITIAL, control, "--check", "-e", json.dumps(dict.fromkeys(options, blank)))

    assert run.status == 0, run.output
    assert run.changed == 2


def test_connection_and_become_of_the_inventory_do_no_harm(control: Control) -> None:
    """The variables of the inventory for ssh and become do not change where the tasks run."""
    run = play(INITIAL, control, "--check", "-e", "ansible_connection=ssh", "-e", "ansible_become=true")

    assert run.status == 0, run.output
    assert run.changed == 2


def test_no_pin_is_in_any_output_at_vvvv(control: Control) -> None:
    with card_holders(control, "node2"):
        run = play(INITIAL, control, "--limit", "node2", "-vvvv")

    assert run.status == 0, run.output
    pins = [control.pin_of(card["card"]) for card in control.cards()]
    assert pins
    assert not [pin for pin in pins if pin in run.output]
    assert "PRIVATE KEY" not in run.output
