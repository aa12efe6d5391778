#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_sync_plan
short_description: Plan the synchronization of a cluster
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Reads the cluster as M(keyops.utrust.utrust_cluster_info) does, and checks every rule of M(keyops.utrust.utrust_preflight) on every node.
  - Determines which keys each target lacks, whether the options allow the change, and in which batches the targets import the package.
  - Checks a given plan and its approvals against the cluster as it is now.
  - Reports all problems of all nodes at once, and fails if a problem was found. No node is changed.
  - The action runs on the controller. With C(delegate_to), only the reading runs on that machine.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._cluster
  - keyops.utrust._preflight
  - keyops.utrust._policy
attributes:
  check_mode:
    support: full
    details:
      - This action changes no node. It writes O(plan_dest) only in check mode.
  diff_mode:
    support: N/A
    details:
      - This action returns the changes of each node in RV(targets).
  idempotent:
    support: partial
    details:
      - This action changes no node. A plan in O(plan_dest) is replaced in each run, because it names its time.
options:
  audit:
    description:
      - With V(required), the action fails before it contacts a node unless P(keyops.utrust.audit#callback) records this run completely.
      - The default is V(optional), or V(required) if a node has a transport that does not list all keys.
    type: str
    choices: [optional, required]
  reasons:
    description:
      - Reasons for values that are weaker than the defaults for transports that do not list all keys. A dictionary with the reason of each option.
      - Without a reason, the action fails and nothing is changed. With a reason, the value and the reason are recorded.
    type: dict
    default: {}
  drain_tasks:
    description: Absolute path of the task file that takes a node out of traffic. The action only checks and returns it.
    type: path
  undrain_tasks:
    description: Absolute path of the task file that brings a node back into traffic. The action only checks and returns it.
    type: path
  settle_time:
    description: Seconds to wait after each batch. The default is 0, or 60 if a node has a transport that does not list all keys.
    type: float
  health_check:
    description:
      - Whether every node in traffic must pass the health check of EJBCA before each batch and at the end. The action itself does not contact EJBCA.
      - The default is V(false), or V(true) if a node has a transport that does not list all keys.
    type: bool
  operator_present:
    description:
      - Whether a person stands by who can activate slots and crypto tokens. Each batch then has one node.
      - Required for a target that lacks keys and has a slot with Smart Card Activation.
    type: bool
    default: false
  canary:
    description: Inventory host of the target that imports the package first. The default is the first target that lacks a key.
    type: str
  batch_size:
    description:
      - Largest number of targets that import at the same time. The quorum limits this number, too.
      - The default is 1 if a node has a transport that does not list all keys.
    type: int
  ejbca_view:
    description:
      - Whether the run verifies the EJBCA view of each target. The action itself does not contact EJBCA, and only returns the option.
      - The default is V(false), or V(true) if a node has a transport that does not list all keys.
    type: bool
  ejbca_view_timeout:
    description: Seconds for which the run waits until the EJBCA views show the added keys.
    type: float
    default: 150.0
  dest:
    description: Path under which the package is to be kept. The module checks that the directory exists and is private.
    type: path
  plan_dest:
    description: Path of the plan to write in check mode, on the controller. A relative path is relative to the working directory.
    type: path
  plan:
    description: Path of a plan to apply, on the controller. The module fails if the plan does not match the cluster.
    type: path
  plan_base64:
    description: The bytes of a plan as base64 text, instead of O(plan).
    type: str
  plan_required:
    description: Whether to reject a run that changes the cluster without O(plan) or O(plan_base64).
    type: bool
    default: false
  requested_by:
    description: Name of the person who requests the change. The default is the user of AWX, or of the operating system.
    type: str
  approvals_required:
    description:
      - Number of different people who must approve the plan.
      - The person who requests the change and the person who starts the run do not count.
      - The default is 0, or 2 if a node has a transport that does not list all keys.
    type: int
  approvals:
    description:
      - Path of a file with approvals, on the controller. The file is a JSON list.
      - Each entry has C(name), C(time), C(expires), C(plan_digest) and C(signature), all of them texts.
    type: path
  approvals_base64:
    description: The bytes of a file of approvals as base64 text, instead of O(approvals).
    type: str
  approvers:
    description: People who can approve. Required if O(approvals_required) is above 0. Only approvals with a signature of one of these people count.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the person.
        type: str
        required: true
      accounts:
        description: All names of the person in AWX and on the controller. A person who has the account of the requester does not count.
        type: list
        elements: str
        required: true
      public_key:
        description: Ed25519 public key in PEM.
        type: str
        required: true
seealso:
  - module: keyops.utrust.utrust_ksp_import
  - module: keyops.utrust.utrust_preflight
"""

EXAMPLES = r"""
- name: Show which targets lack keys
  hosts: utrust
  gather_facts: false
  tasks:
    - name: Plan the synchronization
      keyops.utrust.utrust_sync_plan:
        source: node1
      run_once: true
      register: sync

    - name: Show the targets that lack keys
      ansible.builtin.debug:
        var: sync.pending
      run_once: true
"""

RETURN = r"""
plan:
  description: Changes that the run would make, with the C(digest) that approvals name.
  returned: success
  type: dict
plan_base64:
  description:
    - The bytes of the new plan as base64 text, for O(plan_base64) of a later job.
    - The action also returns them as M(ansible.builtin.set_stats) does, with the names C(key_sync_plan_base64) and C(key_sync_plan_digest).
  returned: success in check mode without a plan
  type: str
plan_digest:
  description: Digest of the plan.
  returned: success
  type: str
pending:
  description: Inventory hosts of the targets that lack keys.
  returned: success
  type: list
  elements: str
import_options:
  description: Options for M(keyops.utrust.utrust_ksp_import), as they were planned.
  returned: success
  type: dict
traffic:
  description:
    - Nodes in and out of traffic. C(members) get requests from the load balancer, C(drain) and C(undrain) are targets that get keys.
    - C(returning) are targets in sync, which an earlier run can have left drained.
  returned: success
  type: dict
weaker_values:
  description: Options that are weaker than their defaults, each with C(option), C(value), C(default) and C(reason).
  returned: success
  type: list
  elements: dict
batches:
  description: Batches of inventory hosts, the canary first.
  returned: success
  type: list
  elements: list
targets:
  description: State of each target by its inventory host, with C(pending), C(unchanged), C(keys_digest) and C(difference).
  returned: success
  type: dict
check_mode:
  description: Whether the task ran in check mode, also by the keyword C(check_mode).
  returned: success
  type: bool
manifest:
  description: Manifest that a package of the source would have, for O(keyops.utrust.utrust_ksp_import#module:manifest).
  returned: success
  type: dict
members:
  description: Names of the joined members, as the source reports them.
  returned: success
  type: list
  elements: str
members_not_in_play:
  description: Names of joined members that this run did not read.
  returned: success
  type: list
  elements: str
problems:
  description: One line for each problem, with node, code, reason and remedy.
  returned: problems found
  type: list
  elements: str
codes:
  description: Stable codes of the problems, each code once.
  returned: problems found
  type: list
  elements: str
code:
  description: Stable code of the failure, or of the first problem.
  returned: failure
  type: str
  sample: key_mismatch
"""
