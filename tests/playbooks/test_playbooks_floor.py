# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All playbooks on the oldest supported ansible-core."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.hostile import EVALUATED, FREE_TEXT, LABELS, invisible, shown
from tests.support.playbook import ROOT, card_holders, inventories, play

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def floor() -> str:
    """Return ansible-playbook of the oldest supported ansible-core, after setting up its environment."""
    subprocess.run([sys.executable, str(ROOT / "tests/tools/setup_env.py"), "floor"], check=True)
    return str(ROOT / ".venv-floor/bin/ansible-playbook")


def test_playbooks_work_on_the_oldest_ansible_core(floor: str, tmp_path: Path) -> None:
    """Restore, synchronization, status and report work on the oldest supported ansible-core."""
    version = subprocess.run([floor, "--version"], capture_output=True, text=True, check=True).stdout
    assert "core 2.18." in version or sys.version_info >= (3, 14)
    with cluster(nodes=3) as control:
        with card_holders(control, "node2", "node3"):
            restored = play("keyops.utrust.initial_sync", control, ansible_playbook=floor)
        assert restored.status == 0, version + restored.output
        control.generate_key("node1", "newCaKey")

        predicted = play("keyops.utrust.key_sync", control, "--check", "--diff", ansible_playbook=floor)
        assert predicted.changed == 2, predicted.output
        synchronized = play("keyops.utrust.key_sync", control, ansible_playbook=floor)
        assert synchronized.status == 0, synchronized.output
        assert synchronized.changed == 2
        assert len(set(inventories(control).values())) == 1
        assert play("keyops.utrust.key_sync", control, ansible_playbook=floor).changed == 0

        status = play("keyops.utrust.status", control, ansible_playbook=floor)
        assert status.status == 0
        assert "in sync: node1, node2, node3 hold the same 11 key(s)" in status.text

        # This ansible-core does not mark untrusted text by itself.
        control.generate_key("node1", "{{ lookup('pipe', 'touch $VICTIM') }}<script>")
        page, victim = tmp_path / "report.html", tmp_path / "victim"
        report = play(
            "keyops.utrust.report",
            control,
            "-e",
            f"key_report_page={page}",
            ansible_playbook=floor,
            env={"VICTIM": str(victim)},
        )
        assert report.status == 0, report.output
        assert "touch $VICTIM&#39;) }}&lt;script&gt;" in page.read_text(encoding="utf-8")
        assert json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["verdict"] == "drift"
        assert not victim.exists()


def test_hostile_text_on_the_oldest_ansible_core(floor: str, tmp_path: Path) -> None:
    """Labels and free texts of a node reach the terminal, the page and the log as codes."""
    page, two = tmp_path / "report.html", ("-e", "utrust_hosts=node1:node2", "-e", "key_sync_ignore_members=node3")
    env = {"ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log")}
    with cluster(nodes=3, restored=2, keys=1, key_mix={"ec-p256": 1}, faults=True) as control:
        for label in LABELS:
            control.generate_key("node1", label)
        control.fault("free_text", text=FREE_TEXT)
        for playbook, *arguments in (
            ("status", "-v"),
            ("preflight", "-v"),
            ("report", "-v", "-e", f"key_report_page={page}"),
            ("key_sync", "-v", "--check", "--diff", *two),
            ("key_sync", "-vvv", "--diff", *two),
        ):
            ran = shown(f"keyops.utrust.{playbook}", control, *arguments, ansible_playbook=floor, env=env)
            assert invisible(ran.text) == []
            assert EVALUATED not in ran.text
            assert ran.status == (2 if playbook == "preflight" else 0), ran.text
        assert len({node["keys_digest"] for node in control.status()["nodes"][:2]}) == 1
    for path in (page, page.with_suffix(".json"), tmp_path / "ansible.log"):
        assert invisible(path.read_text(encoding="utf-8")) == [], path
