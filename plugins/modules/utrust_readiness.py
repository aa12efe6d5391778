#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_readiness
short_description: Check whether a cluster can be operated from here
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Checks the way from this machine to each node, step by step. Each step is C(observed), C(declared), C(not checked) or C(refused).
  - The steps are route, TLS certificate, client certificates, login, identity, page map, versions, MBK, import behavior, jobs, backup, clock, EJBCA view,
    rights and health check. For this machine they are core dumps, swap and the directory of packages.
  - Nothing but GET requests is sent. A node that has not joined is not contacted. EJBCA of each node is viewed once.
    If the stored PIN of a crypto token is wrong, each view costs a PIN try of the HSM.
  - With transport V(assisted), a host with the variable C(utrust_declared) counts as joined.
  - With O(record_dest), the action writes a signed commissioning record if no step is refused.
    M(keyops.utrust.utrust_sync_plan) and M(keyops.utrust.utrust_preflight) compare each node with this record before a change.
  - The action succeeds if a step is refused. Check RV(refused), as the role P(keyops.utrust.readiness#role) does.
  - The action runs on the controller. It fails with C(delegate_to), because it checks the way from the machine that executes the modules.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._cluster
attributes:
  check_mode:
    support: full
    details:
      - In check mode, the record is not written.
  diff_mode:
    support: full
    details:
      - The difference is that of the commissioning record.
  idempotent:
    support: full
    details:
      - A record is kept if it is valid and its content is as it is now.
options:
  max_clock_skew:
    description: Seconds by which the clock of a node may differ from the clock of this machine.
    type: float
    default: 60.0
  min_certificate_days:
    description: Days for which each TLS certificate of a node and each client certificate must still be valid.
    type: float
    default: 14.0
  max_backup_hours:
    description:
      - Hours that the last backup of a node may be old.
      - Without this option, the age is not checked. Where a transport does not list all keys, the default is 24.
    type: float
  manual_confirmations:
    description: Manual confirmations of facts that nobody can read, or that a person accepts. The step is then C(declared).
    type: list
    elements: dict
    default: []
    suboptions:
      subject:
        description: Fact that is confirmed.
        type: str
        choices: [backup, core_dumps, package_directory, swap]
        required: true
      node:
        description: Name of the node. Required for V(backup).
        type: str
      confirmed_by:
        description: Name of the person who confirms the fact.
        type: str
        required: true
      reason:
        description: Reason why the person knows or accepts the fact.
        type: str
        required: true
  proc_path:
    description: Directory with the facts of the kernel. A container can mount that of its host at another place.
    type: path
    default: /proc
  record_dest:
    description:
      - Path of the commissioning record on this machine. Requires O(signing_key).
      - A present record is replaced if it is not valid or if its content has changed.
    type: path
  signing_key:
    description: Path of a PEM file with an Ed25519 private key, without a passphrase. Only its owner may read the file.
    type: path
  made_by:
    description: Name of the person who makes the record. The default is the account that started the run.
    type: str
  declared_by:
    description:
      - Name of the person who tried or looked up the facts that no transport reads, such as the effect of an import.
      - The default is O(made_by).
    type: str
  canary_key:
    description:
      - Worthless key with which the first synchronization is done.
      - Where a transport does not list all keys, a plan with other keys is refused until each target has this key.
    type: dict
    suboptions:
      crypto_token:
        description: Name of the crypto token of the key.
        type: str
        required: true
      alias:
        description: Alias of the key, which is its label in the HSM.
        type: str
        required: true
seealso:
  - module: keyops.utrust.utrust_preflight
  - module: keyops.utrust.utrust_sync_plan
"""

EXAMPLES = r"""
- name: Check whether the cluster can be operated from here
  keyops.utrust.utrust_readiness:
    source: node1
  run_once: true
  register: readiness

- name: Write a signed commissioning record
  keyops.utrust.utrust_readiness:
    source: node1
    record_dest: /etc/ansible/commissioning/berlin.json
    signing_key: /etc/ansible/pki/commissioning.key
    made_by: Ada
    canary_key:
      crypto_token: SigningToken
      alias: canaryKey
  run_once: true
"""

RETURN = r"""
table:
  description: One aligned line for each node and step, with the code of a refusal at its end.
  returned: success
  type: list
  elements: str
  sample:
    - "node   step   state     result"
    - "node1  route  observed  192.0.2.11 accepts connections from this machine"
rows:
  description: The same as data.
  returned: success
  type: list
  elements: dict
  contains:
    node:
      description: Inventory host, or C(this machine).
      type: str
    step:
      description: Name of the step.
      type: str
    state:
      description: One of C(observed), C(declared), C(not checked) and C(refused).
      type: str
    text:
      description: Result for people.
      type: str
    remedy:
      description: Instruction for people, or empty.
      type: str
    code:
      description: Stable code of a refusal, or empty.
      type: str
refused:
  description: Node and step of each refusal.
  returned: success
  type: list
  elements: str
not_checked:
  description: Node and step of each row that nobody checked.
  returned: success
  type: list
  elements: str
codes:
  description: Stable codes of the refusals, each code once.
  returned: success
  type: list
  elements: str
record_digest:
  description: Digest of the commissioning record that is valid now. Null without O(record_dest), and if a step is refused.
  returned: success
  type: str
made_at:
  description: Time of this record.
  returned: if a record is valid
  type: str
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: readiness_needs_controller
"""
