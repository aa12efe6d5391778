# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`renew_ca_generate: false`: the CA gets a key that people made in a key ceremony on the source."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, FIRST, TOKEN
from tests.support.gate import NODES
from tests.support.playbook import ROOT, changing_methods, methods, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

EXAMPLES = ROOT / "molecule/renew_ca/tasks"
REFERENCE = "Ceremony 2026-11"


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=1, ejbca=True) as running:
        yield running


def renew(control: Control, alias: str, *arguments: str, env: dict[str, str] | None = None, **more: t.Any) -> Run:
    given = {
        "renew_ca_name": CA,
        "renew_ca_crypto_token": TOKEN,
        "renew_ca_alias": alias,
        "renew_ca_generate": False,
        "renew_ca_ceremony_reference": REFERENCE,
        "renew_ca_key_alg": "EC",
        "renew_ca_key_spec": "P-256",
        "renew_ca_proof_ca": f"Gate-{alias}",
        "renew_ca_proof_certificates": True,
        "renew_ca_proof_tasks": str(EXAMPLES / "make_proof_ca.yml"),
        "renew_ca_ejbca_view": True,
        "renew_ca_reactivate": True,
        "renew_ca_reactivation_affects": {"crypto_tokens": [], "cas": [CA], "key_bindings": []},
        "renew_ca_out_of_traffic": ["node2", "node3"],
        "renew_ca_switch_tasks": str(EXAMPLES / "switch_ca.yml"),
        **more,
    }
    given = {name: value for name, value in given.items() if value is not None}
    variables = json.dumps({"utrust_source": "node1", **given})
    return play("keyops.utrust.renew_ca", control, "-e", variables, *arguments, env=env)


def hold_ceremony(control: Control, alias: str) -> str:
    """Generate a key on the source, as people do. Returns its key fingerprint."""
    control.generate_key("node1", alias)
    control.ejbca("node1", "deactivate")  # the token finds the key at its next activation
    return next(str(key["fingerprint"]) for key in control.keys("node1") if key["label"] == alias)


def test_renewal_uses_the_key_of_a_ceremony(control: Control, tmp_path: Path) -> None:
    """No key is generated, and the audit trail has the reference and the key."""
    fingerprint = hold_ceremony(control, "ceremony-1")
    trail = tmp_path / "audit.jsonl"
    env = {
        "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit",
        "UTRUST_AUDIT_FILE": str(trail),
        "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
    }
    control.clear_log()
    planned = renew(control, "ceremony-1", "--check", renew_ca_key_fingerprint=fingerprint)
    assert planned.status == 0, planned.output
    assert methods(control) == {"GET"}
    assert f"would use ceremony-1 {fingerprint}" in planned.text

    run = renew(control, "ceremony-1", renew_ca_key_fingerprint=fingerprint, env=env)

    assert run.status == 0, run.output
    assert not [each for each in control.requests("node1") if each["path"].endswith("generatekeys")]
    assert f"{CA} uses ceremony-1 {fingerprint}" in run.text
    records = [json.loads(line) for line in trail.read_text(encoding="utf-8").splitlines()]
    [checked] = [each for each in records if each["event"] == "ceremony_key_checked"]
    assert checked["result"]["ceremony_reference"] == REFERENCE
    assert checked["result"]["hsm_key"]["fingerprint"] == fingerprint
    assert "key_generated" not in [each["event"] for each in records]


