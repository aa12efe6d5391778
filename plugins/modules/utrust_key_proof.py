#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_key_proof
short_description: Prove that a node can use keys
version_added: 1.0.0
description:
  - Tests keys on one node. Level V(hsm) proves that the key is in the HSM.
    Level V(token) proves that EJBCA's crypto token contains the key. Level V(sign) proves that the node signs with the key.
  - Only level V(sign) proves that a CA with this key works on the node.
  - EJBCA's Java PKCS#11 crypto token reads its keys only when EJBCA activates the crypto token.
    It cannot use a key that was imported later.
  - EJBCA's REST interface does not list or test keys.
    The module proves level V(token) by the EJBCA view of the node (O(ejbca_view)).
    The module proves level V(sign) by the view together with a test signature (O(hsm_keys[].sign_test)),
    or else by a test certificate of a CA that uses the key (O(hsm_keys[].ca)), or else by the confirmation of a person.
  - If no CA uses the key yet, create a test CA in EJBCA on the node that generated the key.
    Exclude the test CA from the health check, and create an end entity profile for it.
  - Without a test CA, a person tests the key with button C(Test) in the Admin Web of each node.
    Then add the person, the key fingerprint and the time of the test to O(manual_confirmations).
  - The module does not fail if a key does not reach the level. Check RV(passed). The role P(keyops.utrust.key_gate#role) fails in this case.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._ejbca
  - keyops.utrust._proof
  - keyops.utrust._attributes
  - keyops.utrust._attributes.actiongroup_utrust
requirements:
  - cryptography on the machine that executes the module (ansible-core installs it on the controller)
attributes:
  check_mode:
    support: partial
    details:
      - Check mode only reads the HSM, and returns null for a result that needs a crypto token or a certificate.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - To activate the crypto token again is a change.
        With O(reactivate), the module does this at level V(token), or at level V(sign) if a signature fails.
      - A test certificate is not a change. RV(certificates) has its serial number.
options:
  hsm_keys:
    description:
      - Keys to test.
    type: list
    elements: dict
    required: true
    suboptions:
      label:
        description: Label of the key, as results show the label. With O(source_keys), also as the HSM stores the label.
        type: str
        required: true
      fingerprint:
        description: Key fingerprint, as the source node reports it. Required without O(source_keys).
        type: str
      slot:
        description: HSM slot of the key. Required without O(source_keys), and if the source has the label in several slots.
        type: int
      ca:
        description: Name of a CA in EJBCA whose current key is this key. Requires O(proof_certificates=true).
        type: str
      crypto_token:
        description: Name of the crypto token of the key in EJBCA. The default is O(crypto_token). Required for O(ejbca_view=true).
        type: str
      sign_test:
        description:
          - Whether EJBCA of the node may sign with the key for a test, through its health check. See O(keyops.utrust.ejbca_key_info#module:test_keys).
          - The test proves level V(sign) only if the EJBCA view of the node shows the key of the source.
          - The test of the same key must have passed on the source before. Otherwise the module does not make the test.
        type: bool
        default: false
      public_trust:
        description: Whether the key is of a publicly trusted CA. The module then rejects O(hsm_keys[].ca) and O(hsm_keys[].sign_test).
        type: bool
        default: false
      qualified:
        description: Whether the key is for qualified certificates. The module then rejects O(hsm_keys[].ca) and O(hsm_keys[].sign_test).
        type: bool
        default: false
      root:
        description: Whether the key is of a root CA. The module then rejects O(hsm_keys[].sign_test).
        type: bool
        default: false
      offline:
        description: Whether the key is of an offline CA. The module then rejects O(hsm_keys[].sign_test).
        type: bool
        default: false
      needs_authorization:
        description: Whether the HSM authorizes each use of the key. The module then rejects O(hsm_keys[].sign_test).
        type: bool
        default: false
      sole_control:
        description: Whether the key is under the sole control of a person. The module then rejects O(hsm_keys[].sign_test).
        type: bool
        default: false
  source_keys:
    description:
      - Keys of the source node, as RV(keyops.utrust.utrust_cluster_info#module:hsm_keys).
      - With this option, the module finds each key of O(hsm_keys) among these keys, and fails if not exactly one key matches.
    type: list
    elements: dict
  key_arrivals:
    description:
      - Times when keys arrived on this node, by key fingerprint, as far as known.
      - A manual confirmation that is not later than the arrival of its key does not count.
    type: dict
    default: {}
  level:
    description:
      - Level to prove.
    type: str
    choices: [hsm, token, sign]
    default: sign
  ejbca_reader:
    description:
      - Connection to EJBCA on this node with the account of a reader. Required if O(ejbca_view=true).
      - The suboptions are those of O(ejbca).
    type: dict
    suboptions:
      host:
        description: Address of EJBCA on this node, and not of a load balancer.
        type: str
        required: true
      port:
        description: Port of EJBCA.
        type: int
        default: 443
      client_cert:
        description: PEM file with the client certificate of the reader.
        type: path
        required: true
      client_key:
        description: PEM file with the private key. Omit this option if O(ejbca_reader.client_cert) contains the key.
        type: path
      ca_file:
        description: PEM file with the CA certificates that the certificate of EJBCA must verify with.
        type: path
      tls_fingerprint:
        description: SHA-256 certificate fingerprints of EJBCA, with which the certificate is compared instead of a CA.
        type: list
        elements: str
  source_ejbca:
    description:
      - Member RV(ejbca) of the result of this module for the source.
      - Without this option, the module treats this node as the source.
    type: dict
  out_of_traffic:
    description:
      - Whether people have removed the traffic of this node.
      - Before version 9 of EJBCA, required for a test signature.
      - Required for O(reactivate=true), because the CAs of the crypto token cannot sign during the reactivation.
    type: bool
    default: false
seealso:
  - module: keyops.utrust.ejbca_ca_info
  - module: keyops.utrust.ejbca_key
"""

EXAMPLES = r"""
---
- name: Prove that this node signs with the new key
  keyops.utrust.utrust_key_proof:
    ejbca: "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options('operator') }}"
    hsm_keys:
      - fingerprint: "{{ generated.hsm_key.fingerprint }}"
        label: "{{ generated.hsm_key.label }}"
        slot: "{{ generated.hsm_key.slot }}"
        ca: Gate signKey-2027
    proof_certificates: true
    crypto_token: SigningToken
  module_defaults:
    group/keyops.utrust.utrust: "{{ hostvars[inventory_hostname] | keyops.utrust.connection_options }}"
  register: proof

- name: Prove the key on the source by its EJBCA view
  keyops.utrust.utrust_key_proof:
    ejbca_reader: "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options('reader') }}"
    ejbca_view: true
    hsm_keys:
      - fingerprint: "{{ generated.hsm_key.fingerprint }}"
        label: "{{ generated.hsm_key.label }}"
        slot: "{{ generated.hsm_key.slot }}"
        crypto_token: SigningToken
        sign_test: true
  register: proof_of_source

- name: Check that the new key passed
  ansible.builtin.assert:
    that: proof.passed
    fail_msg: "{{ proof.proof | map(attribute='detail') | join(', ') }}"
"""

RETURN = r"""
passed:
  description: Whether every key reached the level. Null if unknown in check mode.
  returned: success
  type: bool
proof:
  description: Results, one for each key.
  returned: success
  type: list
  elements: dict
  contains:
    fingerprint:
      description: Key fingerprint.
      type: str
      returned: success
    label:
      description: Label of the key.
      type: str
      returned: success
    slot:
      description: HSM slot of the key.
      type: int
      returned: success
    reached:
      description: Highest level that is proven or confirmed. One of V(none), V(hsm), V(token), V(sign).
      type: str
      returned: success
    passed:
      description: Whether the key reached O(level). Null if unknown in check mode.
      type: bool
      returned: success
    detail:
      description: Description of the proof, or reason of the failure.
      type: str
      returned: success
    method:
      description: Method that decided. One of V(hsm), V(view), V(signature_test), V(certificate), V(confirmation).
      type: str
      returned: success
    view:
      description:
        - State of the key in the EJBCA view, or null if the view was not used.
        - One of V(present), V(absent), V(stale), V(moved), V(mismatched), V(inactive), V(unknown).
      type: str
      returned: success
  sample:
    - fingerprint: "sha256:a1..."
      label: signKey-2027
      slot: 0
      reached: sign
      passed: true
      detail: certificate 5C61AE90 of CA Gate signKey-2027 verifies with this key
      method: certificate
      view: null
reactivated:
  description: Whether EJBCA activated the crypto token again.
  returned: success
  type: bool
certificates:
  description: Issued test certificates, each with C(ca), C(serial_number) and C(username) of the end entity.
  returned: success
  type: list
  elements: dict
ejbca:
  description: EJBCA view of this node, or null if the view was not used.
  returned: success
  type: dict
  contains:
    view:
      description: View as RV(keyops.utrust.ejbca_key_info#module:view), or null.
      type: dict
      returned: success
    identity:
      description: Address, port, certificate fingerprint and host name of EJBCA, or null.
      type: dict
      returned: success
    signature_tests:
      description: The value of RV(signature_tests).
      type: list
      elements: dict
      returned: success
    problem:
      description: Reason why the view is unknown, or null.
      type: str
      returned: success
    codes:
      description: C(token_activation_failing), if each further view would try the PIN of a crypto token again.
      type: list
      elements: str
      returned: success
signature_tests:
  description: Test signatures of this task, each with C(crypto_token), C(alias), C(fingerprint), C(result) and C(reason).
  returned: success
  type: list
  elements: dict
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
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
