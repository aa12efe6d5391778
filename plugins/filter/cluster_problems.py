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
short_description: "[INTERNAL] Check whether a cluster is ready"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Checks the source and all targets together, from the results of M(keyops.utrust.utrust_hsm_info).
  - Checks connectivity, quorum, state and alarms, running jobs, clocks, versions, FIPS mode, slots and their activation, MBK, certificates, backups and cards.
options:
  _input:
    description: Targets, each as RV(keyops.utrust.utrust_hsm_info#module:node).
    type: list
    elements: dict
    required: true
  source:
    description: Source node, in the same form.
    type: dict
    required: true
  operation:
    description: Planned operation, V(key_sync) or V(initial_sync).
    type: str
    default: key_sync
  max_clock_skew:
    description: Maximum difference in seconds between the clock of a node and the clock of this machine.
    type: float
    default: 60.0
  min_certificate_days:
    description: Minimum number of days that the TLS certificate of a node must be valid, if the node reports the end of validity.
    type: float
    default: 14.0
  max_backup_hours:
    description: Maximum age in hours of the last backup of a node. Without this option, backups are not checked.
    type: float
  manual_confirmations:
    description:
      - Manual confirmations, each with C(subject) (V(backup)), C(node), C(confirmed_by) and C(reason).
      - A manual confirmation without C(confirmed_by) or C(reason) does not count.
    type: list
    elements: dict
    default: []
  cards_available:
    description: Number of MBK cards that the card holders have with them.
    type: int
  allow_outage:
    description: Whether one node at a time is allowed even if the cluster loses its quorum.
    type: bool
    default: false
  unmanaged_members:
    description: Names of joined members that are not hosts of the Ansible inventory. Each member is a problem.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the problems of a cluster
  ansible.builtin.debug:
    msg: "{{ [node2.node, node3.node] | keyops.utrust.cluster_problems(source=node1.node, max_backup_hours=24) }}"
"""

RETURN = r"""
_value:
  description: Problems, each with C(code), C(node), C(text) and C(remedy).
  type: list
  elements: dict
"""


def cluster_problems(
    nodes: t.Sequence[t.Mapping[str, t.Any]],
    source: t.Mapping[str, t.Any],
    manual_confirmations: t.Sequence[t.Mapping[str, t.Any]] = (),
    unmanaged_members: t.Iterable[str] = (),
    **options: t.Any,
) -> list[dict[str, str]]:
    """See DOCUMENTATION. Raises AnsibleFilterError if the facts are not node facts, and if an option is unknown."""
    confirmed = frozenset(
        str(confirmation["node"])
        for confirmation in manual_confirmations
        if confirmation.get("subject") == "backup"
        and all(confirmation.get(name) for name in ("node", "confirmed_by", "reason"))
    )
    now = datetime.datetime.now(datetime.UTC)
    try:
        given = PreflightOptions(confirmed_backups=confirmed, unmanaged_members=tuple(unmanaged_members), **options)
        return [problem.to_dict() for problem in check_cluster(source, nodes, given, now)]
    except (KeyError, TypeError) as exc:
        raise AnsibleFilterError(
            f"cluster_problems: the input is invalid: {exc!r}. Use results of utrust_hsm_info, and options of the right type"
        ) from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"cluster_problems": cluster_problems}
