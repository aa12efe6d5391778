# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter rollout."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.rollout import plan_rollout

DOCUMENTATION = r"""
name: rollout
short_description: "[INTERNAL] Plan the batches of a rollout"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Makes batches of the hosts that need the Key Synchronization Package. The canary is the first batch.
  - At most C((n-1)//2) of all members may be down at once, because a node may restart and a cluster without quorum stops. Members that are already down count.
options:
  _input:
    description: Inventory hosts that need the package.
    type: list
    elements: str
    required: true
  members:
    description: Member list of the source node.
    type: list
    elements: dict
    required: true
  canary:
    description: First host. The first host of the list if not set.
    type: str
  batch_size:
    description: Maximum number of hosts in a batch.
    type: int
  allow_outage:
    description: Whether one node at a time is allowed even if the cluster loses its quorum.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the batches
  ansible.builtin.debug:
    msg: "{{ ['node2', 'node3'] | keyops.utrust.rollout(members=source.node.members) }}"
"""

RETURN = r"""
_value:
  description: Dictionary with C(batches), a list of lists of hosts, and C(refusal), the reason if C(batches) is empty.
  type: dict
"""


def rollout(hosts: t.Sequence[str], members: t.Sequence[t.Mapping[str, t.Any]], **options: t.Any) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError for options of another type."""
    try:
        return plan_rollout(hosts, members=members, **options)._asdict()
    except TypeError as exc:
        raise AnsibleFilterError(f"rollout: {exc}") from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"rollout": rollout}
