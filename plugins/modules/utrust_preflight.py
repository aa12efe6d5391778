#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_preflight
short_description: Check whether a cluster is ready for a change
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Reads the cluster as M(keyops.utrust.utrust_cluster_info) does, and checks every rule on every node.
  - Checks the connection of all members, quorum, HSM state and alarms, running jobs, clocks, versions, MBK, FIPS mode, slots, certificates and backups.
  - Before guided restores, the action also checks MBK cards and HSM serial numbers, and accepts a guided restore that runs.
  - Reports all problems of all nodes at once, and fails if a problem was found. Nothing is changed.
  - The action runs on the controller. With C(delegate_to), only the reading runs on that machine.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
  - keyops.utrust._cluster
  - keyops.utrust._preflight
options:
  operation:
    description:
      - Operation that the cluster must be ready for.
      - V(initial_sync) accepts targets in Factory Reset Mode, V(key_sync) does not.
      - V(renew_ca) requires in addition that every joined member is read, and that the cluster keeps its quorum while every target imports a key.
    type: str
    choices: [key_sync, initial_sync, renew_ca]
    default: key_sync
  cards_available:
    description: Number of MBK cards that the card holders have with them. Not checked if not set.
    type: int
  hsm_serials:
    description: HSM serial number of each inventory host, as the card holders read it from the front display.
    type: dict
    default: {}
  audit:
    description: With V(required), the action fails before it contacts a node unless P(keyops.utrust.audit#callback) records this run completely.
    type: str
    choices: [optional, required]
    default: optional
seealso:
  - module: keyops.utrust.utrust_cluster_info
  - module: keyops.utrust.utrust_sync_plan
"""

EXAMPLES = r"""
- name: Check whether the cluster is ready for a synchronization
  keyops.utrust.utrust_preflight:
    source: node1
    max_backup_hours: 24
  run_once: true
"""

RETURN = r"""
problems:
  description: One line for each problem, with node, code, reason and remedy.
  returned: success or problems found
  type: list
  elements: str
  sample: ["node3: clock_skew: the clock of node3 differs by 3600 s from this machine (allowed: 60 s). Fix: set up NTP on the node"]
codes:
  description: Stable codes of the problems, each code once.
  returned: success or problems found
  type: list
  elements: str
source:
  description: Facts of the source node, as RV(keyops.utrust.utrust_hsm_info#module:node).
  returned: success, or problems found and O(operation=initial_sync)
  type: dict
members:
  description: Names of the joined members, as the source reports them.
  returned: success, or problems found and O(operation=initial_sync)
  type: list
  elements: str
nodes:
  description: State of each node by its inventory host. C(hsm_state) and C(keys_digest) are null if the node could not be read.
  returned: success, or problems found and O(operation=initial_sync)
  type: dict
  sample:
    node2: {name: node2, hsm_state: factory_reset, keys_digest: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
hsm_serials:
  description: The option O(hsm_serials) with texts as values.
  returned: success, or problems found and O(operation=initial_sync)
  type: dict
manual_confirmations:
  description: The option O(manual_confirmations) as a list of dictionaries, also if its value was JSON text.
  returned: success, or problems found and O(operation=initial_sync)
  type: list
  elements: dict
code:
  description: Stable code of the failure, or of the first problem.
  returned: failure
  type: str
  sample: clock_skew
"""
