#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_ksp_import
short_description: Import a Key Synchronization Package into a target node
version_added: 1.0.0
description:
  - Brings the HSM of a node to the keys of a Key Synchronization Package, and verifies the result key by key against the package's manifest.
  - Checks everything first and names every problem at once. Keys are compared by fingerprint and in both directions. Nothing is ever deleted, and nothing is
    overwritten that the operator has not named.
  - The package is staged, the node's own table is compared with what the manifest predicts, and only then it is applied, all of it or nothing, and only onto
    the inventory that was read. Where a node cannot stage, the upload is the commit, and everything but its table is checked before. Where a node writes keys
    one by one, a failure says which of them are there, and running again continues.
  - A node says how its imports behave, as far as it can tell. What it does not know is never guessed; an import whose outcome hangs on it is refused.
  - After a lost answer the node is read, and the result says what is true.
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
      - Compares inventories and never stages.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  src:
    description:
      - Path of the package on the machine that executes the module; its manifest must be beside it.
      - Exactly one of O(src) and O(manifest) is needed, and O(expect_node) with O(src).
    type: path
  manifest:
    description:
      - A manifest as RV(keyops.utrust.utrust_ksp_export#module:manifest) returned it, for a prediction in check mode without a package.
    type: dict
  expect_keys_digest:
    description:
      - Digest of the inventory that the source has now. A package of another inventory is stale and refused.
      - Staleness is judged by this digest, never by a clock.
    type: str
  extra_keys:
    description:
      - What to do when the node holds a key that the package does not have. Such a key exists once, and is at risk.
      - V(fail) stops before anything is changed, except for keys named in O(allowed_extra_keys).
      - V(keep) goes on; extra keys stay where they are. It is refused where an import would remove them, or where nobody knows; see
        O(import_effect).
    type: str
    choices: [fail, keep]
    default: fail
  allowed_extra_keys:
    description:
      - Fingerprints of keys that only this node has, on purpose.
    type: list
    elements: str
    default: []
  destroyed_keys:
    description:
      - Fingerprints of keys that were destroyed on purpose. A package that would bring one of them back is refused.
    type: list
    elements: str
    default: []
  expected_new_keys:
    description:
      - Fingerprints of the keys that may be added or put in the place of others. If set, any other is refused. If not set, any key may be added.
    type: list
    elements: str
  allow_replace:
    description:
      - Keys of the package that may overwrite another key under the same slot and label.
    type: list
    elements: dict
    default: []
    suboptions:
      fingerprint:
        description: Fingerprint of the key as the source has it.
        type: str
        required: true
      reason:
        description: Why, for those who read the playbook later.
        type: str
        required: true
  import_effect:
    description:
      - What an import does on a node that cannot tell by itself, declared by you after you have tried it on a node that takes no requests. It is needed only if
        keys are to stay (O(extra_keys), O(allowed_extra_keys)) or to be replaced (O(allow_replace)); else every effect comes to the same.
      - V(additive) adds keys and leaves alone all that is there; V(overwriting) puts a key in the place of another one under its slot and label, too. Both also
        declare that keys which were destroyed on the source stay.
      - V(replacing) leaves no key but those of the package.
      - Refused if the node says otherwise.
    type: str
    choices: [additive, overwriting, replacing]
  wait_timeout:
    description:
      - Seconds to wait for the node to answer again after the import, because it may restart.
      - Also how long people have in all, where an import asks for MBK cards at the PIN pad.
    type: float
    default: 600.0
seealso:
  - module: keyops.utrust.utrust_ksp_export
  - module: keyops.utrust.utrust_hsm_info
"""

EXAMPLES = r"""
- name: Import the package that was exported from node1
  keyops.utrust.utrust_ksp_import:
    host: node2.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node2_fingerprints }}"
    expect_node: node2
    src: "{{ export.package.path }}"
    expect_keys_digest: "{{ export.manifest.keys_digest }}"

- name: Tell what an import would do, without a package
  keyops.utrust.utrust_ksp_import:
    host: node2.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node2_fingerprints }}"
    expect_node: node2
    manifest: "{{ export.manifest }}"
  check_mode: true
"""

RETURN = r"""
node:
  description: Name of the node.
  returned: success
  type: str
  sample: node2
hsm_serial:
  description: Serial number of its HSM.
  returned: success
  type: str
added:
  description: Keys that were added, or would be.
  returned: success
  type: list
  elements: dict
replaced:
  description: Keys that were replaced, or would be, each with C(source_key) and C(target_key).
  returned: success
  type: list
  elements: dict
extra:
  description: Keys that only this node has; they stayed.
  returned: success
  type: list
  elements: dict
pending:
  description: Number of keys that are still to be added or replaced; more than 0 in check mode only.
  returned: success
  type: int
target:
  description: The node as RV(keyops.utrust.utrust_hsm_info#module:node) has it, read before the import.
  returned: success
  type: dict
unchanged:
  description: Number of keys that the node held already.
  returned: success
  type: int
weak:
  description: How many of RV(unchanged) are secret keys, which can be compared by a three-byte check value only.
  returned: success
  type: int
keys_digest_before:
  description: Digest of the inventory before.
  returned: success
  type: str
keys_digest:
  description: Digest of the inventory afterwards, or as predicted.
  returned: success
  type: str
in_sync:
  description: Whether the node holds the source's inventory exactly; in check mode, whether it does so already. With extra keys it does not.
  returned: success
  type: bool
unusable_key_count:
  description: Number of keys that are in the HSM but cannot be used. Not predicted in check mode.
  returned: when known
  type: int
verified:
  description: Whether the inventory was read and found as it should be; false for a prediction.
  returned: success
  type: bool
lost:
  description: With RV(code=import_not_verified), keys that were in the HSM before the import and are not any more.
  returned: if an import was not verified
  type: list
  elements: dict
difference:
  description: With RV(code=import_not_verified) and RV(code=import_incomplete), what the node lacks, has beyond the package, or holds otherwise.
  returned: if keys have changed and the import failed
  type: dict
executed_on:
  description: Host name of the machine that ran the operation.
  returned: always
  type: str
code:
  description: Stable code of the failure, or of the first of RV(problems).
  returned: failure
  type: str
  sample: mbk_mismatch
problems:
  description: Every problem that was found before anything was changed, each with C(code), C(node), C(text) and C(remedy).
  returned: if there were problems
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
