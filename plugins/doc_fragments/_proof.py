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
  reactivate:
    description:
      - Whether to deactivate the crypto token so that EJBCA activates the crypto token again.
      - Set this to V(true) only for a crypto token with auto-activation. Any other crypto token stays offline until a person activates the crypto token.
      - The CAs of the crypto token are offline on this node during the deactivation.
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
