# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter gate_verdict."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import gate_verdict

DOCUMENTATION = r"""
name: gate_verdict
short_description: "[INTERNAL] Decide whether a key gate opens"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Makes one verdict from the results of M(keyops.utrust.utrust_key_proof), with a line for each key that names its nodes.
options:
  _input:
    description: Results of M(keyops.utrust.utrust_key_proof) by node.
    type: dict
    required: true
  level:
    description: Required level.
    type: str
    required: true
  min_nodes:
    description: Number of nodes that must reach the level. All nodes if not set.
    type: int
seealso:
  - module: keyops.utrust.utrust_key_proof
"""

EXAMPLES = r"""
- name: Check that the key works on each node
  ansible.builtin.assert:
    that: "({'node1': proof1, 'node2': proof2} | keyops.utrust.gate_verdict(level='sign')).passed"
"""

RETURN = r"""
_value:
  description:
    - Dictionary with C(passed), the C(nodes) that passed, the number of C(needed) nodes, and C(lines) of text.
    - C(passed) is V(null) if check mode cannot decide.
  type: dict
"""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"gate_verdict": gate_verdict}
