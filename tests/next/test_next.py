# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks on the next ansible-core, before its release: they pass, and nothing prints a warning."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import typing as t

import pytest
from packaging.requirements import Requirement
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, TOKEN
from tests.support.playbook import ROOT, card_holders, inventories, play

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

NEXT = str(ROOT / ".venv-next/bin/ansible-playbook")


@pytest.fixture(scope="module", autouse=True)
def version() -> str:
    """Return the version of the next ansible-core, after setting up its environment."""
    subprocess.run([sys.executable, str(ROOT / "tests/tools/setup_env.py"), "next"], check=True)
    return subprocess.run([NEXT, "--version"], capture_output=True, text=True, check=True).stdout


def quiet(playbook: str, control: Control, *arguments: str, **options: t.Any) -> Run:
    """Run a playbook of the collection that must pass. `play` fails if it prints a warning."""
    run = play(f"keyops.utrust.{playbook}", control, *arguments, ansible_playbook=NEXT, **options)
    assert run.status == 0, run.output
    return run


def test_next_ansible_core_is_newer_than_the_tools(version: str) -> None:
    """An older Python runs the newest ansible-core that it can run."""
    lines = (ROOT / "tests/requirements/next.in").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.startswith("ansible-core==")]
    python = re.search(r"python version = (\d+\.\d+)", version)
    assert python
    (pin,) = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": python[1]})]
    assert f"core {str(pin.specifier).removeprefix('==')}]" in version


def test_next_ansible_core_prints_no_warning(tmp_path: Path) -> None:
    """Restore, plan, synchronization, status, report and audit trail work without a warning."""
    audit = tmp_path / "audit.jsonl"
    plan = tmp_path / "plan.json"
    enabled = {"ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit", "UTRUST_AUDIT_FILE": str(audit)}
    with cluster(nodes=3) as control:
        with card_holders(control, "node2", "node3"):
            quiet("initial_sync", control)
        control.generate_key("node1", "newCaKey")
        quiet("preflight", control)
        assert quiet("key_sync", control, "--check", "--diff", "-e", f"key_sync_plan_dest={plan}").changed == 2
        assert quiet("key_sync", control, env=enabled).changed == 2
        assert len(set(inventories(control).values())) == 1
        assert quiet("key_sync", control).changed == 0
        quiet("status", control)
        quiet("report", control, "-e", f"key_report_page={tmp_path / 'report.html'}")
        quiet("verify_audit", control, "-e", f"audit_file={audit}")


def test_next_ansible_core_renews_a_ca_without_warning() -> None:
    """The playbooks that use EJBCA, and the end of a restore that nobody completes."""
    tasks = ROOT / "molecule/renew_ca/tasks"
    variables = {
        "renew_ca_name": CA,
        "renew_ca_crypto_token": TOKEN,
        "renew_ca_alias": "nextKey",
        "renew_ca_key_alg": "EC",
        "renew_ca_key_spec": "P-256",
        "renew_ca_proof_ca": "NextGate",
        "renew_ca_proof_tasks": str(tasks / "make_proof_ca.yml"),
        "renew_ca_proof_certificates": True,
        "renew_ca_ejbca_view": True,
        "renew_ca_reactivate": True,
        "renew_ca_reactivation_affects": {"crypto_tokens": [], "cas": ["IssuingCA"], "key_bindings": []},
        "renew_ca_out_of_traffic": ["node2", "node3"],
        "renew_ca_switch_tasks": str(tasks / "switch_ca.yml"),
    }
    with cluster(nodes=3, restored=3, keys=1, ejbca=True) as control:
        renewal = ("-e", json.dumps(variables))
        quiet("renew_ca", control, *renewal, "--check")
        assert quiet("renew_ca", control, *renewal).changed > 0
        assert quiet("renew_ca", control, *renewal).changed == 0
        quiet("cancel_restore", control)
