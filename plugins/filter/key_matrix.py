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
short_description: Compare the keys of several nodes
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Compares the keys of each node with the keys of the source by key fingerprint, in both directions.
  - Compares keys digests first. The filter requires the list of keys only for the source, for nodes with another keys digest, and for nodes with some unusable
    keys.
  - A node without the required data is V(unknown), and never in sync.
  - The key fingerprint of a secret key is a check value (KCV) of three bytes. These rows have C(check_value_only=true).
options:
  _input:
    description:
      - Results of M(keyops.utrust.utrust_hsm_info) by node, with or without C(hsm_keys), or only the lists C(hsm_keys).
      - A result without C(node), or V(null), stands for a node that could not be read.
    type: dict
    required: true
  source:
    description: Name of the node with the latest keys.
    type: str
    required: true
  select:
    description:
      - JMESPath expression that selects keys, as in P(keyops.utrust.select_keys#filter). The result contains only the selected keys.
      - The filter fails if no node holds a selected key.
    type: str
seealso:
  - plugin: keyops.utrust.key_table
    plugin_type: filter
  - plugin: keyops.utrust.select_keys
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the nodes that differ from the source
  ansible.builtin.debug:
    msg: "{{ (results | keyops.utrust.key_matrix(source='node1')).drift | map(attribute='node') }}"
"""

RETURN = r"""
_value:
  description: Comparison of the nodes.
  type: dict
  contains:
    source:
      description: Name of the source.
      type: str
    nodes:
      description: Names of all nodes, in the order of the input.
      type: list
      elements: str
    in_sync:
      description: Whether each node holds exactly the keys of the source and can use them.
      type: bool
    in_sync_nodes:
      description: Nodes that hold exactly the keys of the source and can use them.
      type: list
      elements: str
    unknown:
      description: Nodes that could not be compared, each with C(node) and C(reason).
      type: list
      elements: dict
    drift:
      description:
        - Nodes that differ, each with C(node) and the lists of keys C(missing), C(extra), C(mismatched) (C(source_key) and C(target_key)) and C(unusable).
        - Each entry also has the numbers C(unchanged) and C(check_value_only). The list contains the source if the source cannot use all of its keys.
      type: list
      elements: dict
    check_value_only:
      description: Number of rows that are compared by a check value only.
      type: int
    rows:
      description:
        - Keys, each with C(nodes), which has the state of the key on each node.
        - The state is V(present), V(missing), V(extra), V(mismatched), V(unusable), V(absent) or V(unknown).
        - A key is V(extra) if only the node holds the key, and V(absent) if neither the node nor the source holds the key.
        - A key is V(mismatched) if another key has the same slot and label.
      type: list
      elements: dict
"""


def key_matrix(nodes: t.Mapping[str, t.Any], source: str, select: str | None = None) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError for invalid results, for an unknown source and for a selection without a key."""
    if source not in nodes:
        raise AnsibleFilterError(f"key_matrix: the source {source!r} is not among the nodes {', '.join(nodes)}")
    try:
        node_keys = {str(node): parse_node_keys(result) for node, result in nodes.items()}
        matrix = matrix_of(node_keys, source, predicate=_predicate(node_keys, select) if select else None)
    except UtrustError as exc:
        raise AnsibleFilterError(f"key_matrix: {exc} [{exc.code}]") from exc
    if select and not matrix["rows"]:
        raise AnsibleFilterError(f"key_matrix: no node holds a key that {select!r} selects. Correct the expression")
    return matrix


def _predicate(nodes: t.Mapping[str, NodeKeys], expression: str) -> t.Callable[[HsmKey], bool]:
    """A function that returns whether the expression selects a key of the nodes."""
    known = {(key, key.usable): key.to_dict() for node_keys in nodes.values() for key in node_keys.hsm_keys or ()}
    selected = {schema.parse_key(key) for key in select_keys(list(known.values()), expression, caller="key_matrix")}
    return lambda key: key in selected


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"key_matrix": key_matrix}
