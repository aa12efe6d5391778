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
  strict_defaults:
    description:
      - Whether the defaults of O(audit), O(max_backup_hours) and O(ejbca_view), and a change reference, depend on the transports of the nodes.
      - If a node has a transport that does not list all keys, they are V(required), 24 hours and V(true), and C(utrust_change_reference) must be set.
    type: bool
    default: false
  drain_tasks:
    description: Absolute path of the task file that takes a node out of traffic before its restore. The action only checks and returns it.
    type: path
  undrain_tasks:
    description: Absolute path of the task file that brings a node back into traffic after its restore. The action only checks and returns it.
    type: path
  ejbca_view:
    description:
      - Whether the run verifies the EJBCA view of a node before it undrains the node. The action itself does not contact EJBCA, and only returns the option.
      - The default is V(false), see O(strict_defaults).
    type: bool
  audit:
    description:
      - With V(required), the action fails before it contacts a node unless P(keyops.utrust.audit#callback) records this run completely.
      - The default is V(optional), see O(strict_defaults).
    type: str
    choices: [optional, required]
  reasons:
    description:
      - Reasons for values that are weaker than the defaults of O(strict_defaults). A dictionary with the reason of each option.
      - Without a reason, the action fails and nothing is changed. With a reason, the value and the reason are recorded.
    type: dict
    default: {}
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
not_checked:
  description: Checks that nobody made, because the transport of a node cannot make them. Empty with transport V(rest).
  returned: success, or problems found and O(operation=initial_sync)
  type: list
  elements: str
hsm_serials:
  description: The option O(hsm_serials) with texts as values.
  returned: success, or problems found and O(operation=initial_sync)
  type: dict
manual_confirmations:
  description: The option O(manual_confirmations) as a list of dictionaries, also if its value was JSON text.
  returned: success, or problems found and O(operation=initial_sync)
  type: list
  elements: dict
audit:
  description: The option O(audit) with its default.
  returned: success, or problems found and O(operation=initial_sync)
  type: str
ejbca_view:
  description: The option O(ejbca_view) with its default.
  returned: success, or problems found and O(operation=initial_sync)
  type: bool
check_mode:
  description: Whether the task ran in check mode, also by the keyword C(check_mode).
  returned: success, or problems found and O(operation=initial_sync)
  type: bool
traffic:
  description: Task files that drain and undrain nodes, and the hosts for which a guided restore includes them.
  returned: success, or problems found and O(operation=initial_sync)
  type: dict
weaker_values:
  description: Options that are weaker than their defaults, each with C(option), C(value), C(default) and C(reason).
  returned: success, or problems found and O(operation=initial_sync)
  type: list
  elements: dict
code:
  description: Stable code of the failure, or of the first problem.
  returned: failure
  type: str
  sample: clock_skew
"""
