#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_cluster_claim
short_description: Claim a cluster for one run, or release it
version_added: 1.0.0
description:
  - Claims the cluster for this run, so that no other client changes a node at the same time.
  - Every later task of the run with a module of this collection uses the claim, and renews it with each request.
    The claim covers the node of the task, the nodes of all hosts of the play, and the node of C(utrust_source).
  - While another run has the claim, the module waits until the claim ends.
  - The roles P(keyops.utrust.key_sync#role), P(keyops.utrust.guided_restore#role) and P(keyops.utrust.renew_ca#role) claim the cluster themselves.
    Use this module in a play that changes a cluster with modules.
  - Release the claim with O(state=absent) in an C(always) section. If a run is killed, its claim ends O(ttl) seconds after its last request.
  - The run creates a random token for the claim. The token is in a private file of the run on the controller, and never in a result or a log.
  - A node without the capability C(cluster_claim) has no claim. The run then takes a lock on the controller, and RV(supported) is V(false).
    The lock is a file in the directory of the variable C(utrust_lock_dir), which all controllers of the cluster must share.
    Without the variable, the lock is for the runs on this machine only, and a job of AWX fails.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._attributes
  - keyops.utrust._attributes.actiongroup_utrust
attributes:
  check_mode:
    support: full
    details:
      - Check mode never claims the cluster. It fails if another run has claimed the cluster.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - A run that already has the claim only renews it.
options:
  state:
    description:
      - V(present) claims the cluster, or renews the claim of this run.
      - V(absent) releases the claim of this run. The node then discards what this run created and did not finish.
    type: str
    choices: [present, absent]
    default: present
  claim_wait:
    description:
      - Seconds to wait while another run has the claim. The default is longer than a claim lives without requests.
    type: float
    default: 150.0
  ttl:
    description:
      - Seconds after the last request until the claim ends, 10 to 120.
    type: int
    default: 120
  holder:
    description:
      - Text that names this run for people. Other runs show this text while they wait.
      - The action sets the user, the controller and the process or job of the run.
    type: str
  new_claim:
    description:
      - Internal. The action creates this token, and rejects it in a task.
    type: str
seealso:
  - module: keyops.utrust.utrust_ksp_import
"""

EXAMPLES = r"""
- name: Import a package while no other run changes the cluster
  hosts: utrust
  gather_facts: false
  tasks:
    - name: Import with a claim
      block:
        - name: Claim the cluster
          keyops.utrust.utrust_cluster_claim:
          run_once: true

        - name: Import the package
          keyops.utrust.utrust_ksp_import:
            src: /run/user/1000/ksp/cluster.ksp
            manifest_sha256: "{{ ksp_manifest_sha256 }}"
          when: inventory_hostname != utrust_source
      always:
        - name: Release the claim
          keyops.utrust.utrust_cluster_claim:
            state: absent
          run_once: true
"""

RETURN = r"""
claim:
  description: Claim of this run, or null without a claim.
  returned: success, or failure with RV(code=cluster_claimed)
  type: dict
  contains:
    holder:
      description: Text that names the run for people.
      type: str
      returned: always
    ttl:
      description: Seconds after the last request until the claim ends.
      type: int
      returned: always
    acquired_at:
      description: Time of the first claim.
      type: str
      returned: always
    expires_at:
      description: Time when the claim ends if no request renews it.
      type: str
      returned: always
  sample: {holder: "key_sync by alice@controller1 (pid 4711)", ttl: 120, acquired_at: "2026-11-23T12:00:00Z", expires_at: "2026-11-23T12:02:00Z"}
supported:
  description: Whether the node offers the claim of its cluster.
  returned: success
  type: bool
executed_on:
  description: Name of the machine that executed the module.
  returned: if a node was contacted
  type: str
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: cluster_claimed
problems:
  description: Problems that check mode found.
  returned: failure of a check
  type: list
  elements: dict
  contains:
    code:
      description: Code of the problem.
      type: str
      returned: always
    node:
      description: Name of the node with the problem.
      type: str
      returned: always
    text:
      description: Description of the problem.
      type: str
      returned: always
    remedy:
      description: Instruction to fix the problem.
      type: str
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_claim import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
