# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`ansible-playbook keyops.utrust.key_sync` as a user runs it."""

from __future__ import annotations

import base64
import json
import subprocess
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.playbook import (
    PACKAGES,
    ROOT,
    changing_methods,
    command,
    environment,
    finish,
    inventories,
    methods,
    play,
    reset_cluster,
    start,
)
from tests.support.wait import wait_for, wait_until_applying

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

SYNC = "keyops.utrust.key_sync"
#: Warnings of Ansible about what these tests do.
NO_HOST = "Could not match supplied host pattern, ignoring: "
FREE = [f"Using {keyword} with the free strategy is not " for keyword in ("run_once", "any_errors_fatal")]


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    # The claim of a killed run ends after 12 seconds instead of 120.
    with cluster(nodes=3, restored=3, faults=True, claim_second=0.1) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """Three nodes with the same keys, without faults and with empty logs."""
    reset_cluster(running)
    yield running
    running.clear_faults()


def packages_on_disk() -> set[Path]:
    return set(PACKAGES.glob("*/*/*.ksp"))


def test_new_key_is_synchronized_and_second_run_is_idempotent(control: Control) -> None:
    """All nodes can sign with the new key, and a second run only reads."""
    control.generate_key("node1", "newCaKey")
    before = packages_on_disk()

    first = play(SYNC, control)

    assert first.status == 0, first.output
    assert {host: numbers["changed"] for host, numbers in first.recap.items()} == {"node1": 0, "node2": 1, "node3": 1}
    assert len(set(inventories(control).values())) == 1
    signature = control.sign("node3", "newCaKey", b"message")
    assert signature
    assert packages_on_disk() == before

    control.clear_log()
    second = play(SYNC, control)

    assert second.status == 0, second.output
    assert second.changed == 0
    assert changing_methods(control) == set(), "a second run must export nothing"


def test_target_gets_at_most_seven_requests(control: Control) -> None:
    """A changed target gets at most seven requests, and with nothing to do each target gets one."""
    control.generate_key("node1", "countedKey")

    assert play(SYNC, control).status == 0
    assert max(len(control.requests(node)) for node in ("node2", "node3")) <= 7

    control.clear_log()
    assert play(SYNC, control).status == 0
    assert [len(control.requests(node)) for node in ("node2", "node3")] == [1, 1]


def count_lines(output: str, start: str) -> int:
    return sum(line.startswith(start) for line in output.splitlines())


def test_output_is_short(control: Control) -> None:
    """A new key for two targets takes at most 12 tasks and 6 lines of skipped hosts, nothing to do at most 8 and 4."""
    control.generate_key("node1", "shownKey")

    run = play(SYNC, control)
    assert run.status == 0, run.output
    assert count_lines(run.output, "TASK [") <= 12
    assert count_lines(run.output, "skipping:") <= 6
    assert run.output.index("node3  synchronized now") < run.output.index("PLAY RECAP")
    assert run.output.rindex("TASK [") < run.output.index("node3  synchronized now"), "the summary is last"

    again = play(SYNC, control)
    assert again.status == 0, again.output
    assert count_lines(again.output, "TASK [") <= 8
    assert count_lines(again.output, "skipping:") <= 4


def test_check_mode_predicts_the_run_and_only_reads(control: Control) -> None:
    """Check mode predicts the changes and sends only GET requests."""
    control.generate_key("node1", "predictedKey")
    before, packages = inventories(control), packages_on_disk()

    run = play(SYNC, control, "--check", "--diff")

    assert run.status == 0, run.output
    assert {host: numbers["changed"] for host, numbers in run.recap.items()} == {"node1": 0, "node2": 1, "node3": 1}
    assert "+slot 0 predictedKey (sha256:" in run.output
    assert "would be synchronized: 1 key(s) to add" in run.text
    assert methods(control) == {"GET"}
    assert inventories(control) == before
    assert packages_on_disk() == packages


