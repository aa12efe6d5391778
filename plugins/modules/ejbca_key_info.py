#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ejbca_key_info
short_description: Read which keys EJBCA of a node shows
version_added: 1.0.0
description:
  - Reads the crypto tokens of EJBCA on one node and their keys from the Admin Web of EJBCA. This is the EJBCA view of the node.
  - The view shows what the application of the node sees. A key that is missing in the view can be in the HSM, because EJBCA reads its keys only now and then.
  - The view never shows secret keys, keys of slots without a crypto token, or keys of SignServer.
  - Each view of an inactive crypto token with auto-activation tries the stored PIN in the HSM.
    The module reads such a crypto token once, reports C(token_activation_failing), and rejects further tasks for the node in the same run.
  - The module sends nothing but GET requests, and rejects an account that may do more than read.
  - Each task is one login in the audit log of EJBCA, and each page is one record.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._ejbca
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
  - keyops.utrust._attributes.actiongroup_utrust
options:
  ejbca:
    description:
      - Connection to EJBCA on this node, with the account of a reader.
      - The role of the reader in EJBCA has the rights C(/administrator) and C(/cryptotoken/view) only.
      - Set the address of the node itself. A virtual address can lead to another node.
    required: true
  crypto_tokens:
    description:
      - Names of the crypto tokens whose keys are read.
      - Without this option and O(token_ids), the module reads the keys of all crypto tokens.
    type: list
    elements: str
    default: []
  token_ids:
    description:
      - Ids of the crypto tokens whose keys are read.
      - Some versions of EJBCA do not show the ids in the list of crypto tokens. Then this option is required.
    type: list
    elements: int
    default: []
  test_keys:
    description:
      - Keys with which EJBCA of the node signs for a test, through its health check. Version 8.2 or later is needed.
      - The module first tests a key that does not exist, and believes a success only if this test failed.
        Each crypto token causes one error in the log of EJBCA.
      - EJBCA has no record of the test, so the audit trail of the collection has one for each key.
      - A success does not show that the key is the key of the source. Compare the public keys of both nodes, too.
      - Do not test root and offline keys, or keys under the sole control of a person.
      - EJBCA allows the health check by the address of the client. Its list of addresses must not be C(ANY).
    type: list
    elements: dict
    default: []
    suboptions:
      crypto_token:
        description: Name of the crypto token.
        type: str
        required: true
      alias:
        description: Exact alias of the key.
        type: str
        required: true
  without_traffic:
    description:
      - Whether a load balancer sends no requests to this node.
      - Before version 9, EJBCA can report the failing test to a load balancer, so the module tests keys only if this option is set.
    type: bool
    default: false
seealso:
  - module: keyops.utrust.ejbca_ca_info
  - module: keyops.utrust.utrust_hsm_info
  - module: keyops.utrust.utrust_key_proof
"""

EXAMPLES = r"""
---
- name: Read the keys that EJBCA of this node shows
  keyops.utrust.ejbca_key_info:
    ejbca: "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options('reader') }}"
  register: ejbca_keys

- name: Show the aliases of one crypto token
  ansible.builtin.debug:
    msg: "{{ (ejbca_keys.view.tokens | selectattr('name', 'equalto', 'SigningToken') | first).token_keys | map(attribute='alias') }}"

- name: Let EJBCA of this node sign with one key
  keyops.utrust.ejbca_key_info:
    ejbca: "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options('reader') }}"
    crypto_tokens:
      - SigningToken
    test_keys:
      - crypto_token: SigningToken
        alias: signKey-2026
    without_traffic: true
