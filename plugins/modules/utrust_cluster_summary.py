#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_cluster_summary
short_description: "[INTERNAL] Verify and summarize a run"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Internal to the roles of this collection. It can change or disappear in any release.
  - Reads the cluster after a run, compares each target with the plan, and returns one line for each node.
  - After guided restores, the action compares each node with its state before the restores.
  - The action runs on the controller. With C(delegate_to), only the reading runs on that machine.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
  - keyops.utrust._cluster
  - keyops.utrust._people
options:
  operation:
    description: Operation of the run.
    type: str
    choices: [key_sync, initial_sync]
    default: key_sync
  planned:
    description: Result of M(keyops.utrust.utrust_sync_plan) in this run, or of M(keyops.utrust.utrust_preflight) with O(operation=initial_sync).
    type: dict
    required: true
  views:
    description: Lines about the EJBCA views of the targets, for the summary.
    type: list
    elements: str
    default: []
  package:
    description:
      - Result C(package) of M(keyops.utrust.utrust_ksp_export) in this run.
      - A package that people downloaded must be destroyed. If every target has the keys, the module fails until a person confirms this.
    type: dict
  audit:
    description: Whether an incomplete audit trail at the end of the run is a failure.
    type: str
    choices: [optional, required]
    default: optional
"""

EXAMPLES = r"""
- name: Verify all nodes
  keyops.utrust.utrust_cluster_summary:
    source: node1
    planned: "{{ sync }}"
  run_once: true
"""

RETURN = r"""
summary:
  description: One line for each node.
  returned: always
  type: list
  elements: str
drained:
  description: Inventory hosts that the run has left out of traffic.
  returned: always
  type: list
  elements: str
unexpected:
  description: Keys that a target has, but did not have before the run, and that the plan does not have. C(node) is the inventory host.
  returned: with code V(unexpected_keys)
  type: list
  elements: dict
"""
