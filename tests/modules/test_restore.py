# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test utrust_hsm_restore through both runners, with simulated people at the PIN pads.

One play runs all ceremonies at the same time, one on each node. Several tests check its results.
"""

from __future__ import annotations

import datetime
import json
import threading
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import inventories, waits_for_card
from tests.support.runners import connection_args, task
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

    from tests.support.runners import AnsibleRunner

RESTORE = "utrust_hsm_restore"
WRONG_PIN = "000000000"


def watched(control: Control, node: str) -> bool:
    """Whether Ansible has started or found the restore."""
    return any(request["path"].endswith("/hsm/restores") for request in control.requests(node))


def polls(control: Control, node: str) -> list[dict[str, t.Any]]:
    return [request for request in control.requests(node) if "sequence" in request["query"]]


def wait_until_read(control: Control, node: str, restore: dict[str, t.Any]) -> None:
    """Wait until Ansible has read this state of the restore. The next step would clear the error of the PIN pad."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    before = str(restore["sequence"] - 1)
    wait_for(lambda: any(poll["at"] > now or poll["query"]["sequence"] == before for poll in polls(control, node)))


def good(control: Control, node: str) -> None:
    for card in ("KEYOPS-1", "KEYOPS-2"):
        control.present_card(node, card)


def with_a_wrong_card(control: Control, node: str) -> None:
    wait_until_read(control, node, control.insert_card(node, "OTHER-1"))
    good(control, node)


def with_the_same_card_twice(control: Control, node: str) -> None:
    control.present_card(node, "KEYOPS-1")
    wait_until_read(control, node, control.insert_card(node, "KEYOPS-1"))
    control.present_card(node, "KEYOPS-2")


def with_a_wrong_pin(control: Control, node: str) -> None:
    control.insert_card(node, "KEYOPS-1")
    wait_until_read(control, node, control.enter_pin(node, WRONG_PIN))
    control.enter_pin(node, control.pin_of("KEYOPS-1"))
    control.present_card(node, "KEYOPS-2")


def with_a_card_that_locks(control: Control, node: str) -> None:
    """Type three wrong PINs in a row, as a person could. No program of the collection does this."""
    control.insert_card(node, "KEYOPS-3")
    for dummy in range(3):
        restore = control.enter_pin(node, WRONG_PIN)
    wait_until_read(control, node, restore)
    good(control, node)


def with_a_card_holder_who_leaves(control: Control, node: str) -> None:
    control.present_card(node, "KEYOPS-1")
    wait_until_read(control, node, control.insert_card(node, "OTHER-1"))
    control.cancel_at_pin_pad(node)


def with_a_source_that_changes(control: Control, node: str) -> None:
    control.generate_key("node1", "meanwhile")
    good(control, node)


CEREMONIES: dict[str, t.Callable[[Control, str], None]] = {
    "node2": good,
    "node3": with_a_wrong_card,
    "node4": with_the_same_card_twice,
    "node5": with_a_wrong_pin,
    "node6": with_a_card_that_locks,
    "node7": with_a_card_holder_who_leaves,
}
FAILING, CHANGED_SOURCE, WATCHED, CANCELED, LOST = "node7", "node8", "node9", "node10", "node11"


@pytest.fixture(scope="module")
def control(runner: AnsibleRunner) -> Iterator[Control]:
    """Return a cluster for one runner. node1 has keys, all other nodes have joined."""
    with cluster(nodes=11, keys=2, key_mix={"ec-p256": 1}, faults=True, card_timeout=600) as running:
        assert runner
        running.create_mbk("OTHER")
        yield running


@pytest.fixture(scope="module")
def source(control: Control, runner: AnsibleRunner) -> dict[str, t.Any]:
    node: dict[str, t.Any] = runner.run(task("utrust_hsm_info", connection_args(control, "node1"))).result["node"]
    return node


