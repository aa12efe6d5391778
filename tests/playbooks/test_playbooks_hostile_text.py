# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes and EJBCA with hostile texts: the terminal, the files and the audit trail show visible characters only."""

from __future__ import annotations

import json
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, TOKEN
from tests.support.hostile import EVALUATED, FREE_TEXT, LABELS, Shown, invisible, shown
from tests.support.playbook import card_holders

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

#: What an honest part of each label becomes.
ESCAPED = (r"a\x1b[2K\x1b[1A", r"b\rok: [node2]", r"f\u202egnp.yek\u202c", r"h\u200b", r"j\U000e0041", r"m\\x1b\\")


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """Node1 has the hostile labels, and every free text of each node is hostile. Node3 is in Factory Reset Mode."""
    with cluster(nodes=3, restored=2, keys=1, key_mix={"ec-p256": 1}, faults=True, ejbca=True) as running:
        for label in LABELS:
            running.generate_key("node1", label)
        running.fault("free_text", text=FREE_TEXT)
        yield running


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit",
        "UTRUST_AUDIT_FILE": str(tmp_path / "audit.jsonl"),
        "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
        "ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log"),
    }


def check(ran: Shown, folder: Path) -> str:
    """Check the output and every file of the run, and return the output."""
    assert invisible(ran.text) == []
    assert EVALUATED not in ran.text, "a text of a node was evaluated as a template"
    for path in folder.rglob("*"):
        if path.is_file():
            assert invisible(path.read_text(encoding="utf-8")) == [], path
    return ran.text


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_playbooks_show_hostile_text_as_codes(control: Control, env: dict[str, str], tmp_path: Path, form: str) -> None:
    """Readings, problems, predictions, differences and files."""
    env["ANSIBLE_CALLBACK_RESULT_FORMAT"] = form
    two = ("-e", "utrust_hosts=node1:node2", "-e", json.dumps({"key_sync_ignore_members": ["node3"]}), "-v")
    page = tmp_path / "report.html"
    audit = f"key_report_audit_file={env['UTRUST_AUDIT_FILE']}"
    status = check(shown("keyops.utrust.status", control, "-v", env=env), tmp_path)
    assert all(label in status for label in ESCAPED) or form == "json", status
    check(shown("keyops.utrust.preflight", control, "-v", env=env), tmp_path)
    report = shown("keyops.utrust.report", control, "-e", f"key_report_page={page}", "-e", audit, "-v", env=env)
    assert report.status == 0, report.text
    check(report, tmp_path)
    assert all(label in page.read_text(encoding="utf-8") for label in ESCAPED)
    predicted = shown("keyops.utrust.key_sync", control, *two, "--check", "--diff", env=env)
    assert predicted.status == 0, predicted.text
    assert "changed=1" in check(predicted, tmp_path)
    refused = ("-e", json.dumps({"key_sync_expected_new_keys": ["sha256:" + "0" * 64]}))
    unexpected = shown("keyops.utrust.key_sync", control, *two, *refused, env=env)
    assert unexpected.status != 0
    assert "key_not_expected" in check(unexpected, tmp_path)


def test_restore_shows_hostile_prompts_as_codes(control: Control, env: dict[str, str], tmp_path: Path) -> None:
    """Preview, prompts, notices and summary of a guided restore."""
    options = {"guided_restore_confirm_serial": False}
    with card_holders(control, "node3"):
        restored = shown("keyops.utrust.initial_sync", control, "-e", json.dumps(options), "-v", env=env)
    assert restored.status == 0, restored.text
    assert r"\x1b]0;x\x07\r\n" in check(restored, tmp_path)
    synchronized = shown("keyops.utrust.key_sync", control, "-vvv", "--diff", env=env)
    assert synchronized.status == 0, synchronized.text
    check(synchronized, tmp_path)
    assert len({node["keys_digest"] for node in control.status()["nodes"]}) == 1


@pytest.mark.parametrize(("level", "code"), [("hsm", None), ("sign", "gate_closed")], ids=["open", "closed"])
def test_gate_shows_hostile_labels_as_codes(
    control: Control, env: dict[str, str], tmp_path: Path, level: str, code: str | None
) -> None:
    """The operator names a key as the HSM stores its label, or as the results show it. EJBCA's errors are hostile, too."""
    gate = {"ansible.builtin.include_role": {"name": "keyops.utrust.key_gate"}}
    playbook = tmp_path / "gate.yml"
    playbook.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "tasks": [gate]}]), encoding="utf-8")
    keys = [{"label": LABELS[0]}, {"label": r"m\\x1b\\"}, {"label": LABELS[5], "ca": "none"}]
    given: dict[str, t.Any] = {"key_gate_level": level, "key_gate_keys": keys, "key_gate_nodes": ["node1"]}
    given |= {"key_gate_source": "node1", "key_gate_crypto_token": TOKEN, "key_gate_proof_certificates": True}
    (tmp_path / "given.json").write_text(json.dumps(given), encoding="utf-8")
    ran = shown(str(playbook), control, "-e", f"@{tmp_path}/given.json", "-v", env=env)
    assert ran.status == (2 if code else 0), ran.text
    text = check(ran, tmp_path)
    assert r"a\x1b[2K\x1b[1A" in text
    assert code is None or f"code: {code}" in text


def test_refusals_of_hostile_servers_show_codes(control: Control, env: dict[str, str], tmp_path: Path) -> None:
    """Titles, details and holders of problem documents, and errors and subjects of EJBCA."""
    ejbca = "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options('operator') }}"
    tasks: list[dict[str, t.Any]] = [
        {"keyops.utrust.ejbca_ca_info": {"ejbca": ejbca, "ca": CA}, "ignore_errors": True},
        {"keyops.utrust.utrust_cluster_claim": {"state": "present"}, "ignore_errors": True, "run_once": True},
        {"keyops.utrust.utrust_ksp_export": {"expect_keys_digest": "sha256:" + "0" * 64}, "ignore_errors": True},
        {
            "keyops.utrust.ejbca_key": {
                "ejbca": ejbca,
                "crypto_token": "none",
                "alias": "x\x1b",
                "key_alg": "RSA",
                "key_spec": "1",
            }
        },
    ]
    playbook = tmp_path / "refusals.yml"
    playbook.write_text(json.dumps([{"hosts": "node1", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    ran = shown(str(playbook), control, "-vvv", env=env)
    assert ran.status != 0, ran.text
    text = check(ran, tmp_path)
    assert text.count(r"\x1b]0;x") >= 3, text