def test_limit_narrows_the_targets_but_not_the_source(control: Control) -> None:
    """With --limit, the run still exports from the source."""
    control.generate_key("node1", "limitedKey")
    before = inventories(control)
    control.clear_log()

    run = play(SYNC, control, "--limit", "node3")

    assert run.status == 0, run.output
    after = inventories(control)
    assert after["node3"] == after["node1"]
    assert after["node2"] == before["node2"]
    assert control.connections("node2") == 0
    assert [request["path"] for request in control.requests("node1") if request["method"] == "POST"] == [
        "/api/v1/hsm/packages"
    ]
    assert {request["path"] for request in control.requests("node3") if request["method"] == "POST"} >= {
        "/api/v1/hsm/imports"
    }


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--limit", "node1"], "to (no target)"),
        (["-e", "utrust_hosts=nowhere"], "no_matching_host"),
        (["-e", "utrust_source=node9"], "is not a host of the inventory"),
    ],
    ids=["only the source", "no matching host", "unknown source"],
)
def test_run_without_target_or_source_fails(control: Control, arguments: list[str], code: str) -> None:
    """A run without a target or a valid source fails and states the reason."""
    run = play(SYNC, control, *arguments, warnings=[NO_HOST])

    assert run.status != 0
    assert code in run.text
    assert "nothing was" in run.text.lower()
    assert methods(control) == set()


def test_missing_source_is_reported(control: Control) -> None:
    """The message names the variables that set the source."""
    run = play(SYNC, control, "-e", "utrust_source=''")

    assert run.status != 0
    assert "utrust_source in the inventory" in run.text


def test_empty_inventory_fails(control: Control, tmp_path: Path) -> None:
    """A run without hosts fails."""
    (tmp_path / "empty.yml").write_text("all:\n  hosts: {}\n", encoding="utf-8")

    run = play(SYNC, control, inventory=tmp_path / "empty.yml", warnings=["provided hosts list is empty", NO_HOST])

    assert run.status != 0
    assert "no_matching_host" in run.text


def test_problems_of_all_nodes_are_reported_before_a_change(control: Control) -> None:
    """The run reports the problems of all nodes at once, and obeys the decisions of people."""
    control.generate_key("node1", "wantedKey")
    control.generate_key("node2", "onlyOnNode2")
    control.generate_key("node3", "wantedKey")
    before = inventories(control)

    run = play(SYNC, control)

    assert run.status != 0
    assert "onlyOnNode2" in run.text
    assert " extra_keys: " in run.text
    assert " key_mismatch: " in run.text
    assert inventories(control) == before
    assert changing_methods(control) == set()

    allowed = [key["fingerprint"] for key in control.keys("node1") if key["label"] == "wantedKey"]
    replace = json.dumps(
        {"key_sync_extra_keys": "keep", "key_sync_allow_replace": [{"fingerprint": allowed[0], "reason": "test key"}]}
    )
    run = play(SYNC, control, "-e", replace)

    assert run.status == 0, run.output
    after = inventories(control)
    assert after["node3"] == after["node1"]
    assert {key["label"] for key in control.keys("node2")} >= {"wantedKey", "onlyOnNode2"}
    assert play(SYNC, control, "-e", replace).changed == 0


def test_destroyed_key_is_not_restored(control: Control) -> None:
    """A key in key_sync_destroyed_keys stops the run."""
    [destroyed] = control.generate_key("node1", "destroyedKey")
    before = inventories(control)

    run = play(SYNC, control, "-e", json.dumps({"key_sync_destroyed_keys": [destroyed["fingerprint"]]}))

    assert run.status != 0
    assert " destroyed_key_would_return: " in run.text
    assert inventories(control) == before
    control.delete_key("node1", "destroyedKey")


