# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter gate_plan."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import gate_plan

DOCUMENTATION = r"""
name: gate_plan
short_description: "[INTERNAL] Find the keys of a gate on the source"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Finds the keys that an operator names by label among the keys of the source. The gate then compares all other nodes by key fingerprint.
options:
  _input:
    description: Keys with C(label), and optionally C(slot), C(fingerprint) and C(ca).
    type: list
    elements: dict
    required: true
  hsm_keys:
    description: Keys of the source, from M(keyops.utrust.utrust_hsm_info).
    type: list
    elements: dict
    required: true
  manual_confirmations:
    description: Manual confirmations, each with C(node), C(key) (the label), C(confirmed_by) and C(reason).
    type: list
    elements: dict
    default: []
seealso:
  - plugin: keyops.utrust.gate_verdict
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the key of a gate
  ansible.builtin.debug:
    msg: "{{ ([{'label': 'signKey-2027'}] | keyops.utrust.gate_plan(source.hsm_keys)).hsm_keys }}"
"""

RETURN = r"""
_value:
  description:
    - Dictionary with C(hsm_keys) for M(keyops.utrust.utrust_key_proof), and C(manual_confirmations) by node.
    - C(unclear) lists the labels that do not name exactly one key of the source.
  type: dict
"""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"gate_plan": gate_plan}
