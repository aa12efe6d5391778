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
short_description: In which order and how many at once nodes take a package
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Makes batches of the hosts that have to take a Key Synchronization Package. The canary comes first and alone. At most C((n-1)//2) of all members are out at
    once, those counted that are down already, because a node may restart and a cluster without quorum stops.
options:
  _input:
    description: Inventory hosts that have to take the package.
    type: list
    elements: str
    required: true
  members:
    description: Member list of the source node.
    type: list
    elements: dict
    required: true
  canary:
    description: Host that goes first. The first of the list if not set.
    type: str
  batch_size:
    description: The operator's own limit of a batch.
    type: int
  allow_outage:
    description: Whether one node at a time is allowed even where that costs the quorum.
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
  description: C(batches), a list of lists of hosts, and C(refusal), which says why there are none.
  type: dict
"""


def rollout(hosts: t.Sequence[str], members: t.Sequence[t.Mapping[str, t.Any]], **limits: t.Any) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError for limits of another type."""
    try:
        return plan_rollout(hosts, members=members, **limits)._asdict()
    except TypeError as exc:
        raise AnsibleFilterError(f"rollout: {exc}") from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"rollout": rollout}
