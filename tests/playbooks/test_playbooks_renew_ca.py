# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`ansible-playbook keyops.utrust.renew_ca`: all nodes issue certificates during the whole renewal."""

from __future__ import annotations

import json
import threading
import typing as t
from contextlib import contextmanager

import pytest
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import Api, cluster

from tests.support.approvals import at
from tests.support.ejbca_client import CA, TOKEN, EjbcaClient, openssl_verifies
from tests.support.playbook import ROOT, changing_methods, finish, methods, play, start
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

NODES = ("node1", "node2", "node3")
EXAMPLES = ROOT / "molecule/renew_ca/tasks"
OTHER = "a-token-of-another-client-0001"


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=1, ejbca=True, faults=True) as running:
        yield running


def variables(alias: str, **more: t.Any) -> list[str]:
    given = {
        "renew_ca_name": CA,
        "renew_ca_crypto_token": TOKEN,
        "renew_ca_alias": alias,
        "renew_ca_key_alg": "EC",
        "renew_ca_key_spec": "P-256",
        "renew_ca_proof_ca": f"Gate-{alias}",
        "renew_ca_proof_tasks": str(EXAMPLES / "make_proof_ca.yml"),
        "renew_ca_proof_certificates": True,
        "renew_ca_ejbca_view": True,
        "renew_ca_reactivate": True,
        "renew_ca_reactivation_affects": {"crypto_tokens": [], "cas": [CA], "key_bindings": []},
        "renew_ca_out_of_traffic": ["node2", "node3"],
        "renew_ca_switch_tasks": str(EXAMPLES / "switch_ca.yml"),
    }
    return [
        "-e",
        json.dumps(
            {"utrust_source": "node1"} | {key: value for key, value in (given | more).items() if value is not None}
        ),
    ]


def renew(control: Control, alias: str, *arguments: str, **more: t.Any) -> Run:
    return play("keyops.utrust.renew_ca", control, *variables(alias, **more), *arguments)


class Customers(t.NamedTuple):
    """Issued certificates as (node, certificate, CA certificate), and the errors of failed requests."""

    issued: list[tuple[str, str, str]]
    refused: list[str]


@contextmanager
def customers(control: Control) -> Iterator[Customers]:
    """Request certificates from every node until the block ends."""
    stop, seen = threading.Event(), Customers([], [])

    def ask(node: str) -> None:
        while not stop.wait(0.1):
            try:
                made = control.ejbca(node, "issue")
                seen.issued.append((node, made["certificate"], made["ca_certificate"]))
            except OperationError as exc:
                seen.refused.append(f"{node}: {exc}")

    people = [threading.Thread(target=ask, args=(node,)) for node in NODES]
    for person in people:
        person.start()
    try:
        yield seen
    finally:
        stop.set()
        for person in people:
            person.join()


def current(control: Control, node: str = "node2") -> str:
    known = {ca["name"]: ca for ca in control.ejbca(node, "status")["certificate_authorities"]}
    return str(known[CA]["current"]["alias"])


def test_renewal_fails_no_request_and_is_idempotent(control: Control, tmp_path: Path) -> None:
    """All nodes issue certificates during the whole renewal, and a second run changes nothing."""
    control.clear_log()
    planned = renew(control, "renewed-1", "--check")
    assert planned.status == 0, planned.output
    assert methods(control) == {"GET"}

    control.clear_log()
    with customers(control) as seen:
        run = renew(control, "renewed-1")
    assert run.status == 0, run.output
    assert seen.refused == []
    for node in NODES:
        own = [(certificate, ca) for issuer, certificate, ca in seen.issued if issuer == node]
        assert len({ca for dummy, ca in own}) == 2, f"{node} issued certificates before and after the renewal"
        assert [openssl_verifies(*pair, tmp_path) for pair in (own[0], own[-1])] == [True, True]
    assert {current(control, node) for node in NODES} == {"renewed-1"}
    assert f"{CA} uses renewed-1" in run.text

    claims = [r["method"] for r in control.requests("node1") if r["path"].endswith("/cluster/claim")]
    assert (claims[0], claims[-1], claims.count("PUT"), claims.count("DELETE")) == ("PUT", "DELETE", 1, 1)

    again = renew(control, "renewed-1")
    assert (again.status, again.changed) == (0, 0), again.output


