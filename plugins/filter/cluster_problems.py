# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter cluster_problems."""

from __future__ import annotations

import datetime
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import PreflightOptions, check_cluster

DOCUMENTATION = r"""
name: cluster_problems
short_description: What speaks against touching a cluster, as data
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Judges the source and all targets together, from what M(keyops.utrust.utrust_hsm_info) told of each - connectivity, quorum, state and alarms, running jobs,
    clocks, versions, FIPS mode, slot layout and way of activation, MBK, certificates, backups and cards at hand.
options:
  _input:
    description: The targets, each as RV(keyops.utrust.utrust_hsm_info#module:node).
    type: list
    elements: dict
    required: true
  source:
    description: The source node, in the same form.
    type: dict
    required: true
  operation:
    description: What is to be done, V(key_sync) or V(initial_sync).
    type: str
    default: key_sync
  max_clock_skew:
    description: Seconds that a node's clock may differ from this machine's.
    type: float
    default: 60.0
  min_certificate_days:
    description: Days that the TLS certificate of a node must still be valid, where the node tells when it expires.
    type: float
    default: 14.0
  max_backup_hours:
    description: Hours that the last backup of a node may be old. Not looked at if not set.
    type: float
  manual_confirmations:
    description:
      - What cannot be read and is vouched for, each with C(subject) (V(backup)), C(node), C(confirmed_by) and C(reason). One without C(confirmed_by) and C(reason) does not count.
    type: list
    elements: dict
    default: []
  cards_available:
    description: How many MBK cards the card holders have with them.
    type: int
  allow_outage:
    description: Whether one node at a time is allowed even where that costs the quorum.
    type: bool
    default: false
  unmanaged_members:
    description: Names of members that have joined and are no host of the inventory. Each is a problem.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what speaks against a synchronization
  ansible.builtin.debug:
    msg: "{{ [node2.node, node3.node] | keyops.utrust.cluster_problems(source=node1.node, max_backup_hours=24) }}"
"""

RETURN = r"""
_value:
  description: Every problem, each with C(code), C(node), C(text) and C(remedy).
  type: list
  elements: dict
"""


def cluster_problems(
    nodes: t.Sequence[t.Mapping[str, t.Any]],
    source: t.Mapping[str, t.Any],
    manual_confirmations: t.Sequence[t.Mapping[str, t.Any]] = (),
    unmanaged_members: t.Iterable[str] = (),
    **limits: t.Any,
) -> list[dict[str, str]]:
    """See DOCUMENTATION. Raises AnsibleFilterError for facts that are not those of a node, and for unknown limits."""
    confirmed = frozenset(
        str(one["node"])
        for one in manual_confirmations
        if one.get("subject") == "backup" and one.get("node") and one.get("confirmed_by") and one.get("reason")
    )
    now = datetime.datetime.now(datetime.UTC)
    try:
        given = PreflightOptions(confirmed_backups=confirmed, unmanaged_members=tuple(unmanaged_members), **limits)
        return [problem.to_dict() for problem in check_cluster(source, nodes, given, now)]
    except (KeyError, TypeError) as exc:
        raise AnsibleFilterError(
            f"cluster_problems: {exc!r}; give results of utrust_hsm_info, and limits of the right type"
        ) from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"cluster_problems": cluster_problems}