def test_ceremony_key_that_differs_stops_before_a_change(control: Control) -> None:
    """Each problem has its code, also in check mode, and neither the key nor a copy is made."""
    for dummy in range(2):
        hold_ceremony(control, "twice")
    hold_ceremony(control, "ceremony-2")
    control.clear_log()
    for alias, more, code in (
        ("nowhere", {}, "key_not_found"),
        ("ceremony-2", {"renew_ca_slot": 1}, "key_not_found"),
        ("ceremony-2", {"renew_ca_key_alg": "RSA", "renew_ca_key_spec": "3072"}, "key_spec_mismatch"),
        ("ceremony-2", {"renew_ca_key_spec": "P-384"}, "key_spec_mismatch"),
        ("ceremony-2", {"renew_ca_key_fingerprint": "sha256:" + "0" * 64}, "ceremony_key_mismatch"),
        ("ceremony-2", {"renew_ca_key_fingerprint": "ceremony-2"}, "option_invalid"),
        ("ceremony-2", {"renew_ca_ceremony_reference": None}, "option_invalid"),
        ("ceremony-2", {"renew_ca_ceremony_reference": " "}, "option_invalid"),
        ("ceremony-2", {"renew_ca_generate": ""}, "option_invalid"),
        ("ceremony-2", {"renew_ca_generate": "perhaps"}, "option_invalid"),
        ("twice", {}, "alias_ambiguous"),
    ):
        arguments = ["--check"] if code != "option_invalid" else []
        run = renew(control, alias, *arguments, **more)
        assert run.status != 0, (alias, more)
        assert f"code: {code}" in run.text, (alias, more, run.output)
    assert changing_methods(control) == set()
    assert "nowhere" not in [key["label"] for key in control.keys("node1")]


def test_ceremony_key_needs_no_operator_account(control: Control, tmp_path: Path) -> None:
    """People confirm the key, so no task uses the operator account. A renewal that generates a key names its variable."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    for variables in inventory["utrust"]["hosts"].values():
        variables["utrust_ejbca_operator_client_cert"] = ""
        del variables["utrust_ejbca_operator_client_key"]
    path = tmp_path / "inventory.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    hold_ceremony(control, "ceremony-3")
    given = json.dumps(
        {
            "utrust_source": "node1",
            "renew_ca_name": CA,
            "renew_ca_crypto_token": TOKEN,
            "renew_ca_alias": "ceremony-3",
            "renew_ca_key_alg": "EC",
            "renew_ca_key_spec": "P-256",
            "renew_ca_switch_tasks": str(EXAMPLES / "switch_ca.yml"),
        }
    )
    ceremony = json.dumps({"renew_ca_generate": "no", "renew_ca_ceremony_reference": REFERENCE})

    generated = play("keyops.utrust.renew_ca", control, "-e", given, "--check", inventory=path)
    found = play("keyops.utrust.renew_ca", control, "-e", given, "-e", ceremony, inventory=path)

    assert generated.status != 0
    assert "utrust_ejbca_operator_client_cert [credentials_missing]" in generated.text
    assert "confirmation_missing" in found.text, found.output


def test_renewal_makes_no_test_signature_of_a_root_ca(control: Control) -> None:
    """The role recognizes the root CA by its certificate, so nobody must mark its key."""
    control.ejbca("node1", "create_ca", name="Root", alias=FIRST, in_health_check=False)
    control.clear_log()
    run = renew(control, "root-2", renew_ca_name="Root", renew_ca_sign_test=True)
    assert run.status != 0
    assert "Root is a root CA, or its certificate cannot be read" in run.text, run.output
    assert "proof_not_allowed" in run.text
    assert not [each for node in NODES for each in control.requests(node) if "key1=" in each["path"]]


def test_renewal_needs_no_proof_ca_with_a_test_signature(control: Control) -> None:
    """The EJBCA view and the test signature of each node open the gate, and no certificate is issued."""
    for node in NODES:
        control.ejbca(node, "flags", version="9.3.0")
    fingerprint = hold_ceremony(control, "ceremony-4")
    control.clear_log()
    without = dict.fromkeys(("renew_ca_proof_ca", "renew_ca_proof_certificates", "renew_ca_proof_tasks"))
    try:
        run = renew(control, "ceremony-4", renew_ca_sign_test=True, **without)
    finally:
        for node in NODES:
            control.ejbca(node, "flags", reset=True)
    assert run.status == 0, run.output
    assert run.text.count("EJBCA of this node signed with the key twice") == 3
    assert f"{CA} uses ceremony-4 {fingerprint}" in run.text
    requests = [each for node in NODES for each in control.requests(node)]
    assert not [each for each in requests if each["path"].endswith("pkcs10enroll")]