@pytest.mark.parametrize("level", [None, "hsm"])
def test_renewal_without_gate_at_level_sign_fails_requests(control: Control, tmp_path: Path, level: str | None) -> None:
    """Without the gate, or with the gate at level hsm, nodes cannot issue after the renewal."""
    alias = f"hasty-{level or 'none'}"
    control.generate_key("node1", alias)
    control.ejbca("node1", "deactivate")
    gate = {"key_gate_source": "node1", "key_gate_keys": [{"label": alias}], "key_gate_level": level or "hsm"}
    tasks: list[dict[str, t.Any]] = [
        {"ansible.builtin.include_role": {"name": "keyops.utrust.key_sync"}, "vars": {"key_sync_source": "node1"}},
        {"ansible.builtin.include_role": {"name": "keyops.utrust.key_gate"}, "vars": gate, "when": level is not None},
        {"ansible.builtin.include_tasks": str(EXAMPLES / "switch_ca.yml"), "when": "inventory_hostname == 'node1'"},
    ]
    playbook = tmp_path / "hasty.yml"
    plays = [{"hosts": "utrust", "gather_facts": False, "connection": "local", "tasks": tasks}]
    playbook.write_text(json.dumps(plays), encoding="utf-8")

    with customers(control) as seen:
        run = play(str(playbook), control, *variables(alias))
    assert run.status == 0, run.output
    assert {refusal.partition(":")[0] for refusal in seen.refused} == {"node2", "node3"}
    assert f"does not contain a key with alias {alias}" in seen.refused[0]

    for node in ("node2", "node3"):
        control.ejbca(node, "deactivate")
        assert EjbcaClient(control, node).health() == (200, "ALLOK")


def test_keys_that_targets_lack_do_not_stop_a_renewal(control: Control) -> None:
    """The check before the renewal runs in check mode, and so does its import."""
    control.generate_key("node1", "lackedBefore")
    run = renew(control, "renewed-5")
    assert run.status == 0, run.output
    assert "lackedBefore" in [key["label"] for key in control.keys("node3")]


def test_closed_gate_keeps_the_current_ca_key(control: Control) -> None:
    """If a node cannot sign with the new key, the CA keeps its current key."""
    before = current(control)
    run = renew(control, "renewed-2", renew_ca_reactivate=False)
    assert run.status != 0
    assert "gate_closed" in run.text
    assert "Deactivate and activate the crypto token SigningToken in EJBCA's Admin Web" in run.text
    assert (current(control), all(control.ejbca(node, "issue") for node in NODES)) == (before, True)


def test_renewal_stops_until_people_have_tested_the_key(control: Control) -> None:
    """Without a proof CA, the first run stops after the synchronization, and a second run with confirmations continues."""
    before = current(control)
    people = {"renew_ca_proof_ca": None, "renew_ca_proof_tasks": None, "renew_ca_reactivate": None}
    early = [
        {"node": node, "key": "sha256:" + "0" * 64, "time": at(-1), "confirmed_by": "x", "reason": "x"}
        for node in NODES
    ]

    stopped = renew(control, "renewed-6", **people, renew_ca_manual_confirmations=early)

    assert stopped.status != 0
    assert "confirmation_missing" in stopped.text
    assert (current(control), all(control.ejbca(node, "issue") for node in NODES)) == (before, True)
    fingerprint = next(key["fingerprint"] for key in control.keys("node3") if key["label"] == "renewed-6")
    assert fingerprint in stopped.text
    assert renew(control, "renewed-6", **people).status != 0
    closed = renew(control, "renewed-6", **people, renew_ca_manual_confirmations=early)
    assert "gate_closed" in closed.text

    for node in NODES:
        control.ejbca(node, "deactivate")
    tested = [{**each, "key": fingerprint, "time": at()} for each in early]
    run = renew(control, "renewed-6", **people, renew_ca_manual_confirmations=tested)
    assert run.status == 0, run.output
    assert current(control) == "renewed-6"


def test_activation_with_another_key_is_detected(control: Control, tmp_path: Path) -> None:
    """The playbook compares the key of the CA certificate, because EJBCA can generate a second key with the alias."""
    text = (EXAMPLES / "switch_ca.yml").read_text(encoding="utf-8")
    wrong = tmp_path / "switch_ca.yml"
    control.generate_key("node1", other := "another-key")
    control.ejbca("node1", "deactivate")  # the token finds the key at its next activation
    wrong.write_text(text.replace("{{ renew_ca_alias }}", other), encoding="utf-8")
    run = renew(control, "renewed-3", renew_ca_switch_tasks=str(wrong))
    assert run.status != 0
    assert "ca_key_mismatch" in run.text, run.output


@pytest.mark.parametrize("skipped", ["node1", "node3"])
def test_condition_that_leaves_out_a_host_stops_the_renewal(control: Control, tmp_path: Path, skipped: str) -> None:
    """The source issues with the new key, and every other node must be able to."""
    roles = [{"role": "keyops.utrust.renew_ca", "when": f"inventory_hostname != '{skipped}'"}]
    playbook = tmp_path / "conditional.yml"
    playbook.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "roles": roles}]), encoding="utf-8")
    control.clear_log()
    run = play(str(playbook), control, *variables("neverConditional"))
    assert run.status != 0
    assert "[member_not_in_play]" in run.text
    assert changing_methods(control) == set()


