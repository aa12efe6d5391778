# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters key_matrix and key_table."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.module_utils import _decode as decode
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._matrix import key_matrix as matrix_of

DOCUMENTATION = r"""
name: key_matrix
short_description: The keys of several nodes side by side
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Compares the inventories of several nodes by fingerprint, in both directions, seen from the source node.
options:
  _input:
    description: For each node its inventory, as C(hsm_keys) of M(keyops.utrust.utrust_hsm_info) has it.
    type: dict
    required: true
  source:
    description: Name of the node with the latest key material.
    type: str
    required: true
seealso:
  - plugin: keyops.utrust.key_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Name the nodes that do not hold the source's keys
  ansible.builtin.debug:
    msg: "{{ (inventories | keyops.utrust.key_matrix(source='node1')).drift | map(attribute='node') }}"
"""

RETURN = r"""
_value:
  description:
    - C(in_sync), C(nodes), C(drift) (a node each, with what is C(missing), C(extra), C(mismatched) and C(unusable)) and C(rows) (a key each, with
      C(nodes), which says V(present), V(missing), V(extra), V(mismatched) or V(unusable) for each node).
  type: dict
"""


def key_matrix(inventories: t.Mapping[str, t.Sequence[t.Mapping[str, t.Any]]], source: str) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError for anything that is no inventory, and for an unknown source."""
    if source not in inventories:
        raise AnsibleFilterError(f"key_matrix: the source {source!r} is not among the nodes {', '.join(inventories)}")
    try:
        return matrix_of(
            {node: [decode.hsm_key(dict(key)) for key in held] for node, held in inventories.items()}, source
        )
    except UtrustError as exc:
        raise AnsibleFilterError(f"key_matrix: {exc}") from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"key_matrix": key_matrix}