def options(control: Control, node: str, source: dict[str, t.Any], **changes: t.Any) -> dict[str, t.Any]:
    cards = {"cards_required": 2, "cards_total": 3}
    return {**connection_args(control, node), "source": source, "pin_pad": "front-usb", **cards, **changes}


class CardHolders(threading.Thread):
    """Card holders of one node. They wait until the PIN pad prompts for a card and Ansible watches it. Only one node has the cards at a time."""

    cards = threading.Lock()

    def __init__(self, control: Control, node: str, ceremony: t.Callable[[Control, str], None]) -> None:
        super().__init__()
        self._control, self._node, self._ceremony = control, node, ceremony
        self.failure: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            wait_for(lambda: watched(self._control, self._node) and waits_for_card(self._control, self._node))
            with self.cards:
                self._ceremony(self._control, self._node)
        except Exception as exc:  # noqa: BLE001 - raised where the thread is joined
            self.failure = exc

    def check(self, output: str) -> None:
        self.join()
        if self.failure:
            raise AssertionError(
                f"the card holders of {self._node} failed. Output of Ansible:\n{output}"
            ) from self.failure


class Ceremonies(t.NamedTuple):
    """Results of the ceremonies, of check mode before them, and of a second run."""

    predicted: dict[str, dict[str, t.Any]]
    posts_in_check_mode: int
    results: dict[str, dict[str, t.Any]]
    again: dict[str, dict[str, t.Any]]
    output: str


@pytest.fixture(scope="module")
def ceremonies(control: Control, runner: AnsibleRunner, source: dict[str, t.Any]) -> Ceremonies:
    """Run in check mode, for real with card holders, then again in check mode and for real."""
    hosts = list(CEREMONIES)
    per_host = {node: options(control, node, source) for node in hosts}
    arguments = {name: f"{{{{ per_host[inventory_hostname].{name} }}}}" for name in per_host["node2"]}
    given = {"vars": {"per_host": per_host}}
    check = task(RESTORE, arguments, check_mode=True, diff=True, **given)
    real = task(RESTORE, arguments, **given)

    control.clear_log()
    predicted = {result["host"]: result for result in runner.run(check, hosts=hosts).results}
    posts = sum(request["method"] != "GET" for node in hosts for request in control.requests(node))
    control.clear_log()
    people = [CardHolders(control, node, ceremony) for node, ceremony in CEREMONIES.items()]
    ran = runner.run(real, hosts=hosts)
    for card_holders in people:
        card_holders.check(ran.output)
    done = [node for node in hosts if node != FAILING]
    again = runner.run(check, real, hosts=done)
    return Ceremonies(
        predicted,
        posts,
        {result["host"]: result for result in ran.results},
        {f"{result['host']} {number // len(done)}": result for number, result in enumerate(again.results)},
        ran.output,
    )


def test_restore_check_mode_returns_the_preview(
    control: Control, ceremonies: Ceremonies, source: dict[str, t.Any]
) -> None:
    """Check mode sends GET requests only."""
    assert ceremonies.posts_in_check_mode == 0
    for node in CEREMONIES:
        result, facts = ceremonies.predicted[node], control.node(node)
        assert (result["changed"], result["failed"], result["node"]) == (True, False, node)
        preview = result["preview"]
        assert (preview["hsm_serial"], preview["tls_fingerprint"]) == (facts["serial"], facts["tls_fingerprint"])
        assert (preview["cards_required"], preview["cards_total"]) == (2, 3)
        assert preview["source_keys_digest"] == source["keys_digest"]
        assert "Factory Reset Mode" in result["diff"]["before"]
        assert "KEYOPS" in result["diff"]["after"]
        assert "hsm_state" not in result, "check mode does not report a restored HSM"


