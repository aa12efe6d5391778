# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter key_matrix."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import all_keys
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import key_matrix as matrix_of
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_matrix import view_matrix
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.select import select as select_keys

DOCUMENTATION = r"""
name: key_matrix
short_description: Compare the keys of several nodes
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Returns a row for each key and a cell for each node. The source and the comparison come from the input.
  - A node with unknown keys is V(unknown), and never in sync.
  - The key fingerprint of a secret key is a check value (KCV) of three bytes. These rows have C(check_value_only=true).
options:
  _input:
    description: Result of M(keyops.utrust.utrust_cluster_info), read with its keys.
    type: dict
    required: true
  select:
    description:
      - JMESPath expression that selects keys, as in P(keyops.utrust.select_keys#filter). The result contains only the selected keys.
      - The filter fails if no node holds a selected key.
    type: str
seealso:
  - module: keyops.utrust.utrust_cluster_info
  - plugin: keyops.utrust.key_table
    plugin_type: filter
  - plugin: keyops.utrust.select_keys
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the nodes that differ from the source
  ansible.builtin.debug:
    msg: "{{ (cluster | keyops.utrust.key_matrix).drift | map(attribute='node') }}"
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
        - Nodes that differ, each with C(node) and lists of keys.
        - The lists are C(missing), C(extra), C(mismatched), C(moved), C(duplicate), C(unusable) and C(undetermined).
        - Entries of C(mismatched) and C(moved) have C(source_key) and C(target_key).
        - Each entry also has the numbers C(unchanged) and C(check_value_only). The list contains the source if the source cannot use all of its keys.
      type: list
      elements: dict
    check_value_only:
      description: Number of rows that are compared by a check value only.
      type: int
    rows:
      description:
        - Keys, each with C(state) and C(nodes). C(nodes) has the cell of each node that differs, and C(state) is the cell of all other nodes.
        - A cell is V(present), V(missing), V(extra), V(mismatched), V(moved), V(duplicate), V(unusable), V(absent) or V(unknown).
        - A key is V(extra) if only the node holds the key, and V(absent) if neither the node nor the source holds the key.
        - A key is V(mismatched) if another key has the same slot and label. A key is V(moved) if the same key has another slot, label or id.
        - A key is V(unknown) if the keys of the node or a key fingerprint are unknown.
        - A key is V(duplicate) if the node holds a key of the source once more.
      type: list
      elements: dict
    ejbca_view:
      description:
        - The EJBCA views, or null if the cluster was read without O(keyops.utrust.utrust_cluster_info#module:ejbca_view).
        - The members C(source), C(nodes), C(in_sync), C(in_sync_nodes), C(drift) and C(rows) are similar to those above.
        - A row is a key pair that EJBCA of the source shows. A cell is V(present), V(absent), V(stale), V(moved), V(mismatched), V(inactive), V(unknown) or
          V(not_read).
        - The member C(scope) is V(ejbca). The member C(hsm_keys_known) is whether the keys in the HSM of the source are known.
        - The member C(problems) has C(code), C(node), C(text) and C(remedy) of each reason why a view is unknown or differs.
        - The members C(unknown_nodes) and C(left_out) have the nodes without a view. The variable C(utrust_ejbca_view) leaves a node out.
      type: dict
"""


def key_matrix(cluster: t.Mapping[str, t.Any], select: str | None = None) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError for another input, for keys that were not read and for a selection without a key."""
    try:
        reading = ClusterReading.from_dict(cluster)
    except (KeyError, TypeError, AttributeError, StopIteration) as exc:
        raise AnsibleFilterError(
            f"key_matrix: the input is not a successful result of utrust_cluster_info ({type(exc).__name__}: {exc}). "
            "Register the result of this module, and check that it did not fail"
        ) from exc
    expression = None if is_blank(select) else str(select)
    try:
        matrix = matrix_of(reading, predicate=_predicate(reading, expression) if expression else None)
    except UtrustError as exc:
        raise AnsibleFilterError(f"key_matrix: {exc} [{exc.code}]") from exc
    if expression and not matrix["rows"]:
        raise AnsibleFilterError(f"key_matrix: no node holds a key that {expression!r} selects. Correct the expression")
    selected = {row["fingerprint"] for row in matrix["rows"]} if expression else None
    return {**matrix, "ejbca_view": _view(reading, selected)}


def _view(reading: ClusterReading, selected: set[str] | None) -> dict[str, t.Any] | None:
    known = reading.hsm_keys is not None
    return view_matrix(reading.view, hsm_keys_known=known, fingerprints=selected) if reading.view is not None else None


def _predicate(reading: ClusterReading, expression: str) -> t.Callable[[HsmKey], bool]:
    """Return a function that returns whether the expression selects a key of the nodes."""
    unusable = [key for each in reading.readings if each.difference is not None for key in each.difference.unusable]
    # A key that is usable on one node only can be selected in both forms.
    known = {(key, key.usable): key.to_dict() for key in (*all_keys(reading), *unusable)}
    selected = {HsmKey.from_dict(key) for key in select_keys(list(known.values()), expression, caller="key_matrix")}
    return lambda key: key in selected


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"key_matrix": key_matrix}
