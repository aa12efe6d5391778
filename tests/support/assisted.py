# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster of the simulator with transport `assisted`: its inventory, and confirmations as data."""

from __future__ import annotations

import json
import typing as t
from contextlib import contextmanager

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import make_confirmation
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_RULES, CONNECTION_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._runner import open_appliance
from ansible_collections.keyops.utrust.plugins.plugin_utils._assisted import with_assisted
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import connection_options

from tests.support.commissioning import commission
from tests.support.playbook import play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import Confirmation, People, Step
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from utrust_appliance.control import Control

    from tests.support.playbook import Run
    from tests.support.webconf_person import WebconfPerson

Facts = dict[str, t.Any]
SYNC, INITIAL = "keyops.utrust.key_sync", "keyops.utrust.initial_sync"
API = "/api/v1/"
#: Two targets, so that a run can stop between them. EC keys are fast.
CLUSTER: t.Final[Facts] = {"key_mix": {"ec-p256": 1}, "keys": 2, "ejbca": True, "no_api": True}


#: Options that are weaker than the strict defaults, with their reasons: these tests have no load balancer and no approvers.
WEAKER: t.Final[Facts] = {
    "key_sync_approvals_required": 0,
    "key_sync_audit": "optional",
    "key_sync_batch_size": 3,
    "key_sync_settle_time": 0,
    "key_sync_health_check": False,
    "key_sync_ejbca_view": False,
    "guided_restore_audit": "optional",
    "guided_restore_ejbca_view": False,
    "utrust_change_reference": "CHG-0640",
}
OPTIONS: t.Final = ("approvals_required", "audit", "batch_size", "settle_time", "health_check", "ejbca_view")
REASONS: t.Final = dict.fromkeys(OPTIONS, "a rehearsal")
#: Nobody reports a backup.
BACKUPS: t.Final = [
    {"subject": "backup", "node": f"node{number}", "confirmed_by": "Alice", "reason": "a rehearsal"}
    for number in (1, 2, 3)
]


class Rehearsal:
    """Runs playbooks on a cluster without an appliance API. `hosts` changes variables of hosts in the inventory, and the commissioning record has these."""

    def __init__(self, control: Control, folder: Path, **hosts: Facts) -> None:
        self.control = control
        inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
        for host, changes in hosts.items():
            inventory["utrust"]["hosts"][host] |= changes
        # Not among the extra variables, so that a host outside of the cluster has none.
        inventory["utrust"]["vars"] = {"utrust_source": "node1", "utrust_lock_dir": str(folder)}
        commission(inventory, folder)
        self.inventory = folder / "assisted.yml"
        self.inventory.write_text(yaml.safe_dump(inventory), encoding="utf-8")

    def arguments(self, *confirmations: Facts, **more: t.Any) -> list[str]:
        """Return extra variables. By default, nobody waits for a view, and a restart is acceptable."""
        given = {
            **WEAKER,
            "key_sync_reasons": REASONS,
            "guided_restore_reasons": REASONS,
            "key_sync_manual_confirmations": BACKUPS,
            "guided_restore_manual_confirmations": BACKUPS,
            "key_sync_ejbca_view_timeout": 0,
            "key_sync_allow_outage": True,
            "key_sync_confirmations": list(confirmations),
            "guided_restore_confirmations": list(confirmations),
            "guided_restore_ejbca_view_timeout": 0,
            **more,
        }
        return ["-e", json.dumps({"utrust_source": "node1", **given})]

    def play(self, playbook: str, *confirmations: Facts, check: bool = False, **more: t.Any) -> Run:
        env = more.pop("env", None)
        mode = ["--check"] if check else []
        arguments = [*self.arguments(*confirmations, **more), *mode]
        return play(playbook, self.control, *arguments, inventory=self.inventory, env=env)

    def sync(self, *confirmations: Facts, **more: t.Any) -> Run:
        return self.play(SYNC, *confirmations, **more)

    def new_key(self, label: str) -> None:
        """Generate a key on the source. A reactivation lets EJBCA of the source show it."""
        self.control.generate_key("node1", label)
        self.show("node1")

    def show(self, node: str) -> None:
        """Let EJBCA of a node read the keys of its HSM: a crypto token with auto-activation is active again at once."""
        self.control.ejbca(node, "deactivate")

    def labels(self, node: str) -> set[str]:
        return {key["label"] for key in self.control.keys(node)}


class ActingPeople:
    """People who do each step at Webconf of the simulator before they confirm it. With `show`, EJBCA of the node shows the keys at once."""

    def __init__(self, person: WebconfPerson, *, show: bool = True) -> None:
        self._person, self._show = person, show

    def confirm(self, step: Step, timeout: float) -> Confirmation:
        given = self._person.act(step.node, step.id)
        if self._show and step.id != "package_downloaded":
            self._person.control.ejbca(step.node, "deactivate")
        return make_confirmation(step, given)


@contextmanager
def assisted_node(control: Control, node: str, people: People | None = None) -> Iterator[Appliance]:
    """Open a node as an action does, with the variables of its inventory host."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))["utrust"]["hosts"]
    hostvars = {
        host: {"inventory_hostname": host, "utrust_source": "node1", **of_host} for host, of_host in inventory.items()
    }
    options = with_assisted(connection_options(hostvars[node]), hostvars[node], hostvars)
    checked = ArgumentSpecValidator(CONNECTION_SPEC, **CONNECTION_RULES).validate(options)
    assert not checked.error_messages, checked.error_messages
    with open_appliance(checked.validated_parameters, people) as appliance:
        yield appliance


def api_requests(control: Control) -> list[str]:
    """Return the requests to the appliance API of any node, which transport assisted never sends."""
    return [
        f"{node['node']} {entry['method']} {entry['path']}"
        for node in control.status()["nodes"]
        for entry in control.requests(node["node"])
        if entry["path"].startswith(API)
    ]
