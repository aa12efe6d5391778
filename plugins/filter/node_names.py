# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter node_names."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._node_names import node_name

DOCUMENTATION = r"""
name: node_names
short_description: "[INTERNAL] Return the node names of inventory hosts"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Returns the variable C(utrust_node) of each host, or the name of the inventory host.
options:
  _input:
    description: Variables of hosts, as in C(hostvars.values()).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the nodes of the inventory
  ansible.builtin.debug:
    msg: "{{ hostvars.values() | keyops.utrust.node_names }}"
"""

RETURN = r"""
_value:
  description: Node names, in the order of the hosts.
  type: list
  elements: str
"""


def node_names(hosts: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """See DOCUMENTATION."""
    return [node_name(variables) for variables in hosts]


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"node_names": node_names}
