# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter key_matrix."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import NodeKeys, parse_node_keys
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import key_matrix as matrix_of
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.select import select as select_keys

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

DOCUMENTATION = r"""
name: key_matrix
short_description: The keys of several nodes side by side
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Compares the keys of several nodes by fingerprint, in both directions, seen from the source node.
  - Works from inventory digests. The inventory is needed of the source, of nodes whose digest differs from the source's, and of nodes that cannot use some,
    but not all, of their keys. A node of which that is not known is V(unknown), and never in sync.
  - Fingerprints of secret keys are check values of three bytes only. Such rows are marked C(check_value_only).
options:
  _input:
    description:
      - For each node what M(keyops.utrust.utrust_hsm_info) returned, with C(hsm_keys) or without, or only the list C(hsm_keys). A result without C(node), or
        nothing, stands for a node that could not be read.
    type: dict
    required: true
  source:
    description: Name of the node with the latest key material.
    type: str
    required: true
  select:
    description:
      - A JMESPath expression that narrows the keys, as in P(keyops.utrust.select_keys#filter). All nodes are compared, and what is shown and judged is what
        concerns these keys.
      - It is an error if no node holds such a key.
    type: str
seealso:
  - plugin: keyops.utrust.key_table
    plugin_type: filter
  - plugin: keyops.utrust.select_keys
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Name the nodes that do not hold the source's keys
  ansible.builtin.debug:
    msg: "{{ (inventories | keyops.utrust.key_matrix(source='node1')).drift | map(attribute='node') }}"
"""

RETURN = r"""
_value:
  description: The comparison.
  type: dict
  contains:
    source:
      description: The source node.
      type: str
    nodes:
      description: All nodes, in the order of the input.
      type: list
      elements: str
    in_sync:
      description: Whether every node holds the keys of the source, no other ones, and can use them.
      type: bool
    in_sync_nodes:
      description: Nodes that hold the keys of the source, no other ones, and can use them.
      type: list
      elements: str
    unknown:
      description: Nodes of which that is not known, each with C(node) and C(reason).
      type: list
      elements: dict
    drift:
      description:
        - Nodes that differ, each with C(node) and the keys that are C(missing), C(extra), C(mismatched) (C(source_key) and C(target_key)) and C(unusable), and the
          numbers C(unchanged) and C(check_value_only). The source itself is among them if it cannot use some of its keys.
      type: list
      elements: dict
    weak:
      description: Number of rows that are weak.
      type: int
    rows:
      description:
        - A key each, with C(nodes), which says for each node V(present), V(missing), V(extra) (the source does not have it), V(mismatched) (another
          key under the same slot and label), V(unusable), V(absent) (neither this node nor the source has it) or V(unknown).
      type: list
      elements: dict
"""


def key_matrix(nodes: t.Mapping[str, t.Any], source: str, select: str | None = None) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError for anything that is no inventory, for an unknown source and for a selection without a key."""
    if source not in nodes:
        raise AnsibleFilterError(f"key_matrix: the source {source!r} is not among the nodes {', '.join(nodes)}")
    try:
        held = {str(node): parse_node_keys(given) for node, given in nodes.items()}
        matrix = matrix_of(held, source, predicate=_choice(held, select) if select else None)
    except UtrustError as exc:
        raise AnsibleFilterError(f"key_matrix: {exc} [{exc.code}]") from exc
    if select and not matrix["rows"]:
        raise AnsibleFilterError(
            f"key_matrix: no node holds a key that {select!r} selects, so there is nothing to compare"
        )
    return matrix


def _choice(nodes: t.Mapping[str, NodeKeys], expression: str) -> t.Callable[[HsmKey], bool]:
    """Whether a key is among those that the expression selects of all that the nodes hold."""
    known = {(key, key.usable): key.to_dict() for held in nodes.values() for key in held.hsm_keys or ()}
    predicate = {schema.parse_key(key) for key in select_keys(list(known.values()), expression, by="key_matrix")}
    return lambda key: key in predicate


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"key_matrix": key_matrix}
