#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_hsm_restore
short_description: Restore the HSM of a joined node at its PIN pad
version_added: 1.0.0
description:
  - Restores the Master Backup Key (MBK) and the keys of the cluster to an HSM in Factory Reset Mode, as I(Synchronize HSM) in Webconf does.
  - The module checks the node and reports all problems before it starts the restore.
  - The module shows the I(HSM Guided Restore Summary) and the prompts of the PIN pad, and waits for the end of the restore.
    Then the module verifies the MBK check value (KCV) and the keys digest.
  - People insert the MBK cards (Backup Protection Smart Cards) and type their PINs at the PIN pad.
    The module never handles a PIN and never repeats a card step, because three wrong PINs in a row lock a card for good.
  - If the controller fails during a restore, run the task again. The module then watches the running restore.
  - The module never overwrites an operational HSM with another MBK.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._audit
  - keyops.utrust._people
  - keyops.utrust._attributes
  - keyops.utrust._attributes.actiongroup_utrust
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - The module does not change an HSM that is operational with the MBK of O(source).
      - If the keys of such an HSM differ, the module returns a warning. Use M(keyops.utrust.utrust_ksp_import) to synchronize the keys.
options:
  state:
    description:
      - V(restored) restores the HSM, or watches a running restore. It requires O(expect_node), O(source) and O(pin_pad).
      - V(canceled) cancels a running restore. The HSM stays in Factory Reset Mode.
    type: str
    choices: [restored, canceled]
    default: restored
  source:
    description:
      - Source node, as RV(keyops.utrust.utrust_hsm_info#module:node) returned it immediately before.
      - The module compares cluster, versions, MBK check value and keys digest of the restored node with this node.
    type: dict
  pin_pad:
    description:
      - Name of the configured PIN pad at which the card holders are.
    type: str
  cards_required:
    description:
      - Number of MBK cards that a restore requires (m of I(m out of n)). Set O(cards_total) too.
      - The module fails before it starts the restore if the node reports another number.
    type: int
  cards_total:
    description:
      - Number of MBK cards in the set (n of I(m out of n)). Set O(cards_required) too.
      - The module fails before it starts the restore if the node reports another number.
    type: int
  cards_available:
    description:
      - Number of MBK cards that the card holders have with them.
      - The module fails before it starts the restore if a restore requires more cards.
    type: int
  expect_hsm_serial:
    description:
      - Serial number of the HSM, as the card holders read it at the front display.
      - The module fails before it starts the restore if the HSM has another serial number.
    type: str
  restore_timeout:
    description:
      - Seconds to wait for the end of the restore.
      - The task fails if the time is over. The restore continues at the PIN pad, which has its own time limit for each step.
    type: float
    default: 1800.0
  ejbca_view_timeout:
    description:
      - With transport V(assisted), seconds until the EJBCA view of the node must show the keys after people confirmed the step.
    type: float
    default: 150.0
seealso:
  - module: keyops.utrust.utrust_hsm_info
  - module: keyops.utrust.utrust_ksp_import
"""

EXAMPLES = r"""
---
- name: Read the source node
  keyops.utrust.utrust_hsm_info:
    host: node1.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node1_fingerprints }}"
    expect_node: node1
  register: source

- name: Restore node2 with two of three card holders
  keyops.utrust.utrust_hsm_restore:
    host: node2.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node2_fingerprints }}"
    expect_node: node2
    members: "{{ source.node.members | selectattr('joined') | map(attribute='node') }}"
    source: "{{ source.node }}"
    pin_pad: front-usb
    cards_required: 2
    cards_total: 3

- name: Cancel the restore of node2
  keyops.utrust.utrust_hsm_restore:
    host: node2.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node2_fingerprints }}"
    expect_node: node2
    state: canceled
"""

RETURN = r"""
node:
  description: Name of the node.
  returned: success
  type: str
  sample: node2
hsm_serial:
  description: Serial number of the HSM.
  returned: success
  type: str
  sample: UT000002
hsm_state:
  description: State of the HSM after the restore.
  returned: if the HSM is restored
  type: str
  sample: operational
mbk:
  description: Public facts of the MBK in the HSM.
  returned: if the HSM is restored
  type: dict
  sample: {name: KEYOPS, check_value: 5c1de3b2a4f60718, m: 2, n: 3}
key_count:
  description: Number of keys in the HSM, or null if the node cannot determine it.
  returned: if the HSM is restored
  type: int
  sample: 10
keys_digest:
  description: Digest of the keys in the HSM, or null if the node cannot list its keys.
  returned: if the HSM is restored
  type: str
  sample: "sha256:1f..."
in_sync:
  description: Whether the HSM holds the same keys as O(source), or null if the keys of one of both are unknown.
  returned: if the HSM is restored
  type: bool
preview:
  description:
    - The I(HSM Guided Restore Summary).
    - Card holders compare C(hsm_serial) and C(tls_fingerprint) with the front display.
  returned: if the module started a restore, or would start it in check mode
  type: dict
restore:
  description: The restore, with C(id), C(pin_pad) and C(source).
  returned: if a restore ran, or is running
  type: dict
events:
  description: Prompts and errors of the PIN pad, in chronological order.
  returned: success, or if a restore failed
  type: list
  elements: str
  sample: ["PIN pad front-usb: Insert MBK card 1 of 2 (card 1 of 2, 120 s left)"]
restore_id:
  description: ID of the restore that failed or still runs.
  returned: if a restore failed or timed out
  type: str
executed_on:
  description: Host name of the machine that executed the operation.
  returned: always
  type: str
  sample: awx-task-1
code:
  description: Code of the failure, or of the first of RV(problems).
  returned: failure
  type: str
  sample: card_timeout
problems:
  description: All problems that the module found before any change.
  returned: if a check failed
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
confirmations:
  description: Confirmations of people that the task used, each with the step, the node and the origin (V(option) or V(terminal)).
  returned: if people confirmed a step
  type: list
  elements: dict
  sample:
    - node: node2
      step: hsm_restored
      confirmed_by: Alice
      origin: terminal
      hsm_serial: UT000002
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_restore import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
