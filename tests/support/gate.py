# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the role key_gate with the EJBCA view against the appliance simulator."""

from __future__ import annotations

import json
import typing as t

from tests.support.ejbca_client import TOKEN
from tests.support.playbook import play

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

NODES = ("node1", "node2", "node3")
ADMIN_WEB = "/ejbca/adminweb/"
NOTHING_ELSE = {"crypto_tokens": [], "cas": ["IssuingCA"], "key_bindings": []}


def write_gate(folder: Path) -> str:
    """Write a playbook with the gate and a task that stands for the activation."""
    tasks: list[dict[str, t.Any]] = [
        {"ansible.builtin.include_role": {"name": "keyops.utrust.key_gate"}},
        {"ansible.builtin.debug": {"msg": "ACTIVATED"}, "run_once": True, "when": "key_gate_result.passed"},
    ]
    path = folder / "gate.yml"
    path.write_text(json.dumps([{"hosts": "utrust", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    return str(path)


def gate_options(*keys: dict[str, t.Any], **more: t.Any) -> list[str]:
    """Return the arguments of a gate with the view. A view is not waited for unless `more` sets a time."""
    given = {
        "utrust_source": "node1",
        "key_gate_source": "node1",
        "key_gate_keys": list(keys),
        "key_gate_crypto_token": TOKEN,
        "key_gate_ejbca_view": True,
        "key_gate_ejbca_view_timeout": 0,
        **more,
    }
    return ["-e", json.dumps(given)]


def view_gate(
    control: Control, folder: Path, key: dict[str, t.Any], *arguments: str, env: t.Any = None, **more: t.Any
) -> Run:
    """Run the gate for one key. The activation follows if and only if the gate is open."""
    control.clear_log()
    run = play(write_gate(folder), control, *gate_options(key, **more), *arguments, env=env)
    assert (run.status == 0 and "--check" not in arguments) == ("ACTIVATED" in run.output) or "--check" in arguments
    return run


def synchronized_key(control: Control, label: str, *, loaded: t.Collection[str] = NODES) -> dict[str, t.Any]:
    """Generate a key on node1 and synchronize it. The crypto tokens of the nodes in `loaded` show it."""
    control.generate_key("node1", label)
    assert play("keyops.utrust.key_sync", control).status == 0
    for node in loaded:
        control.ejbca(node, "deactivate")  # a crypto token of Java reads its keys when it is activated
    return {"label": label}


def admin_web_requests(control: Control) -> dict[str, list[str]]:
    """Return the methods of the requests to the Admin Web of each node."""
    return {
        node: [entry["method"] for entry in control.requests(node) if entry["path"].startswith(ADMIN_WEB)]
        for node in NODES
    }


def reactivated(control: Control) -> list[str]:
    """Return the nodes with a deactivation, in the order of time."""
    found = [
        (str(entry["at"]), node)
        for node in NODES
        for entry in control.requests(node)
        if entry["path"].endswith("/deactivate")
    ]
    return [node for dummy, node in sorted(found)]
