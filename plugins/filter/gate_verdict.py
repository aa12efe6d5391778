# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter gate_verdict."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import verdict

DOCUMENTATION = r"""
name: gate_verdict
short_description: Whether enough nodes can use the keys that are asked for
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Joins what M(keyops.utrust.utrust_key_proof) found on each node to one verdict, with a line for each key that says on which nodes it is and on which not.
options:
  _input:
    description: For each node the result of M(keyops.utrust.utrust_key_proof).
    type: dict
    required: true
  level:
    description: The level that was asked for.
    type: str
    required: true
  min_nodes:
    description: On how many nodes. All of them if not set.
    type: int
seealso:
  - module: keyops.utrust.utrust_key_proof
"""

EXAMPLES = r"""
- name: Go on only if every node has proven the key
  ansible.builtin.assert:
    that: "({'node1': proof1, 'node2': proof2} | keyops.utrust.gate_verdict(level='sign')).passed"
"""

RETURN = r"""
_value:
  description:
    - C(passed) (nothing where check mode cannot know), C(nodes) that passed, how many were C(needed), and C(lines) for people.
  type: dict
"""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"gate_verdict": verdict}
