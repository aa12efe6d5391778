#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ejbca_ca_info
short_description: Read the CAs and the health check of EJBCA
version_added: 1.0.0
description:
  - Reads the CAs of EJBCA on one node, and the result of its health check.
  - A healthy result does not prove that the node has all keys that it needs.
    EJBCA does not test the next key or the previous key of a CA. Use M(keyops.utrust.utrust_key_proof) for a proof.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._ejbca
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
  - keyops.utrust._attributes.actiongroup_utrust
requirements:
  - cryptography on the machine that executes the module (ansible-core installs it on the controller)
options:
  ejbca:
    required: true
  ca:
    description: Name of a CA that must exist. RV(ca) returns this CA.
    type: str
  expect_public_key_sha256:
    description: Key fingerprint that the current key of O(ca) must have. The module fails if the CA has another key.
    type: str
  require_healthy:
    description: Whether the module fails if the health check returns an error.
    type: bool
    default: false
  only_health:
    description:
      - Whether to read only the health check. EJBCA requires no rights for it, only the address of a client that it allows.
      - RV(authorities) is then an empty list. The option excludes O(ca).
    type: bool
    default: false
seealso:
  - module: keyops.utrust.ejbca_key
  - module: keyops.utrust.utrust_key_proof
"""

EXAMPLES = r"""
---
- name: Read the CAs of EJBCA on this node
  keyops.utrust.ejbca_ca_info:
    ejbca: "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options('reader') }}"
  register: cas

- name: Show the names of the CAs
  ansible.builtin.debug:
    msg: "{{ cas.authorities | map(attribute='name') }}"
"""

RETURN = r"""
health:
  description: Error of the health check, or null if EJBCA reports C(ALLOK).
  returned: success
  type: str
  sample: "CA: Error CA Token is disconnected, CA Name : IssuingCA"
authorities:
  description: CAs of EJBCA.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the CA.
      type: str
      returned: success
    subject_dn:
      description: Subject DN of the CA.
      type: str
      returned: success
    public_key_sha256:
      description:
        - Key fingerprint of the current key of the CA, in the format of RV(keyops.utrust.utrust_hsm_info#module:hsm_keys).
        - Null if the CA has no certificate, or a certificate that cannot be read.
      type: str
      returned: success
    problem:
      description: Reason why the certificate of the CA could not be read, or null.
      type: str
      returned: success
    not_after:
      description: End of validity of the CA certificate, UTC.
      type: str
      returned: success
    is_root:
      description:
        - Whether the CA is a root CA, because subject and issuer of its certificate are equal.
        - Null if the CA has no certificate, or a certificate that cannot be read.
      type: bool
      returned: success
  sample:
    - name: IssuingCA
      subject_dn: CN=IssuingCA,O=Example
      public_key_sha256: "sha256:a1..."
      not_after: "2036-05-01T12:00:00+00:00"
      is_root: false
ca:
  description: The CA of option O(ca), in the format of RV(authorities). Null if the option is not set.
  returned: success
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
  sample: ejbca_unreachable
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ejbca_ca_info import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
