# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter gate_plan."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import plan

DOCUMENTATION = r"""
name: gate_plan
short_description: Which keys a gate is about, by fingerprint
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Finds the keys that an operator names by label in the inventory of the source node, so that all other nodes can be compared by fingerprint.
options:
  _input:
    description: Keys with C(label), and optionally C(slot), C(fingerprint) and C(ca).
    type: list
    elements: dict
    required: true
  hsm_keys:
    description: The source's inventory, from M(keyops.utrust.utrust_hsm_info).
    type: list
    elements: dict
    required: true
  manual_confirmations:
    description: Statements of people, with C(node), C(key) (the label), C(confirmed_by) and C(reason).
    type: list
    elements: dict
    default: []
seealso:
  - plugin: keyops.utrust.gate_verdict
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show which key is meant
  ansible.builtin.debug:
    msg: "{{ ([{'label': 'signKey-2027'}] | keyops.utrust.gate_plan(source.hsm_keys)).hsm_keys }}"
"""

RETURN = r"""
_value:
  description:
    - C(hsm_keys) for M(keyops.utrust.utrust_key_proof), the labels that are C(unclear) because the source does not hold exactly one such key, and for each
      node its C(manual_confirmations).
  type: dict
"""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"gate_plan": plan}
