# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a role are those of its action: the role hands every option over, and documents it under its own prefix."""

from __future__ import annotations

import importlib
import re
import typing as t
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC, VIEW_SPEC

ROOT = Path(__file__).resolve().parents[2]
ACTIONS = "ansible_collections.keyops.utrust.plugins.action"
#: Role key_sync gives confirmations and their time to export and import.
#: The hosts are always those of the play. Role key_status shows keys with two filters. Role preflight never claims the cluster.
CASES = {
    "key_sync": ("utrust_sync_plan", {"confirmations", "people_timeout"}),
    "key_report": ("utrust_key_report", set()),
    "preflight": ("utrust_preflight", set()),
    "readiness": ("utrust_readiness", set()),
    "key_status": ("utrust_cluster_info", {"select", "only_drift", "fail_on_drift"}),
}
#: Options of utrust_preflight for runs that change nodes.
OF_A_CHANGE = {"claim_wait", "strict_defaults", "reasons", "drain_tasks", "undrain_tasks", "ejbca_view"}
#: Variables of the tasks of a role.
OWN = {"cluster", "drift", "hsms", "matrix", "may_drift", "undrain", "unread", "views", "views_before"}


def options_of(action: str) -> set[str]:
    spec = getattr(importlib.import_module(f"{ACTIONS}.{action}").ActionModule, "spec", READ_SPEC | VIEW_SPEC)
    return set(spec) - {"hosts", "claim"}


@pytest.mark.parametrize("role", CASES)
def test_role_has_the_options_of_its_action(role: str) -> None:
    action, more = CASES[role]
    expected = (options_of(action) | more) - (OF_A_CHANGE if role == "preflight" else set())
    specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text("utf-8"))["argument_specs"]
    documented: dict[str, t.Any] = specs["main"]["options"]
    assert {name.removeprefix(f"{role}_") for name in documented} == expected
    tasks = "".join(path.read_text("utf-8") for path in (ROOT / f"roles/{role}/tasks").iterdir())
    assert set(re.findall(rf"\b{role}_(\w+)", tasks)) - OWN == expected


@pytest.mark.parametrize("role", [path.name for path in sorted((ROOT / "roles").iterdir())])
def test_options_that_a_survey_can_fill_are_raw(role: str) -> None:
    """Ansible would reject a blank for another type before the action sees it. Keys of a gate are a list that no survey can give."""
    specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text("utf-8"))["argument_specs"]
    for name, option in specs["main"]["options"].items():
        assert option["type"] in ("raw", "str", "path") or name == "key_gate_keys", name
        assert not {"default", "choices"} & set(option), name


@pytest.mark.parametrize(
    ("tls_fingerprint", "mbk", "shown"),
    [
        ("sha256:ab", {"name": "MBK1", "check_value": "0123"}, "TLS fingerprint sha256:ab, MBK MBK1 (0123)."),
        (None, None, "TLS fingerprint unknown, MBK unknown."),
    ],
)
def test_prompt_of_guided_restore_shows_unknown_facts(
    tls_fingerprint: str | None, mbk: dict[str, str] | None, shown: str
) -> None:
    """A bridge may report neither of both. The card holders then still confirm the serial number."""
    text = (ROOT / "roles/guided_restore/tasks/node.yml").read_text("utf-8")
    confirm = yaml.safe_load(text)[0]["block"][0]["block"][1]["block"][1]
    preview = {"tls_fingerprint": tls_fingerprint, "mbk": mbk}
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(
        confirm["ansible.builtin.pause"]["prompt"]
    )
    assert shown in template.render(inventory_hostname="node2", _guided_restore_result={"preview": preview})