def test_failed_canary_stops_rollout_and_removes_package(control: Control) -> None:
    """After a failed canary, no other node changes, and the package is removed."""
    control.generate_key("node1", "canaryKey")
    control.fault("corrupt_download", node="node1")
    before, packages = inventories(control), packages_on_disk()

    run = play(SYNC, control)

    assert run.status != 0
    assert "download_corrupt" in run.text
    assert inventories(control) == before
    assert packages_on_disk() == packages

    control.clear_faults()
    control.fault("lost_response_before", node="node2", method="POST", path="/apply$")
    run = play(SYNC, control, "-e", "key_sync_wait_timeout=3")

    assert run.status != 0
    assert inventories(control)["node3"] == before["node3"], "no node may change after a failed canary"
    assert packages_on_disk() == packages

    control.clear_faults()
    assert play(SYNC, control).status == 0
    assert len(set(inventories(control).values())) == 1


def test_response_lost_after_commit_is_resolved_by_reading(control: Control) -> None:
    """The run reads the node after a lost response, and sends no POST again."""
    control.generate_key("node1", "lostAnswerKey")
    control.fault("lost_response_after", node="node2", method="POST", path="/apply$", count=1)

    run = play(SYNC, control)

    assert run.status == 0, run.output
    assert len([r for r in control.requests("node2") if r["path"].endswith("/apply")]) == 1, "a POST is never resent"
    assert len(set(inventories(control).values())) == 1


def test_serial_and_free_strategy_fail(control: Control, tmp_path: Path) -> None:
    """The role fails in a play with serial or with the strategy free."""
    control.generate_key("node1", "notMovedKey")
    for keyword, message in (
        ("serial: 1", "must not use serial"),
        ("strategy: free", "strategy free does not honor run_once"),
    ):
        playbook = tmp_path / "own.yml"
        playbook.write_text(
            "- hosts: utrust\n  gather_facts: false\n  "
            f"{keyword}\n  vars: {{key_sync_source: node1}}\n  roles: [keyops.utrust.key_sync]\n",
            encoding="utf-8",
        )

        run = play(str(playbook), control, warnings=FREE)

        assert run.status != 0
        assert message in run.text
        assert changing_methods(control) == set()


