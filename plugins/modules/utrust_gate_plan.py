#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_gate_plan
short_description: "[INTERNAL] Find the keys and the nodes of a gate"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Internal to the roles of this collection. It can change or disappear in any release.
  - Reads the source, finds the keys of the gate among its keys, and checks that every joined member is a node of the gate.
  - The action plugin runs on the controller only.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
  - keyops.utrust._proof
options:
  source:
    description: Inventory host of the source node.
    type: str
    required: true
  node_timeout:
    description: Seconds for the whole reading of the source.
    type: float
    default: 60.0
  hsm_keys:
    description: Keys of the gate.
    type: list
    elements: dict
    required: true
    suboptions:
      label:
        description: Label of the key, as the HSM stores the label or as results show the label.
        type: str
        required: true
      fingerprint:
        description: Key fingerprint.
        type: str
      slot:
        description: HSM slot of the key.
        type: int
      ca:
        description: Name of a CA in EJBCA whose current key is this key.
        type: str
      crypto_token:
        description: Name of the crypto token of the key. The default is O(crypto_token).
        type: str
      sign_test:
        description: Whether EJBCA of each node may sign with the key for a test.
        type: bool
        default: false
      public_trust:
        description: Whether the key is of a publicly trusted CA.
        type: bool
        default: false
      qualified:
        description: Whether the key is for qualified certificates.
        type: bool
        default: false
      root:
        description: Whether the key is of a root CA.
        type: bool
        default: false
      offline:
        description: Whether the key is of an offline CA.
        type: bool
        default: false
      needs_authorization:
        description: Whether the HSM authorizes each use of the key.
        type: bool
        default: false
      sole_control:
        description: Whether the key is under the sole control of a person.
        type: bool
        default: false
  level:
    description: Level to prove.
    type: str
    choices: [hsm, token, sign]
    default: sign
  nodes:
    description: Inventory hosts of the gate. The default is all hosts of the play, and then every joined member must be one of them.
    type: list
    elements: str
  min_nodes:
    description: Number of nodes that must pass. The default is all nodes of the gate.
    type: int
  ignore_members:
    description: Names of joined members that the gate ignores.
    type: list
    elements: str
    default: []
  out_of_traffic:
    description: Inventory hosts of the gate, or the source, without traffic. Only their crypto tokens can be reactivated.
    type: list
    elements: str
    default: []
  only_options:
    description: Whether to check the options only, before the key exists. Nothing is read then.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Find the key on the source
  keyops.utrust.utrust_gate_plan:
    source: node1
    hsm_keys: [{label: signKey-2027}]
  run_once: true
  register: gate
"""

RETURN = r"""
passed:
  description: Always false, because no proof was made yet.
  returned: success or problems found
  type: bool
problems:
  description: One line for each problem, with node, code, reason and remedy.
  returned: success or problems found
  type: list
  elements: str
hsm_keys:
  description: Keys of the gate, each with label, slot, key fingerprint and CA.
  returned: success
  type: list
  elements: dict
key_arrivals:
  description: Latest known arrival of each key by inventory host and key fingerprint, from this run and from the audit trail.
  returned: success
  type: dict
gate_nodes:
  description: Inventory hosts of the gate.
  returned: success
  type: list
  elements: str
members:
  description: Names of the joined members.
  returned: success
  type: list
  elements: str
reactivate_nodes:
  description: Inventory hosts whose crypto tokens the gate may reactivate, in the order of the gate.
  returned: success
  type: list
  elements: str
reactivation_affects:
  description: Option O(reactivation_affects).
  returned: success
  type: dict
out_of_traffic:
  description: Option O(out_of_traffic).
  returned: success
  type: list
  elements: str
ejbca_view:
  description: Whether the gate reads the EJBCA view.
  returned: success
  type: bool
source_host:
  description: Inventory host of the source.
  returned: success
  type: str
excluded_members:
  description: Names of joined members outside of the gate.
  returned: success
  type: list
  elements: str
"""