@pytest.mark.parametrize("node", [node for node in CEREMONIES if node != FAILING])
def test_restore_restores_mbk_and_keys(
    control: Control, ceremonies: Ceremonies, source: dict[str, t.Any], node: str
) -> None:
    """The restored node signs with a key of the source."""
    result = ceremonies.results[node]
    assert result["failed"] is False, result
    assert (result["changed"], result["hsm_state"], result["in_sync"]) == (True, "operational", True)
    assert result["mbk"]["check_value"] == source["mbk"]["check_value"]
    assert result["keys_digest"] == source["keys_digest"] == inventories(control)[node]
    assert control.sign(node, "key-0001", b"message")
    assert result["events"][-1] == "restore succeeded"
    assert "PIN pad front-usb: Insert MBK card 1 of 2" in result["events"][0]


@pytest.mark.parametrize(
    ("node", "notice"),
    [
        ("node3", "Card OTHER-1 belongs to MBK OTHER, not to KEYOPS [wrong_card]"),
        ("node4", "Card KEYOPS-1 was already used [card_already_used]"),
        ("node5", "[wrong_pin]"),
        ("node6", "Card KEYOPS-3 is now permanently locked [card_locked]"),
    ],
)
def test_restore_events_have_pin_pad_errors(ceremonies: Ceremonies, node: str, notice: str) -> None:
    """A rejected card or PIN is in the events of a successful restore."""
    found = [event for event in ceremonies.results[node]["events"] if notice in event]
    assert found, ceremonies.results[node]["events"]


def test_restore_operational_node_is_unchanged(ceremonies: Ceremonies) -> None:
    """The second run changes nothing, in check mode too."""
    assert len(ceremonies.again) == 2 * (len(CEREMONIES) - 1)
    for result in ceremonies.again.values():
        assert (result["failed"], result["changed"], result["in_sync"]) == (False, False, True)
        assert result["hsm_state"] == "operational"


def test_restore_canceled_at_the_pin_pad_fails(control: Control, ceremonies: Ceremonies) -> None:
    """The message has the last PIN pad error and the number of accepted cards."""
    result = ceremonies.results[FAILING]
    assert (result["failed"], result["changed"], result["code"]) == (True, False, "canceled_at_pin_pad")
    for words in (
        f"guided restore of {FAILING} canceled after 1 of 2 cards",
        "Somebody pressed Cancel at front-usb",
        "The HSM holds the same 0 key(s) as before",
        "Last PIN pad error: Card OTHER-1 belongs to MBK OTHER, not to KEYOPS [wrong_card]",
        "Run again when cards and card holders are ready",
    ):
        assert words in result["msg"]
    assert control.node(FAILING)["state"] == "factory_reset"


def test_restore_action_shows_prompts_on_the_terminal(ceremonies: Ceremonies, runner: AnsibleRunner) -> None:
    """A module on a bastion has no terminal. Its result has the events."""
    shown = "HSM UT000002: PIN pad front-usb: Insert MBK card 1 of 2" in " ".join(ceremonies.output.split())
    assert shown == (runner.name == "action"), ceremonies.output


def test_restore_output_has_no_pin(control: Control, ceremonies: Ceremonies) -> None:
    """Neither the output nor the results have a PIN."""
    shown = ceremonies.output + json.dumps(ceremonies.results)
    for card in control.cards():
        assert control.pin_of(card["card"]) not in shown
    assert WRONG_PIN not in shown


def test_restore_source_changes_fails(control: Control, runner: AnsibleRunner, source: dict[str, t.Any]) -> None:
    """A key that is generated on the source during the restore ends the restore."""
    control.clear_log()
    people = CardHolders(control, CHANGED_SOURCE, with_a_source_that_changes)
    result = runner.run(task(RESTORE, options(control, CHANGED_SOURCE, source))).result
    people.check(json.dumps(result))
    control.delete_key("node1", "meanwhile")
    assert (result["failed"], result["code"]) == (True, "source_changed")
    assert "The HSM holds the same 0 key(s) as before" in result["msg"]
    assert control.node(CHANGED_SOURCE)["state"] == "factory_reset"


