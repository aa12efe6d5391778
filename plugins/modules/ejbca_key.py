#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ejbca_key
short_description: Generate a key pair in a crypto token of EJBCA
version_added: 1.0.0
description:
  - Generates a key pair in a crypto token of EJBCA on one node.
    The module generates no key if the HSM of the node already holds a key with the alias.
  - EJBCA's REST interface does not list keys. The module reads the keys of the HSM instead, before and after the request.
  - The module never sends the request twice. After a lost response, the keys of the HSM show whether the key exists.
  - With O(generate=false), the module finds a key that a key ceremony made. It reads the HSM only.
  - The key exists only on this node. Synchronize and prove the key on all other nodes before a CA uses it.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._audit
  - keyops.utrust._ejbca
  - keyops.utrust._attributes
  - keyops.utrust._attributes.actiongroup_utrust
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  ejbca:
    description:
      - Connection to EJBCA on this node. Required if O(generate=true).
  crypto_token:
    description:
      - Name of the crypto token in EJBCA.
    type: str
    required: true
  slot:
    description:
      - HSM slot of the crypto token.
    type: int
    default: 0
  alias:
    description:
      - Alias of the key pair. The alias is the label of the key in the HSM.
    type: str
    required: true
  key_alg:
    description:
      - Algorithm of the key.
    type: str
    choices: [RSA, EC]
    required: true
  key_spec:
    description:
      - Size of an RSA key, for example V(3072), or curve of an EC key, for example V(P-384).
    type: str
    required: true
  generate:
    description:
      - Whether to generate the key if the HSM does not hold a key with the alias.
      - With V(false), the module fails unless the slot holds exactly one key with the alias, and the key has O(key_alg) and O(key_spec).
        The curve must then have the name that the node reports, such as V(P-256).
    type: bool
    default: true
  ceremony_reference:
    description:
      - Reference of the key ceremony that made the key, for the audit trail. At most 200 characters.
      - Required if O(generate=false), and rejected otherwise.
    type: str
  key_fingerprint:
    description:
      - Key fingerprint from the record of the key ceremony. The module fails if the key has another key fingerprint.
      - Rejected if O(generate=true).
    type: str
  wait_timeout:
    description:
      - Seconds to wait for the node if it does not respond after the request.
    type: float
    default: 60.0
seealso:
  - module: keyops.utrust.ejbca_ca_info
  - module: keyops.utrust.utrust_key_proof
"""

EXAMPLES = r"""
---
- name: Generate the next key of a CA on the source node
  keyops.utrust.ejbca_key:
    ejbca: "{{ hostvars['node1'] | keyops.utrust.ejbca_options('operator') }}"
    crypto_token: SigningToken
    alias: signKey-2027
    key_alg: RSA
    key_spec: "3072"
  module_defaults:
    group/keyops.utrust.utrust: "{{ hostvars['node1'] | keyops.utrust.connection_options }}"
  run_once: true
  register: generated

- name: Find the key of a key ceremony on the source node
  keyops.utrust.ejbca_key:
    crypto_token: SigningToken
    alias: signKey-2027
    key_alg: RSA
    key_spec: "3072"
    generate: false
    ceremony_reference: Ceremony 2026-11
  module_defaults:
    group/keyops.utrust.utrust: "{{ hostvars['node1'] | keyops.utrust.connection_options }}"
  run_once: true

- name: Show the key fingerprint
  ansible.builtin.debug:
    msg: "{{ generated.hsm_key.fingerprint }}"
"""

RETURN = r"""
hsm_key:
  description:
    - Public facts of the key, as RV(keyops.utrust.utrust_hsm_info#module:hsm_keys) has them.
    - Null if check mode would generate the key.
  returned: success
  type: dict
  sample: {slot: 0, label: signKey-2027, id: "01", type: rsa, size: 3072, curve: null, fingerprint: "sha256:a1...", usable: true, check_value_only: false}
ceremony_reference:
  description: Reference of the key ceremony.
  returned: if O(generate=false)
  type: str
  sample: Ceremony 2026-11
executed_on:
  description: Host name of the machine that executed the operation.
  returned: always
  type: str
  sample: awx-task-1
code:
  description: Code of the failure.
  returned: failure
  type: str
  sample: ejbca_unreachable
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ejbca_key import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
