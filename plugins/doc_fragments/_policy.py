# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of what an import may change. Private to keyops.utrust."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  extra_keys:
    description:
      - Action for a key that the node holds and the package does not contain. Such a key may have no other copy.
      - V(fail) fails before any change, except for keys in O(allowed_extra_keys).
      - V(keep) continues and keeps the key. The module still fails if an import would delete the key, or if the effect is unknown.
        See O(import_effect).
    type: str
    choices: [fail, keep]
    default: fail
  allowed_extra_keys:
    description:
      - Key fingerprints of keys that intentionally exist only on this node.
    type: list
    elements: str
    default: []
  destroyed_keys:
    description:
      - Key fingerprints of intentionally destroyed keys. The module fails before any change if the import would add such a key.
    type: list
    elements: str
    default: []
  expected_new_keys:
    description:
      - Key fingerprints of keys that the import may add, also as a replacement of another key.
        The module fails before any change if the import would add a different key.
      - If not set, the import may add any key.
    type: list
    elements: str
  allow_replace:
    description:
      - Keys of the package that may overwrite another key with the same slot and label.
    type: list
    elements: dict
    default: []
    suboptions:
      fingerprint:
        description: Key fingerprint on the source.
        type: str
        required: true
      reason:
        description: Reason, for people who read the playbook later.
        type: str
        required: true
  import_effect:
    description:
      - Effect of an import on a node that does not report its effect. Test the effect on a node that serves no requests first.
      - Required only if the import must keep extra keys (O(extra_keys), O(allowed_extra_keys)) or replace keys (O(allow_replace)).
        Otherwise the effect makes no difference.
      - V(additive) adds keys and keeps all existing keys.
      - V(overwriting) adds keys, and replaces a key that has the same slot and label.
      - V(replacing) deletes all keys that the package does not contain.
      - V(additive) and V(overwriting) also declare that the import does not delete keys that were deleted on the source.
      - The module fails before any change if the node reports another effect.
    type: str
    choices: [additive, overwriting, replacing]
  wait_timeout:
    description:
      - Seconds to wait for the node after the import, because the node may restart.
      - If an import requires MBK cards at the PIN pad, this is also the time limit for the card holders.
    type: float
    default: 600.0
"""
