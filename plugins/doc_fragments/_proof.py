# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of PROOF_SPEC, how keys are proven. Private to keyops.utrust."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  crypto_token:
    description:
      - Name of the crypto token in EJBCA.
      - Required if O(reactivate=true).
    type: str
  ejbca_view:
    description:
      - Whether to read the EJBCA view of each node from its Admin Web. See M(keyops.utrust.ejbca_key_info).
      - The view proves level V(token), if the crypto token shows alias and public key of the source.
      - The view and a test signature (O(hsm_keys[].sign_test)) prove level V(sign).
      - A view with another content than expected closes the gate. A manual confirmation does not change that.
    type: bool
    default: false
  ejbca_view_timeout:
    description:
      - Seconds to wait until the EJBCA view shows a key that is in the HSM.
      - A Java PKCS#11 crypto token shows a new key only after its reactivation, so the module does not wait for it.
    type: float
    default: 150.0
  reactivation_affects:
    description:
      - Everything that uses the slot of the crypto token, because a reactivation can interrupt it. Required if O(reactivate=true).
      - EJBCA shows no CAs and key bindings of a slot, so a person must find them. An empty list declares that nothing uses the slot.
    type: dict
    suboptions:
      crypto_tokens:
        description: Names of the other crypto tokens on the same slot. The module compares the names with the list of EJBCA.
        type: list
        elements: str
        required: true
      cas:
        description: Names of the CAs of these crypto tokens.
        type: list
        elements: str
        required: true
      key_bindings:
        description: Names of the OCSP and other key bindings of these crypto tokens.
        type: list
        elements: str
        required: true
  reactivate:
    description:
      - Whether to deactivate the crypto token so that EJBCA activates the crypto token again. Requires O(ejbca_view=true).
      - The module rejects a crypto token whose auto-activation the EJBCA view does not show, because it would stay offline.
      - The CAs of the crypto token are offline on this node during the deactivation. The node must be out of traffic.
      - EJBCA must be healthy before. The crypto token is reactivated at most once, and then the health of EJBCA is checked once.
        The task fails if EJBCA is not healthy before or after.
    type: bool
    default: false
  proof_certificates:
    description:
      - Whether test certificates may be issued with the CAs in O(hsm_keys).
      - Ask your auditors first, because a CA key signs a certificate.
    type: bool
    default: false
  certificate_profile:
    description:
      - Certificate profile of the test certificate.
    type: str
    default: ENDUSER
  end_entity_profile:
    description:
      - End entity profile of the test certificate.
    type: str
    default: EMPTY
  manual_confirmations:
    description:
      - Confirmations by people that replace a proof beyond level V(hsm). The module uses the confirmations of its own node.
      - The module still compares the keys of the HSM.
    type: list
    elements: dict
    default: []
    suboptions:
      node:
        description: Name of the node.
        type: str
        required: true
      key:
        description: Key fingerprint of the key. A label is not accepted, because another key can get the same label.
        type: str
        required: true
      time:
        description: Time of the test with its zone, for example V(2026-11-23T13:00:00Z). It must be later than the arrival of the key on this node.
        type: str
        required: true
      confirmed_by:
        description: Name of the person.
        type: str
        required: true
      reason:
        description: Reason, for example a test of the key in the Admin Web of this node.
        type: str
        required: true
  wait_timeout:
    description:
      - Seconds to repeat the tests until all keys reach the level, for example while people activate crypto tokens.
    type: float
    default: 0.0
"""