def by_token(control: Control, folder: Path) -> Path:
    """The inventory with a bearer token instead of a client certificate."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    for variables in inventory["utrust"]["hosts"].values():
        del variables["utrust_client_cert"], variables["utrust_client_key"]
        variables["utrust_bearer_token"] = control.token
    written = folder / "inventory.yml"
    written.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return written


def test_nothing_secret_is_in_any_output_at_vvvv(control: Control, tmp_path: Path) -> None:
    control.generate_key("node1", "quietKey")
    tmp_path.chmod(0o700)
    kept = tmp_path / "kept.ksp"

    run = play(SYNC, control, "-vvvv", "--diff", "-e", f"key_sync_dest={kept}", inventory=by_token(control, tmp_path))

    assert run.status == 0, run.output
    assert control.requests("node2")[-1]["client"] != "operator", "the run must log in with the token"
    assert control.token not in run.output
    assert "PRIVATE KEY" not in run.output
    package = kept.read_bytes()
    for start_of_window in range(0, len(package) - 48, 1024):
        window = package[start_of_window : start_of_window + 48]
        assert window.hex() not in run.output
        assert base64.b64encode(window).decode() not in run.output


def test_options_passed_as_text_are_converted(control: Control) -> None:
    """--extra-vars key=value passes numbers and booleans as text."""
    control.generate_key("node1", "textKey")
    texts = [
        "key_sync_wait_timeout=60",
        "key_sync_batch_size=1",
        "key_sync_allow_outage=false",
        "key_sync_canary=node3",
    ]

    run = play(SYNC, control, *(word for text in texts for word in ("-e", text)))

    assert run.status == 0, run.output
    assert run.output.index("node3: package applied") < run.output.index("node2: importing"), (
        "the canary goes first and alone"
    )


@pytest.mark.parametrize(
    "text",
    [
        "key_sync_canary=nod3",
        "key_sync_canary=node1",
        "key_sync_batch_size=0",
        "key_sync_batch_size=two",
        "key_sync_wait_timeout=0",
        "key_sync_wait_timeout=soon",
        "key_sync_extra_keys=lose",
        "key_sync_allowed_extra_keys=label",
        "key_sync_max_backup_hours=-1",
        "key_sync_approvals_required=two",
        "key_sync_approvals_required=-1",
    ],
)
def test_invalid_limits_fail_before_a_change(control: Control, text: str) -> None:
    """Invalid canary, batch size and time limit are errors."""
    control.generate_key("node1", f"refused-{text.replace('=', '-')}")

    run = play(SYNC, control, "-e", text)

    assert run.status != 0
    assert "code: option_invalid" in run.text
    assert methods(control) == set()


def test_joined_member_missing_from_inventory_is_reported(control: Control, tmp_path: Path) -> None:
    """A joined member outside of the inventory stops the run, unless the member is ignored."""
    control.generate_key("node1", "forgottenKey")
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    del inventory["utrust"]["hosts"]["node3"]
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

    refused = play(SYNC, control, inventory=tmp_path / "inventory.yml")

    assert refused.status != 0
    assert "node3 is a joined member, as node1 reports, but no host of the play is this node" in refused.text
    assert changing_methods(control) == set()
    resembling = play(SYNC, control, "-e", "key_sync_ignore_members=node33,node4", inventory=tmp_path / "inventory.yml")
    assert " member_not_in_inventory: " in resembling.text

    allowed = play(
        SYNC, control, "-e", json.dumps({"key_sync_ignore_members": ["node3"]}), inventory=tmp_path / "inventory.yml"
    )

    assert allowed.status == 0, allowed.output
    assert "node3  MUST BE GATED before use: keys changed without this node" in allowed.output


def test_host_names_may_differ_from_node_names(control: Control, tmp_path: Path) -> None:
    """Inventory host names do not need to be node names."""
    control.generate_key("node1", "renamedKey")
    hosts = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))["utrust"]["hosts"]
    renamed = {f"hsm-{name}.example": {**variables, "utrust_node": name} for name, variables in hosts.items()}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump({"utrust": {"hosts": renamed}}), encoding="utf-8")

    run = play(SYNC, control, "-e", "utrust_source=hsm-node1.example", inventory=tmp_path / "inventory.yml")

    assert run.status == 0, run.output
    assert len(set(inventories(control).values())) == 1
    assert "MUST BE GATED" not in run.text


def test_wrong_clock_is_reported_before_a_change(control: Control) -> None:
    """A clock difference above the limit stops the run."""
    control.generate_key("node1", "clockKey")
    control.fault("clock_skew", node="node2")

    run = play(SYNC, control)

    assert run.status != 0
    assert " clock_skew: " in run.text
    assert changing_methods(control) == set()


def test_member_lost_during_rollout_stops_the_rollout(control: Control) -> None:
    """If a member disconnects during the rollout, the run stops and names the member."""
    control.generate_key("node1", "memberKey")
    control.fault("hold_apply", node="node2")
    process = start(SYNC, control, "-e", "key_sync_wait_timeout=3", "-e", "key_sync_batch_size=1")
    wait_until_applying(control, "node2")
    control.fault("member_disconnected", node="node2", member="node3")
    control.clear_faults("hold_apply")
    run = finish(process)

    assert run.status != 0
    assert "timed out after 3 s. node2 does not report node3 as Connected" in run.text
    assert not [request for request in control.requests("node3") if request["method"] == "POST"]


def test_key_added_to_source_during_run_stops_the_export(control: Control) -> None:
    """If the source gets a key after the comparison, the run does not export."""
    control.generate_key("node1", "plannedKey")
    control.fault("latency", node="node3", method="GET", path="/keys", count=1, seconds=3)
    process = start(SYNC, control)
    wait_for(lambda: bool(control.requests("node2")))
    control.generate_key("node1", "surpriseKey")
    run = finish(process)

    assert run.status != 0
    assert " source_changed: " in run.text or "source_changed" in run.text
    assert not [
        request for node in ("node2", "node3") for request in control.requests(node) if request["method"] == "POST"
    ]


@pytest.mark.parametrize("blank", ["", " ", None])
def test_blank_options_count_as_not_set(control: Control, blank: str | None) -> None:
    """A survey sends blanks for questions without an answer."""
    options = yaml.safe_load((ROOT / "roles/key_sync/meta/argument_specs.yml").read_text(encoding="utf-8"))
    names = [name for name in options["argument_specs"]["main"]["options"] if name != "key_sync_source"]

    run = play(SYNC, control, "--check", "-e", json.dumps({**dict.fromkeys(names, blank), "utrust_bastion": ""}))

    assert run.status == 0, run.output


@pytest.mark.parametrize("blank", ["  ", None])
def test_package_is_removed_if_dest_is_blank(control: Control, blank: str | None) -> None:
    """Blank text and null are no path, so that the run keeps no package."""
    control.generate_key("node1", "blankDest")
    before = packages_on_disk()

    run = play(SYNC, control, "-e", json.dumps({"key_sync_dest": blank}))

    assert run.status == 0, run.output
    assert run.recap["node1"]["changed"] == 0
    assert packages_on_disk() == before


def test_progress_is_on_stderr_only(control: Control) -> None:
    """stdout can be the document of a callback."""
    control.generate_key("node1", "progressKey")
    run = subprocess.run(
        command(SYNC, control), cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    for words in ("exported", "importing 1 new", "package applied"):
        assert words in run.stderr
        assert words not in run.stdout


@pytest.mark.parametrize("dest", ["/nonexistent/x.ksp", "/x.ksp", "missing/x.ksp"])
@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["run", "check"])
def test_bad_dest_is_refused_before_a_change(control: Control, dest: str, arguments: list[str]) -> None:
    """The destination of the package is checked first, also in check mode."""
    control.generate_key("node1", f"destKey{len(dest)}{len(arguments)}")
    control.clear_log()

    run = play(SYNC, control, *arguments, "-e", f"key_sync_dest={dest}")

    assert run.status != 0
    assert " directory_missing: " in run.text or " directory_not_private: " in run.text
    assert "chmod 0700 /," not in run.text
    assert changing_methods(control) == set()


def test_cluster_of_two_requires_allow_outage() -> None:
    """A cluster of two nodes requires key_sync_allow_outage."""
    with cluster(nodes=2, restored=2) as control:
        control.generate_key("node1", "newCaKey")
        before = inventories(control)

        refused = play(SYNC, control)

        assert refused.status != 0
        assert " quorum_at_risk: " in refused.text
        assert "set allow_outage: true" in refused.text
        assert inventories(control) == before

        accepted = play(SYNC, control, "-e", "key_sync_allow_outage=true")

        assert accepted.status == 0, accepted.output
        assert len(set(inventories(control).values())) == 1


def test_node_that_has_not_joined_gets_no_connection() -> None:
    """No playbook connects to a node that has not joined the cluster."""
    with cluster(nodes=4, joined=3, restored=3) as control:
        control.generate_key("node1", "newCaKey")
        control.clear_log()

        run = play(SYNC, control)

        assert run.status != 0
        assert "node_not_joined" in run.text
        for playbook in ("keyops.utrust.status", "keyops.utrust.initial_sync"):
            lack = [f"{node} holds the MBK of node1 but not the same keys" for node in ("node2", "node3")]
            play(playbook, control, warnings=lack)
        assert control.connections("node4") == 0
        assert play(SYNC, control, "--limit", "!node4").status == 0


def test_disconnected_nodes_count_against_the_quorum() -> None:
    """Nodes that are already down count as lost for the quorum."""
    with cluster(nodes=3, restored=3, faults=True) as control:
        control.generate_key("node1", "newCaKey")
        control.fault("member_disconnected", node="node1", member="node3")

        run = play(SYNC, control, "--limit", "node2")

        assert run.status != 0
        assert " quorum_at_risk: " in run.text
        assert "Already down: node3" in run.text
