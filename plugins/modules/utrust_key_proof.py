#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_key_proof
short_description: Prove how far a node can use keys
version_added: 1.0.0
description:
  - Tells for each key whether it is in the node's HSM (level V(hsm)), whether the node's crypto token sees it (level V(token)), and whether this node has
    signed with it (level V(sign)). Only the last one says that a CA that uses the key works on this node.
  - EJBCA's Java PKCS#11 token reads which keys there are once, when it is activated. A key that arrived later does not exist for it.
  - EJBCA's REST interface neither lists nor tests keys. Level V(token) is therefore proven by activating the crypto token again after the key was in the HSM
    (O(reactivate)), and level V(sign) by a certificate that this node issues for a throw-away key, from a CA whose current key is this one
    (O(hsm_keys[].ca)). Its signature is verified under the fingerprint that is asked for.
  - For a key that no CA uses yet, make a CA for the proof in EJBCA on the node that made the key. Exclude it from the health check, and let it have an end
    entity profile of its own. Where that is not wanted, a person tests the key in the Admin Web of each node (button C(Test)), and is named in O(manual_confirmations).
  - A key that does not reach the level is a result (RV(passed)), not a failure. The role P(keyops.utrust.key_gate#role) makes one of it.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._ejbca
  - keyops.utrust._attributes
  - keyops.utrust._attributes.actiongroup_utrust
attributes:
  check_mode:
    support: partial
    details:
      - Check mode reads the HSM only. What shows only by activating a token or issuing a certificate is unknown there.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Activating a crypto token again is a change each time, and happens with O(reactivate) at level V(token), or at level V(sign) where
        the signature fails before.
      - A throw-away certificate is not reported as a change. Its serial number is in RV(certificates).
options:
  hsm_keys:
    description: The keys.
    type: list
    elements: dict
    required: true
    suboptions:
      fingerprint:
        description: Fingerprint of the key, from the inventory of the source node.
        type: str
        required: true
      label:
        description: Its label.
        type: str
        required: true
      slot:
        description: Its slot.
        type: int
        required: true
      ca:
        description: Name of a CA in EJBCA whose current key is this one.
        type: str
  level:
    description: The level to prove.
    type: str
    choices: [hsm, token, sign]
    default: sign
  crypto_token:
    description: Name of the crypto token in EJBCA. Needed for O(reactivate).
    type: str
  reactivate:
    description:
      - Allow to activate the crypto token again, by deactivating it. Only for a crypto token with auto-activation, because its activation code
        never passes through Ansible. One without stays offline, which is a failure that says so.
      - The CAs of the token are offline on this node for that moment.
    type: bool
    default: false
  certificate_profile:
    description: Certificate profile of the throw-away certificate.
    type: str
    default: ENDUSER
  end_entity_profile:
    description: End entity profile of the throw-away certificate.
    type: str
    default: EMPTY
  manual_confirmations:
    description: Statements of people that stand for a proof beyond level V(hsm), for this node only. The HSM's inventory is compared nevertheless.
    type: list
    elements: dict
    default: []
    suboptions:
      key:
        description: Fingerprint of the key.
        type: str
        required: true
      confirmed_by:
        description: Name of the person.
        type: str
        required: true
      reason:
        description: What was done, for example that the key was tested in the Admin Web of this node.
        type: str
        required: true
  wait_timeout:
    description: Seconds to try again until all keys reach the level, for example while people activate crypto tokens.
    type: float
    default: 0.0
seealso:
  - module: keyops.utrust.ejbca_key
  - module: keyops.utrust.ejbca_ca_info
"""

EXAMPLES = r"""
- name: Prove that this node signs with the new key
  keyops.utrust.utrust_key_proof:
    ejbca: "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options }}"
    hsm_keys:
      - fingerprint: "{{ generated.hsm_key.fingerprint }}"
        label: "{{ generated.hsm_key.label }}"
        slot: "{{ generated.hsm_key.slot }}"
        ca: Gate signKey-2027
    crypto_token: SigningToken
    reactivate: true
  module_defaults:
    group/keyops.utrust.utrust: "{{ hostvars[inventory_hostname] | keyops.utrust.connection_options }}"
  register: proof
"""

RETURN = r"""
passed:
  description: Whether every key reaches the level. Nothing where check mode cannot know.
  returned: success
  type: bool
proof:
  description: One row for each key.
  returned: success
  type: list
  elements: dict
  contains:
    fingerprint:
      description: Fingerprint of the key that was asked for.
      type: str
      returned: success
    label:
      description: Its label.
      type: str
      returned: success
    slot:
      description: Its slot.
      type: int
      returned: success
    reached:
      description: The highest level that is proven or confirmed, one of V(none), V(hsm), V(token), V(sign).
      type: str
      returned: success
    passed:
      description: Whether that is the level that was asked for. Nothing where check mode cannot know.
      type: bool
      returned: success
    detail:
      description: What proves it, or what is in the way.
      type: str
      returned: success
reactivated:
  description: Whether the crypto token was activated again.
  returned: success
  type: bool
certificates:
  description: Throw-away certificates that were issued, with C(ca), C(serial_number) and the C(username) of the end entity.
  returned: success
  type: list
  elements: dict
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
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
