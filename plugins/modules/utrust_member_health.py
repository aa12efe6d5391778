#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_member_health
short_description: "[INTERNAL] Check the nodes in traffic around a batch"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Internal to the roles of this collection. It can change or disappear in any release.
  - Waits until the last batch has settled, then checks every node in traffic outside of the next batch.
  - The action fails if the health check of EJBCA on such a node fails, or if an earlier batch has left a node drained.
  - The action runs on the controller. With C(delegate_to), only the health checks run on that machine.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
options:
  source:
    description: Inventory host of the source.
    type: str
    required: true
  planned:
    description: Result of M(keyops.utrust.utrust_sync_plan).
    type: dict
    required: true
  batch:
    description: Inventory hosts of the next batch. Without a host, the last batch has ended.
    type: list
    elements: str
    default: []
  settle:
    description: Whether to wait for the settle time of the plan first. Check mode does not wait.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Check the nodes outside of the batch
  keyops.utrust.utrust_member_health:
    source: node1
    planned: "{{ sync }}"
    batch: [node2]
  run_once: true
"""

RETURN = r"""
problems:
  description: One line for each problem.
  returned: always
  type: list
  elements: str
code:
  description: Stable code of the first problem.
  returned: failure
  type: str
  sample: member_unhealthy
"""