def test_restore_already_running_is_watched(control: Control, runner: AnsibleRunner, source: dict[str, t.Any]) -> None:
    """The restore continues after its controller failed."""
    first = runner.run(task(RESTORE, options(control, WATCHED, source, restore_timeout=0.01))).result
    assert (first["failed"], first["code"]) == (True, "restore_timeout")
    for words in (
        f"guided restore of {WATCHED}",
        "timed out after 0.01 s",
        "The restore continues at PIN pad front-usb",
    ):
        assert words in first["msg"]
    running = control.node(WATCHED)["running"]
    assert running == {"kind": "restore", "id": first["restore_id"]}

    elsewhere, checked = runner.run(
        task(RESTORE, options(control, WATCHED, source, pin_pad="rack-2")),
        task(RESTORE, options(control, WATCHED, source), check_mode=True),
    ).results
    assert (elsewhere["failed"], elsewhere["code"]) == (True, "restore_in_progress")
    assert "state: canceled" in elsewhere["msg"]
    assert (checked["changed"], checked["restore"]["id"]) == (True, first["restore_id"])

    control.clear_log()
    people = CardHolders(control, WATCHED, good)
    second = runner.run(task(RESTORE, options(control, WATCHED, source))).result
    people.check(json.dumps(second))
    assert (second["failed"], second["changed"], second["in_sync"]) == (False, True, True)
    assert second["restore"]["id"] == first["restore_id"]
    assert {request["method"] for request in control.requests(WATCHED)} == {"GET"}, "the restore was not started again"


def test_restore_state_canceled_cancels_once(control: Control, runner: AnsibleRunner, source: dict[str, t.Any]) -> None:
    """Check mode cancels nothing."""
    cancel = {**connection_args(control, CANCELED), "state": "canceled"}
    ran = runner.run(
        task(RESTORE, cancel),
        task(RESTORE, options(control, CANCELED, source, restore_timeout=0.01)),
        task(RESTORE, cancel, check_mode=True),
        task("utrust_hsm_info", {**connection_args(control, CANCELED), "gather": ["restore"]}),
        task(RESTORE, cancel),
        task(RESTORE, cancel),
    )
    nothing, started, predicted, still_running, canceled, again = ran.results
    assert nothing["changed"] is False
    assert predicted["changed"] is True
    assert still_running["restore"]["state"] == "waiting_for_card", "check mode cancels nothing"
    assert (canceled["changed"], canceled["restore"]["id"]) == (True, started["restore_id"])
    assert again["changed"] is False
    node = control.node(CANCELED)
    assert (node["state"], node["running"]) == ("factory_reset", None)


def test_restore_responses_lost_is_started_once(
    control: Control, runner: AnsibleRunner, source: dict[str, t.Any]
) -> None:
    """The module finds the restore of the lost response and watches it."""
    control.clear_log()
    control.fault("lost_response_after", node=LOST, method="POST")
    control.fault("lost_response_before", node=LOST, method="GET", path="/restores/", count=1)
    people = CardHolders(control, LOST, good)
    result = runner.run(task(RESTORE, options(control, LOST, source, retries=2))).result
    people.check(json.dumps(result))
    assert (result["failed"], result["in_sync"]) == (False, True)
    assert [request["method"] for request in control.requests(LOST)].count("POST") == 1


def test_restore_without_card_holders_times_out(runner: AnsibleRunner) -> None:
    """The PIN pad ends the restore, and the HSM is not changed."""
    with cluster(nodes=2, keys=1, key_mix={"ec-p256": 1}, card_timeout=0.5) as with_timeout:
        source = runner.run(task("utrust_hsm_info", connection_args(with_timeout, "node1"))).result["node"]
        before = inventories(with_timeout)
        result = runner.run(task(RESTORE, options(with_timeout, "node2", source))).result
        assert (result["failed"], result["changed"], result["code"]) == (True, False, "card_timeout")
        for words in ("guided restore of node2 failed after 0 of 2 cards", "No card was inserted within 0.5 s"):
            assert words in result["msg"]
        assert "Run again when cards and card holders are ready" in result["msg"]
        assert inventories(with_timeout) == before
        assert with_timeout.node("node2")["state"] == "factory_reset"
