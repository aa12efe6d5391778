#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_gate_verdict
short_description: "[INTERNAL] Decide whether a key gate opens"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Internal to the roles of this collection. It can change or disappear in any release.
  - Makes one verdict from the proofs of all nodes, and fails if the gate is closed.
  - The action plugin runs on the controller only.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
options:
  planned:
    description: Result of M(keyops.utrust.utrust_gate_plan).
    type: dict
    required: true
  proofs:
    description: Result of M(keyops.utrust.utrust_key_proof) for each node of the gate, in the order of the plan.
    type: list
    elements: dict
    required: true
  source_proof:
    description: Result of M(keyops.utrust.utrust_key_proof) for the source, if the gate reads the EJBCA view.
    type: dict
  manual_confirmations:
    description: Manual confirmations that the proofs had. The result repeats them.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Check that the gate is open
  keyops.utrust.utrust_gate_verdict:
    planned: "{{ gate }}"
    proofs: "{{ gate.gate_nodes | map('extract', hostvars, 'proof') | list }}"
  run_once: true
  register: key_gate_result
"""

RETURN = r"""
passed:
  description: Whether the gate is open. False if check mode cannot decide.
  returned: always
  type: bool
unknown:
  description: Whether check mode cannot decide.
  returned: always
  type: bool
nodes:
  description: Inventory hosts that passed.
  returned: always
  type: list
  elements: str
lines:
  description: One line for each key with its nodes, and a line with the numbers.
  returned: always
  type: list
  elements: str
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: gate_closed
"""
