# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes in and out of traffic: pure functions. Private to keyops.utrust.

A node gets requests from the load balancer unless its variable `utrust_traffic` is false.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.sync import Target

Document = dict[str, t.Any]

SMART_CARD: t.Final = "smart_card"
OPERATOR_REMEDY: t.Final = "let a person with the code or the cards stand by, and set operator_present: true. The role then imports into one node at a time"


def plan_traffic(
    targets: t.Sequence[Target], hosts: t.Sequence[str], in_traffic: t.Collection[str], options: t.Mapping[str, t.Any]
) -> Document:
    """Return which task files a run includes for which nodes. `hosts` are all nodes of the run, `options` those of utrust_sync_plan.

    `drain` and `undrain` are targets that get keys. `returning` are targets in sync: an earlier run may have left them drained.
    """
    eligible = [target for target in targets if target.host in in_traffic]
    pending = [target.host for target in eligible if target.pending]
    drain_tasks, undrain_tasks = options["drain_tasks"], options["undrain_tasks"]
    return {
        "members": [host for host in hosts if host in in_traffic],
        "drain_tasks": drain_tasks,
        "undrain_tasks": undrain_tasks,
        "drain": pending if drain_tasks is not None else [],
        "undrain": pending if undrain_tasks is not None else [],
        "returning": [target.host for target in eligible if not target.pending] if undrain_tasks is not None else [],
        "settle_time": options["settle_time"],
        "health_check": options["health_check"],
    }


def task_files(traffic: t.Mapping[str, t.Any], *, pending: bool, ejbca_view: bool) -> dict[str, str | None]:
    """Return the task files of role key_sync for a plan: of the whole rollout, of the imports, and of one batch. None means that nothing is to do."""
    apply = ("apply_and_verify.yml" if ejbca_view else "apply.yml") if pending else None
    batch = "import_and_verify_batch.yml" if ejbca_view else "import_batch.yml"
    files = {"rollout_tasks": apply, "apply_tasks": apply, "import_tasks": batch, "batch_tasks": batch}
    orders = ("drain", "undrain", "settle_time", "health_check")
    if not (traffic["returning"] or (pending and any(traffic[name] for name in orders))):
        return files
    return {**files, "rollout_tasks": "rollout.yml", "batch_tasks": "traffic_batch.yml"}


def batch_limit(batch_size: int | None, *, operator_present: bool) -> int | None:
    """Return the largest number of targets in a batch that the options allow. A person can stand by at one node only."""
    return 1 if operator_present else batch_size


def check_operator(nodes: t.Iterable[Node], *, operator_present: bool) -> list[Problem]:
    """Check that a person stands by for slots with Smart Card Activation, because a restart can close them."""
    return [
        Problem(
            "operator_required",
            node.name,
            f"slot {slot.slot} of {node.name} uses Smart Card Activation, so it can stay closed after an import",
            OPERATOR_REMEDY,
        )
        for node in nodes
        for slot in node.slots
        if slot.activation == SMART_CARD and not operator_present
    ]


def check_health(health: t.Mapping[str, str | None]) -> list[Problem]:
    """Return a problem for each node that does not pass its health check. `health` has the error of each node, or None."""
    remedy = "fix EJBCA of this node. If the load balancer sends no requests to the node, set its variable utrust_traffic to false"
    return [
        Problem("member_unhealthy", host, f"the health check of EJBCA on {host} fails: {error}", remedy)
        for host, error in health.items()
        if error is not None
    ]


def check_drained(drained: t.Iterable[str], *, undrain_tasks: bool) -> list[Problem]:
    """Return a problem for each node that an earlier batch of this run has left drained."""
    remedy = "follow the line DRAINED of the summary, then run again"
    reason = "its undrain tasks did not end" if undrain_tasks else "no undrain tasks are set"
    return [Problem("node_drained", host, f"{host} is still drained: {reason}", remedy) for host in drained]


def drained_lines(drained: t.Iterable[str], *, undrain_tasks: bool) -> list[str]:
    """Return a line for each node that the run has left drained, with what to do."""
    if undrain_tasks:
        text = "because its undrain tasks did not end. Send no requests to it. Fix the first error, then run again: the run gates the node and undrains it"
    else:
        text = "and no undrain tasks are set. Check the node, then let the load balancer send requests to it"
    return [f"{host}: DRAINED, {text}" for host in drained]
