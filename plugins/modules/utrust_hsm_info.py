#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_hsm_info
short_description: Read a node of a hardware appliance cluster and its HSM
version_added: 1.0.0
description:
  - Reads identity, versions, HSM state, MBK and cluster members of one node, and on request the inventory of its HSM, its PIN pads and a running guided
    restore.
  - Changes nothing.
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
      - This module changes nothing.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
  idempotent:
    support: full
    details:
      - This module changes nothing.
options:
  gather:
    description:
      - What to read beyond the node itself.
      - V(keys) returns RV(hsm_keys). It is not needed to tell whether two HSMs hold the same keys; for this compare RV(node.keys_digest).
    type: list
    elements: str
    choices: [keys, pin_pads, restore]
    default: []
  skip_keys_if_digest:
    description:
      - The RV(node.keys_digest) of another node, whose keys you know. Where the node names the same one, O(gather=keys) reads no inventory and
        returns no RV(hsm_keys), unless the node cannot use some, but not all, of its keys.
    type: str
  wait_for_members:
    description:
      - Names of nodes that this node must see as Connected. The module waits for that, and fails and names those that are not when O(wait_timeout) is over.
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
- name: Read a node and the inventory of its HSM
  keyops.utrust.utrust_hsm_info:
    host: node1.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node1_fingerprints }}"
    expect_node: node1
    gather:
      - keys
  register: info

- name: Show which keys it holds
  ansible.builtin.debug:
    msg: "{{ info.hsm_keys | map(attribute='label') }}"
"""

RETURN = r"""
node:
  description: The node.
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
      description: Version of the appliance.
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
      description: Firmware version of the HSM.
      type: str
      returned: success
    hsm_state:
      description: One of V(factory_reset) (Factory Reset Mode), V(operational), V(alarm), V(maintenance).
      type: str
      returned: success
    alarm:
      description: The alarm's reason where RV(node.hsm_state=alarm).
      type: str
      returned: success
    fips:
      description: Whether the HSM is in FIPS mode.
      type: bool
      returned: success
    driver:
      description: State of the HSM driver, V(running) or V(stopped).
      type: str
      returned: success
    clock:
      description: The node's clock, UTC.
      type: str
      returned: success
    clock_skew:
      description: Seconds between the node's clock and that of the machine that read it.
      type: float
      returned: success
    mbk:
      description: Public facts of the Master Backup Key, or nothing in Factory Reset Mode.
      type: dict
      returned: success
      contains:
        name:
          description: Name of the MBK.
          type: str
          returned: success
        check_value:
          description: MBK check value. Two HSMs with the same one hold the same MBK.
          type: str
          returned: success
        m:
          description: Cards needed, where the node can tell.
          type: int
          returned: success
        n:
          description: Cards in the set, where the node can tell.
          type: int
          returned: success
    slots:
      description: The PKCS#11 slots with their label, way of activation and number of keys.
      type: list
      elements: dict
      returned: success
    key_count:
      description: Number of keys in the HSM.
      type: int
      returned: success
    unusable_key_count:
      description: Number of keys that are there but cannot be used, since their slot is not activated or their objects are incomplete.
      type: int
      returned: success
    keys_digest:
      description: Digest of the inventory. Two HSMs with the same one hold the same keys.
      type: str
      returned: success
    cluster_id:
      description: Identity of the cluster.
      type: str
      returned: success
    cluster_name:
      description: Name of the cluster.
      type: str
      returned: success
    members:
      description: The cluster's members as this node sees them, with C(node), C(address), C(port), C(joined) and C(connection).
      type: list
      elements: dict
      returned: success
    last_backup_at:
      description: When the last backup of the node was made, where the node can tell.
      type: str
      returned: success
    tls_expires_at:
      description: When the node's TLS certificate expires, where the node can tell.
      type: str
      returned: success
    running:
      description: Kind and id of the job that occupies the HSM now, or nothing.
      type: dict
      returned: success
  sample:
    name: node1
    hsm_state: operational
    hsm_serial: UT000001
    key_count: 10
    mbk: {name: KEYOPS, check_value: 5c1de3b2a4f60718, m: 2, n: 3}
hsm_keys:
  description: The inventory. C(fingerprint) identifies a key; where C(check_value_only) is true it is a three-byte key check value, which proves little.
  returned: if O(gather) has V(keys), and O(skip_keys_if_digest) does not tell the same
  type: list
  elements: dict
  sample:
    - {slot: 0, label: signKey-2026, id: "01", type: ec, size: 256, curve: P-256, fingerprint: "sha256:a1...", usable: true, check_value_only: false}
pin_pads:
  description: The configured PIN pads.
  returned: if O(gather) has V(pin_pads)
  type: list
  elements: dict
  sample:
    - {name: front-usb, kind: local, address: null, status: ready}
restore:
  description: The guided restore that has not ended, or nothing.
  returned: if O(gather) has V(restore)
  type: dict
executed_on:
  description: Host name of the machine that read the node.
  returned: always
  type: str
  sample: awx-task-1
code:
  description: Stable code of the failure.
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
