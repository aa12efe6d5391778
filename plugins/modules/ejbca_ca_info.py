#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ejbca_ca_info
short_description: Read the CAs and the health check of EJBCA on a node
version_added: 1.0.0
description:
  - Reads which CAs EJBCA has on a node, with the fingerprint of the public key in each CA's active certificate, and what its health check says.
  - The health check is no proof that a node has the keys that it needs. EJBCA does not look at keys that are mapped as a CA's next or previous one. See
    M(keyops.utrust.utrust_key_proof) for a proof.
  - Changes nothing.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._ejbca
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
  ejbca:
    required: true
seealso:
  - module: keyops.utrust.utrust_key_proof
  - module: keyops.utrust.ejbca_key
"""

EXAMPLES = r"""
- name: Read the CAs of this node
  keyops.utrust.ejbca_ca_info:
    ejbca: "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options }}"
  module_defaults:
    group/keyops.utrust.utrust: "{{ hostvars[inventory_hostname] | keyops.utrust.connection_options }}"
  register: cas
"""

RETURN = r"""
health:
  description: What the health check complains of, or nothing where it answers C(ALLOK).
  returned: success
  type: str
  sample: "CA: Error CA Token is disconnected, CA Name : IssuingCA"
authorities:
  description: The CAs.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the CA.
      type: str
      returned: success
    subject_dn:
      description: Subject of the CA.
      type: str
      returned: success
    public_key_sha256:
      description: Fingerprint of the public key in the CA's active certificate, as the inventory of an HSM has it.
      type: str
      returned: success
    not_after:
      description: When that certificate expires, UTC.
      type: str
      returned: success
executed_on:
  description: Host name of the machine that executed this.
  returned: always
  type: str
  sample: awx-task-1
code:
  description: Stable code of the failure.
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
