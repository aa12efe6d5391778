#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_hsm_info
short_description: Read the state of a node and its HSM
version_added: 1.0.0
description:
  - Reads identity, versions, HSM state, Master Backup Key (MBK) and cluster members of one node.
  - On request, the module also reads the keys of the HSM, the PIN pads and a running guided restore.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
  - keyops.utrust._attributes.actiongroup_utrust
options:
  gather:
    description:
      - Facts to read in addition to RV(node).
      - V(keys) returns RV(hsm_keys). To find out whether two HSMs hold the same keys, compare RV(node.keys_digest) instead.
      - V(pin_pads) returns RV(pin_pads).
      - V(restore) returns RV(restore).
    type: list
    elements: str
    choices: [keys, pin_pads, restore]
    default: []
  skip_keys_if_digest:
    description:
      - RV(node.keys_digest) of another node whose keys you already have.
      - If this node has the same digest, O(gather=keys) reads no keys and returns no RV(hsm_keys).
      - The module still reads the keys if some of them are usable and some are not.
    type: str
  wait_for_members:
    description:
      - Names of nodes that this node must report as Connected.
      - The module waits for them. If O(wait_timeout) is over, the module fails and names the missing nodes.
    type: list
    elements: str
    default: []
  wait_timeout:
    description:
      - Seconds to wait for O(wait_for_members).
    type: float
    default: 600.0
seealso:
  - module: keyops.utrust.utrust_hsm_restore
  - module: keyops.utrust.utrust_ksp_export
  - module: keyops.utrust.utrust_ksp_import
"""

EXAMPLES = r"""
---
- name: Read a node and the keys of its HSM
  keyops.utrust.utrust_hsm_info:
    host: node1.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node1_fingerprints }}"
    expect_node: node1
    gather:
      - keys
  register: info

- name: Show the labels of the keys
  ansible.builtin.debug:
    msg: "{{ info.hsm_keys | map(attribute='label') }}"
"""

RETURN = r"""
node:
  description: Identity and state of the node.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the node in its cluster.
      type: str
      returned: success
    product:
      description: Product name of the appliance.
      type: str
      returned: success
    appliance_version:
      description: Version of the appliance, or null if the node cannot determine it.
      type: str
      returned: success
    hsm_family:
      description: Kind of HSM. The collection supports V(u_trust_anchor). V(unknown) means that the node cannot determine it.
      type: str
      returned: success
    hsm_model:
      description: Model of the HSM.
      type: str
      returned: success
    hsm_serial:
      description: Serial number of the HSM.
      type: str
      returned: success
    hsm_firmware:
      description: Firmware version of the HSM, or null if the node cannot determine it.
      type: str
      returned: success
    hsm_state:
      description: State of the HSM. One of V(factory_reset) (Factory Reset Mode), V(operational), V(alarm), V(maintenance), V(unknown).
      type: str
      returned: success
    alarm_code:
      description: Kind of the alarm if RV(node.hsm_state=alarm), for example V(external_erase), or null.
      type: str
      returned: success
    alarm:
      description: Reason of the alarm as text for people if RV(node.hsm_state=alarm), or null.
      type: str
      returned: success
    fips:
      description: Whether the HSM is in FIPS mode, or null if the node cannot determine it.
      type: bool
      returned: success
    driver:
      description: State of the HSM driver, V(running), V(stopped) or V(unknown).
      type: str
      returned: success
    clock:
      description: Time of the node's clock, UTC, or null if the node cannot determine it.
      type: str
      returned: success
    clock_skew:
      description: Difference in seconds between the clock of the node and the clock of the machine that executes the module. Null if RV(node.clock) is null.
      type: float
      returned: success
    mbk:
      description: Public facts of the Master Backup Key (MBK). Null in Factory Reset Mode, and if the node cannot determine it.
      type: dict
      returned: success
      contains:
        name:
          description: Name of the MBK.
          type: str
          returned: success
        check_value:
          description: Check value (KCV) of the MBK. Two HSMs with the same check value hold the same MBK.
          type: str
          returned: success
        m:
          description: Number of MBK cards (Backup Protection Smart Cards) that a restore requires, or null if the node does not report it.
          type: int
          returned: success
        n:
          description: Number of MBK cards in the set, or null if the node does not report it.
          type: int
          returned: success
    slots:
      description: PKCS#11 slots, each with C(slot), C(label), C(activation), C(activated) and C(key_count).
      type: list
      elements: dict
      returned: success
    key_count:
      description: Number of keys in the HSM, or null if the node cannot determine it.
      type: int
      returned: success
    unusable_key_count:
      description: Number of keys that cannot be used, because their slot is not activated or their objects are incomplete. Null if unknown.
      type: int
      returned: success
    keys_digest:
      description: Digest of the keys. Two HSMs with the same digest hold the same keys. Null if the node cannot list its keys, which equals no other null.
      type: str
      returned: success
    cluster_id:
      description: ID of the cluster.
      type: str
      returned: success
    cluster_name:
      description: Name of the cluster.
      type: str
      returned: success
    members:
      description: Cluster members as this node reports them, each with C(node), C(address), C(port), C(joined) and C(connection).
      type: list
      elements: dict
      returned: success
    last_backup_at:
      description: Time of the last backup of the node, or null if the node does not report it.
      type: str
      returned: success
    tls_expires_at:
      description: End of validity of the node's TLS certificate, or null if the node does not report it.
      type: str
      returned: success
    running:
      description: Job that uses the HSM, with C(kind) and C(id), or null. C(id) is null for a job that was not started with the API.
      type: dict
      returned: success
  sample:
    name: node1
    hsm_state: operational
    hsm_serial: UT000001
    key_count: 10
    mbk: {name: KEYOPS, check_value: 5c1de3b2a4f60718, m: 2, n: 3}
hsm_keys:
  description:
    - Keys in the HSM.
    - C(label) has a code such as C(\\x1b) for each character that is not visible, and two backslashes for a backslash.
    - C(fingerprint) is the key fingerprint, the SHA-256 of the public key.
    - If C(check_value_only) is true, C(fingerprint) is the three-byte check value (KCV) of a secret key.
      Two different keys can have the same check value.
  returned: if O(gather) contains V(keys) and O(skip_keys_if_digest) does not match
  type: list
  elements: dict
  sample:
    - {slot: 0, label: signKey-2026, id: "01", type: ec, size: 256, curve: P-256, fingerprint: "sha256:a1...", usable: true, check_value_only: false}
pin_pads:
  description: Configured PIN pads.
  returned: if O(gather) contains V(pin_pads)
  type: list
  elements: dict
  sample:
    - {name: front-usb, kind: local, address: null, status: ready}
restore:
  description: Running guided restore, or null.
  returned: if O(gather) contains V(restore)
  type: dict
executed_on:
  description: Host name of the machine that executed the operation.
  returned: always
  type: str
  sample: awx-task-1
code:
  description: Code of the failure.
  returned: failure
  type: str
  sample: node_unreachable
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_info import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
