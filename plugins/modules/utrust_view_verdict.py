#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_view_verdict
short_description: "[INTERNAL] Verify the EJBCA views of synchronized targets"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Internal to the roles of this collection. It can change or disappear in any release.
  - Reads the EJBCA views of the source and of targets, and compares the keys that the plan adds.
  - Before the imports, the action fails if a view can never show the added keys, or if nobody knows which node responded.
  - After the imports, the action waits until the views show the added keys, and fails otherwise.
  - The action runs on the controller. With C(delegate_to), only the reading runs on that machine.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
  - keyops.utrust._cluster
options:
  phase:
    description:
      - Whether keys were imported. With V(in_sync), the targets got no keys, and their views must show every key of the source.
      - In check mode, the action reads only for V(before_imports).
    type: str
    choices: [before_imports, after_imports, in_sync]
    required: true
  planned:
    description: Result of M(keyops.utrust.utrust_sync_plan).
    type: dict
    required: true
  active_tokens:
    description: Crypto tokens of each target that were active before the imports, as RV(active_tokens) returned them.
    type: dict
    default: {}
  operator_present:
    description: Whether a person stands by who activates crypto tokens. The action then waits for inactive crypto tokens, too.
    type: bool
    default: false
  ejbca_view_timeout:
    description: Seconds to wait until the views show the added keys.
    type: float
    default: 150.0
"""

EXAMPLES = r"""
- name: Verify the EJBCA views
  keyops.utrust.utrust_view_verdict:
    source: node1
    hosts: [node2]
    phase: after_imports
    planned: "{{ sync }}"
  run_once: true
"""

RETURN = r"""
verified:
  description: Whether the views show the added keys. Null before the imports and in check mode.
  returned: always
  type: bool
views:
  description: One line for each target.
  returned: always
  type: list
  elements: str
active_tokens:
  description: Id and name of each active crypto token of each target.
  returned: before the imports
  type: dict
key_states:
  description: Added keys that a view does not show as the source does, each with C(node), C(crypto_token), C(alias), C(fingerprint) and C(state).
  returned: after imports
  type: list
  elements: dict
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: ejbca_view_not_verified
"""
