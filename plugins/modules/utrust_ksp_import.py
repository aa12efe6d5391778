#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_ksp_import
short_description: Import a Key Synchronization Package into a node
version_added: 1.0.0
description:
  - Imports the keys of a Key Synchronization Package (KSP) into the HSM of a node, and verifies the result key by key.
  - The module checks the node, the package and the keys first, and reports all problems before any change.
  - The module compares keys by their key fingerprint and in both directions.
    It never deletes a key, and it overwrites only the keys in O(allow_replace).
  - If the node can stage an import, the module stages the package and compares the preview of the node with its own prediction.
    Then it applies the package. The node applies all keys or no key, and only if its keys did not change.
  - If the node cannot stage an import, the upload is the commit.
  - If a node imports key by key and fails, the error lists the imported keys. Run the task again to continue.
  - Nodes report how they import packages. If the result depends on something the node does not report, the module refuses the import.
  - After a lost response or a time-out of the task, the module reads the node and reports the actual result.
  - After the import, every key of the node must have been there before, or must be in the manifest. The module names all other keys and fails.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._policy
  - keyops.utrust._audit
  - keyops.utrust._people
  - keyops.utrust._connection
  - keyops.utrust._attributes
  - keyops.utrust._attributes.actiongroup_utrust
attributes:
  check_mode:
    support: full
    details:
      - Check mode compares the keys of the node with the manifest. It uploads nothing.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  src:
    description:
      - Path of the package on the machine that executes the module. The manifest must be beside the package.
      - Exactly one of O(src) and O(manifest) is required. O(src) requires O(expect_node) and O(manifest_sha256).
    type: path
  manifest_sha256:
    description:
      - Digest of the manifest, as RV(keyops.utrust.utrust_ksp_export#module:manifest_sha256) returned it.
      - The module fails before any change if the manifest beside O(src) has another digest, because it was edited or is of another export.
      - Transport the digest together with the package if export and import are different jobs.
    type: str
  manifest:
    description:
      - Manifest as RV(keyops.utrust.utrust_ksp_export#module:manifest) returned it, to predict an import in check mode without a package.
    type: dict
  expect_keys_digest:
    description:
      - Current keys digest of the source. The module fails before any change if the package has another digest.
    type: str
  known_difference:
    description:
      - Difference of this node from the source, as RV(keyops.utrust.utrust_sync_plan#module:targets) returned it.
      - If the keys digest of the node proves this difference, the module does not read the keys of the node again.
    type: dict
  allow_outage:
    description:
      - Whether to import even if the cluster loses its quorum while the node restarts, for example in a cluster of two nodes.
      - The module checks the members that the node itself lists, right before the import.
        It checks them only if imports of the node restart the node, or if the node does not report what restarts.
    type: bool
    default: false
  ejbca_view_timeout:
    description:
      - With transport V(assisted), seconds until the EJBCA view of the node must show the keys after people confirmed the step.
    type: float
    default: 150.0
seealso:
  - module: keyops.utrust.utrust_hsm_info
  - module: keyops.utrust.utrust_hsm_restore
  - module: keyops.utrust.utrust_ksp_export
"""

EXAMPLES = r"""
---
- name: Import the package that was exported from node1
  keyops.utrust.utrust_ksp_import:
    host: node2.example.com
    client_cert: /etc/ansible/pki/operator.pem
    client_key: /etc/ansible/pki/operator.key
    tls_fingerprint: "{{ node2_fingerprints }}"
    expect_node: node2
    src: "{{ export.package.path }}"
    manifest_sha256: "{{ export.manifest_sha256 }}"
    expect_keys_digest: "{{ export.manifest.keys_digest }}"

- name: Predict an import without a package
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
  description: Serial number of the HSM.
  returned: success
  type: str
  sample: UT000002
added:
  description: Added keys. In check mode, the keys that a run would add.
  returned: success, or if an import failed after some keys
  type: list
  elements: dict
destroyed:
  description:
    - Keys that the import has overwritten or removed, each with C(node), C(replaced_by), C(reason) and C(by), the account that started the run.
    - The audit trail has an event C(key_destroyed) for each of them.
  returned: if the import destroyed a key, not in check mode
  type: list
  elements: dict
replaced:
  description: Replaced keys, each with C(source_key) and C(target_key). In check mode, the keys that a run would replace.
  returned: success
  type: list
  elements: dict
extra:
  description: Keys that only this node holds. The import keeps these keys.
  returned: success
  type: list
  elements: dict
pending:
  description: Number of keys that are not imported yet. 0 after a successful run.
  returned: success, or if an import failed after some keys
  type: int
target:
  description: Target node before the import, as RV(keyops.utrust.utrust_hsm_info#module:node) has it.
  returned: success
  type: dict
unchanged:
  description: Number of keys that the node already had.
  returned: success
  type: int
check_value_only:
  description:
    - Number of keys in RV(unchanged) that are secret keys.
    - Secret keys can only be compared by their three-byte check value (KCV). Two different keys can have the same check value.
  returned: success
  type: int
keys_digest_before:
  description: Digest of the keys before the import.
  returned: success
  type: str
keys_digest:
  description: Digest of the keys after the import. In check mode, the predicted digest.
  returned: success
  type: str
in_sync:
  description:
    - Whether the node holds exactly the keys of the source.
    - In check mode, whether the node already holds exactly the keys of the source.
  returned: success
  type: bool
unusable_key_count:
  description: Number of keys in the HSM that cannot be used.
  returned: success, except if check mode predicts a change
  type: int
verified:
  description: Whether the module read the keys after the import and found no difference from the prediction. V(false) if check mode predicts a change.
  returned: success
  type: bool
unexpected:
  description: Keys that were not in the HSM before the import and are not in the manifest.
  returned: if RV(code=unexpected_keys)
  type: list
  elements: dict
lost:
  description: Keys that were in the HSM before the import and are missing after the import.
  returned: if RV(code=import_not_verified) or RV(code=unexpected_keys)
  type: list
  elements: dict
difference:
  description: Difference between the package and the node, with C(missing), C(extra), C(mismatched) and C(unusable) keys.
  returned: if RV(code=import_not_verified), RV(code=unexpected_keys) or RV(code=import_incomplete)
  type: dict
executed_on:
  description: Host name of the machine that executed the operation.
  returned: always
  type: str
  sample: awx-task-1
code:
  description: Code of the failure, or of the first of RV(problems).
  returned: failure
  type: str
  sample: mbk_mismatch
problems:
  description: All problems that the module found before any change.
  returned: if a check failed
  type: list
  elements: dict
  contains:
    code:
      description: Code of the problem.
      type: str
      returned: always
    node:
      description: Name of the node with the problem.
      type: str
      returned: always
    text:
      description: Description of the problem.
      type: str
      returned: always
    remedy:
      description: Instruction to fix the problem.
      type: str
      returned: always
confirmations:
  description: Confirmations of people that the task used, each with the step, the node and the origin (V(option) or V(terminal)).
  returned: if people confirmed a step
  type: list
  elements: dict
  sample:
    - node: node2
      step: package_uploaded
      confirmed_by: Alice
      origin: terminal
      sha256: "sha256:5f..."
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