@pytest.mark.parametrize("other", [True, False], ids=["other run", "nobody"])
def test_claim_that_ends_during_tasks_of_users(control: Control, tmp_path: Path, other: bool) -> None:
    """The run takes a new claim, or stops before the gate and the activation if another run has claimed the cluster."""
    before, marker, go = current(control), tmp_path / "waits", tmp_path / "go"
    wait = f"touch {marker}; while [ ! -e {go} ]; do sleep 0.1; done"
    tasks = tmp_path / "proof.yml"
    tasks.write_text(
        json.dumps(
            [
                {"ansible.builtin.include_tasks": str(EXAMPLES / "make_proof_ca.yml")},
                {"ansible.builtin.shell": wait, "delegate_to": "localhost"},
            ]
        ),
        encoding="utf-8",
    )
    alias = f"slowTasks-{other}"
    process = start(
        "keyops.utrust.renew_ca",
        control,
        *variables(alias, renew_ca_proof_tasks=str(tasks)),
        "-e",
        "ansible_connection=local",
    )
    wait_for(marker.exists, limit=120)
    control.fault("end_claim", node="node1", method="GET", path="/node$")
    Api(control, "node1")("GET", "/node")
    control.clear_faults()
    if other:
        claimed = Api(control, "node1", claim=OTHER)("PUT", "/cluster/claim", {"holder": "another run", "ttl": 120})
        assert claimed.status == 200
    control.clear_log()
    go.touch()

    run = finish(process)
    if other:
        Api(control, "node1", claim=OTHER)("DELETE", "/cluster/claim")
        assert run.status != 0
        assert "another run has claimed the cluster" in run.text
        assert current(control) == before
        assert not [r for r in control.requests("node2") if r["path"].endswith("pkcs10enroll")]
    else:
        assert run.status == 0, run.output
        claims = [r["method"] for r in control.requests("node1") if r["path"].endswith("/cluster/claim")]
        assert (claims.count("PUT"), claims[-1]) == (1, "DELETE")
        assert current(control) == alias


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tags", "renew"],
        ["--tags", "renew", "--skip-tags", "always,untagged"],
        ["--skip-tags", "always"],
        ["--tags", "renew", "--skip-tags", "renew"],
    ],
    ids=" ".join,
)
def test_tags_do_not_cut_a_renewal(control: Control, tmp_path: Path, arguments: list[str]) -> None:
    """Every task of the role runs, or no task."""
    roles = [{"role": "keyops.utrust.renew_ca", "tags": ["renew"]}]
    playbook = tmp_path / "tagged.yml"
    playbook.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "roles": roles}]), encoding="utf-8")
    tasks = [
        [
            line
            for line in play(str(playbook), control, *variables("never"), "--check", *more).output.splitlines()
            if line.startswith("TASK") and "Validating" not in line
        ]
        for more in ([], arguments)
    ]
    assert len(tasks[0]) > 15
    assert tasks[1] in (tasks[0], [])
    assert (tasks[1] == []) == (arguments[-1] == "renew" and "--skip-tags" in arguments)


def test_renewal_problems_are_reported_before_a_change(control: Control) -> None:
    """Invalid options, an unhealthy EJBCA, extra keys and excluded members stop the run before the key exists."""
    control.clear_log()
    for more, word in (
        ({"renew_ca_switch_tasks": "switch_ca.yml"}, "option_invalid"),
        ({"renew_ca_name": "NoCA"}, "ca_missing"),
        ({"key_sync_audit": "required"}, "audit_inactive"),
        ({"renew_ca_wait_timeout": "soon"}, "option_invalid"),
        ({"renew_ca_wait_timeout": -1}, "option_invalid"),
        ({"renew_ca_reactivate": "maybe"}, "option_invalid"),
        ({"renew_ca_out_of_traffic": ""}, "node_in_traffic"),
        ({"renew_ca_out_of_traffic": "node2,node9"}, "option_invalid"),
        ({"renew_ca_proof_certificates": ""}, "proof_not_allowed"),
        ({"renew_ca_public_trust": "true"}, "proof_not_allowed"),
        ({"renew_ca_qualified": True}, "proof_not_allowed"),
        ({"renew_ca_qualified": True, "renew_ca_proof_ca": ""}, "option_invalid"),
        ({"renew_ca_manual_confirmations": [{"node": "node2"}]}, "option_invalid"),
    ):
        run = renew(control, "renewed-4", **more)
        assert run.status != 0
        assert word in run.text
    control.generate_key("node3", "onlyHere")
    differs = renew(control, "renewed-4")
    assert differs.status != 0
    assert "extra_keys" in differs.text
    limited = renew(control, "renewed-4", "--limit", "node1,node2", renew_ca_out_of_traffic=["node2"])
    assert limited.status != 0
    assert "node3: member_not_in_inventory: node3 is a joined member, as node1 reports" in limited.text
    assert changing_methods(control) == set()
    assert "renewed-4" not in [key["label"] for key in control.keys("node1")]
