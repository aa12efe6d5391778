#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_hsm_restore
short_description: Restore the HSM of a node that has joined the cluster, with card holders at its PIN pad
version_added: 1.0.0
description:
  - Brings the HSM of a node from Factory Reset Mode to the MBK and the keys of the cluster, as Webconf does with I(Synchronize HSM).
  - Checks everything first and names every problem at once, shows the I(HSM Guided Restore Summary), starts the restore, shows what the PIN pad waits for,
    waits, and verifies the result by MBK check value and inventory digest.
  - People insert the MBK cards and type their PINs at the PIN pad. This module never handles a PIN and never repeats a card step, because three wrong PINs
    in a row disable a card for good.
  - If the controller dies meanwhile, run the task again; it watches the restore that is still running.
  - An HSM that is operational under another MBK is never overwritten.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
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
      - A node that is operational under the MBK of O(source) is not changed. If its keys differ, a warning says so; O(state=restored) does not synchronize keys
        afterwards, M(keyops.utrust.utrust_ksp_import) does.
options:
  state:
    description:
      - V(restored) restores the HSM, or watches a restore that is running.
      - V(canceled) cancels a restore that is running; the HSM stays in Factory Reset Mode.
    type: str
    choices: [restored, canceled]
    default: restored
  source:
    description:
      - The source node, as RV(keyops.utrust.utrust_hsm_info#module:node) was read from it just before. Its cluster, versions, MBK check value and
        inventory digest are what the restored node must have.
      - Needed with O(state=restored).
    type: dict
  pin_pad:
    description:
      - Name of the configured PIN pad where the card holders are.
      - Needed with O(state=restored).
    type: str
  cards_required:
    description:
      - How many MBK cards are needed, as the operator declares it (m of I(m out of n)). If set, the node must say the same.
    type: int
  cards_total:
    description:
      - How many MBK cards there are, as the operator declares it (n of I(m out of n)).
    type: int
  cards_available:
    description:
      - How many MBK cards the card holders have with them, as the operator declares it. If they are fewer than needed, nothing is started.
    type: int
  expect_hsm_serial:
    description:
      - Serial number of the HSM as the card holders have read it at the front display. Another HSM is refused before a card is inserted.
    type: str
  restore_timeout:
    description:
      - Seconds to wait for the end of the restore. When they are over the task fails, but the restore goes on at the PIN pad. The PIN pad has a time limit
        of its own for each step.
    type: float
    default: 1800.0
seealso:
  - module: keyops.utrust.utrust_hsm_info
  - module: keyops.utrust.utrust_ksp_import
"""

EXAMPLES = r"""
- name: Read the source node
  keyops.utrust.utrust_hsm_info:
    host: node1.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node1_fingerprints }}"
    expect_node: node1
  register: source

- name: Restore node2 with two of the three card holders at its PIN pad
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

- name: Cancel a restore because a card holder had to leave
  keyops.utrust.utrust_hsm_restore:
    host: node2.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node2_fingerprints }}"
    state: canceled
"""

RETURN = r"""
node:
  description: Name of the node.
  returned: success
  type: str
  sample: node2
hsm_serial:
  description: Serial number of its HSM.
  returned: success
  type: str
  sample: UT000002
hsm_state:
  description: State of the HSM afterwards.
  returned: if the HSM is restored
  type: str
  sample: operational
mbk:
  description: Public facts of the MBK that the HSM holds.
  returned: if the HSM is restored
  type: dict
  sample: {name: KEYOPS, check_value: 5c1de3b2a4f60718, m: 2, n: 3}
key_count:
  description: Number of keys in the HSM.
  returned: if the HSM is restored
  type: int
  sample: 10
keys_digest:
  description: Digest of the HSM's inventory.
  returned: if the HSM is restored
  type: str
in_sync:
  description: Whether the HSM holds the same keys as the source did.
  returned: if the HSM is restored
  type: bool
preview:
  description: The HSM Guided Restore Summary, with serial and TLS fingerprint to read aloud and compare with the front display.
  returned: if a restore was or would be started
  type: dict
restore:
  description: Id, PIN pad and source of the restore.
  returned: if there is one
  type: dict
events:
  description: What the PIN pad asked and answered, in order.
  returned: success, and when a restore failed
  type: list
  elements: str
  sample: ["PIN pad front-usb: Insert MBK card 1 of 2 (card 1 of 2, 120 s left)"]
executed_on:
  description: Host name of the machine that ran the operation.
  returned: always
  type: str
code:
  description: Stable code of the failure, or of the first of RV(problems).
  returned: failure
  type: str
  sample: card_timeout
problems:
  description: Every problem that was found before anything was changed, each with C(code), C(node), C(text) and C(remedy).
  returned: if there were problems
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_restore import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