"""

RETURN = r"""
view:
  description: Crypto tokens and keys as EJBCA of this node shows them.
  returned: success
  type: dict
  contains:
    scope:
      description: Always C(ejbca). The view is not the content of the HSM.
      type: str
      returned: success
    version:
      description: Version of EJBCA, or null.
      type: str
      returned: success
    host_name:
      description: Host name that EJBCA shows, or null.
      type: str
      returned: success
    server_time:
      description: Time of the server as EJBCA shows it, or null.
      type: str
      returned: success
    tokens:
      description: Crypto tokens. A member that is null is unknown.
      type: list
      elements: dict
      returned: success
      contains:
        id:
          description: Id of the crypto token. All nodes of a cluster have the same ids.
          type: int
          returned: success
        name:
          description: Name of the crypto token.
          type: str
          returned: success
        type:
          description: Name of the class of EJBCA, for example C(Pkcs11NgCryptoToken).
          type: str
          returned: success
        reference:
          description: Slot of the crypto token as EJBCA shows it.
          type: str
          returned: success
        reference_type:
          description: How C(reference) names the slot, for example by its label, as EJBCA shows it.
          type: str
          returned: success
        active:
          description: Whether the crypto token is active on this node.
          type: bool
          returned: success
        auto_activation:
          description: Whether EJBCA activates the crypto token with a stored PIN.
          type: bool
          returned: success
        used:
          description: Whether a CA or another object refers to the crypto token.
          type: bool
          returned: success
        needs_authorization:
          description: Whether the HSM authorizes each use of a key.
          type: bool
          returned: success
        token_keys:
          description: Keys of the crypto token, or null if they are unknown.
          type: list
          elements: dict
          returned: success
          contains:
            alias:
              description: Alias of the key.
              type: str
              returned: success
            algorithm:
              description: Algorithm for people. It depends on the version of EJBCA.
              type: str
              returned: success
            specification:
              description: Size or curve for people. It depends on the version of EJBCA.
              type: str
              returned: success
            subject_key_id:
              description: SubjectKeyID of the public key, or null for a placeholder of a key that nobody generated.
              type: str
              returned: success
            fingerprint:
              description: Key fingerprint of the downloaded public key, or null if it is unknown.
              type: str
              returned: success
            problem:
              description: Reason why the public key could not be verified, or null.
              type: str
              returned: success
        problem:
          description: Reason why the keys are unknown, or null.
          type: dict
          returned: success
          contains:
            code:
              description: Stable code.
              type: str
              returned: success
            text:
              description: Reason for people.
              type: str
              returned: success
    warnings:
      description: Parts of the view that were not read.
      type: list
      elements: str
      returned: success
identity:
  description: Facts that show which node responded.
  returned: success
  type: dict
  contains:
    address:
      description: Address of the connection.
      type: str
      returned: success
    port:
      description: Port of the connection.
      type: int
      returned: success
    certificate_fingerprint:
      description: Certificate fingerprint of the TLS certificate.
      type: str
      returned: success
    host_name:
      description: Host name that EJBCA shows, or null.
      type: str
      returned: success
    version:
      description: Version of EJBCA, or null.
      type: str
      returned: success
    server_time:
      description: Time of the server as EJBCA shows it, or null.
      type: str
      returned: success
signature_tests:
  description: One result for each entry of O(test_keys).
  returned: success
  type: list
  elements: dict
  contains:
    crypto_token:
      description: Name of the crypto token.
      type: str
      returned: success
    alias:
      description: Alias of the key.
      type: str
      returned: success
    subject_key_id:
      description: SubjectKeyID of the key in this view, or null.
      type: str
      returned: success
    fingerprint:
      description: Key fingerprint of the key in this view, or null.
      type: str
      returned: success
    result:
      description: C(can_sign), C(cannot_sign) or C(unknown). Every doubt gives C(unknown).
      type: str
      returned: success
    reason:
      description: Reason for people.
      type: str
      returned: success
problems:
  description: Crypto tokens and keys that could not be read or verified.
  returned: success
  type: list
  elements: dict
  contains:
    code:
      description: Stable code.
      type: str
      returned: success
    node:
      description: Node.
      type: str
      returned: success
    text:
      description: Reason for people.
      type: str
      returned: success
    remedy:
      description: Instruction, or an empty text if the reason has it.
      type: str
      returned: success
executed_on:
  description: Host name of the machine that executed the operation.
  returned: always
  type: str
  sample: awx-task-1
code:
  description: Code of the failure.
  returned: failure
  type: str
  sample: ejbca_page_unrecognized
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ejbca_key_info import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
