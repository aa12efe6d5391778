#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_ksp_export
short_description: Export a Key Synchronization Package
version_added: 1.0.0
description:
  - Downloads a Key Synchronization Package (KSP) from the node with the latest keys, and writes a manifest beside the package.
  - The package contains all keys of the HSM, encrypted under the Master Backup Key (MBK).
    The module writes the package with mode 0600, and never returns or logs its content.
  - The name of the manifest is the name of the package with C(.manifest.json) appended. The manifest contains no secret.
  - Every task of this collection first deletes the packages that killed runs of the same user have left on its machine, also in check mode.
author:
  - The keyops.utrust authors (@keyops)
extends_documentation_fragment:
  - keyops.utrust._connection
  - keyops.utrust._audit
  - keyops.utrust._people
  - keyops.utrust._attributes
  - keyops.utrust._attributes.actiongroup_utrust
attributes:
  check_mode:
    support: full
    details:
      - Check mode returns the manifest that a run would write, without digest and size of the package.
        M(keyops.utrust.utrust_ksp_import) predicts an import from this manifest.
  diff_mode:
    support: none
    details:
      - The content of a package is secret.
  idempotent:
    support: partial
    details:
      - With O(dest), the module keeps a package that has the current keys. Without O(dest), every run writes a new package.
options:
  state:
    description:
      - V(present) exports a package. It requires O(expect_node).
      - V(absent) deletes the package at O(dest), its manifest and its private directory. The module then does not connect to the node.
    type: str
    choices: [present, absent]
    default: present
  dest:
    description:
      - Path of the package on the machine that executes the module.
      - The directory must exist and must be private (mode 0700).
      - If not set, the module creates a private directory for this run.
        The directory is in C(XDG_RUNTIME_DIR), C(/run/user), C(/dev/shm) or a directory for temporary files, the first one that exists.
      - Delete the private directory with O(state=absent) in an C(always) section.
        At the end of the run, also of a killed run, a guard process on the controller deletes the directory.
    type: path
  force:
    description:
      - Whether to export even if the package at O(dest) has the current keys.
    type: bool
    default: false
  ttl:
    description:
      - Seconds until a private directory expires if the module runs on another machine than the controller.
    type: int
    default: 14400
  expect_keys_digest:
    description:
      - Expected keys digest of the node. The module fails before any change if the keys have another digest.
    type: str
  wait_timeout:
    description: Seconds to wait until the node has prepared the package. Some appliances need minutes.
    type: float
    default: 1800.0
seealso:
  - module: keyops.utrust.utrust_hsm_info
  - module: keyops.utrust.utrust_ksp_import
"""

EXAMPLES = r"""
---
- name: Synchronize node2 without the role key_sync
  module_defaults:
    group/keyops.utrust.utrust:
      client_cert: /etc/ansible/pki/operator.pem
      client_key: /etc/ansible/pki/operator.key
      ca_file: /etc/ansible/pki/appliance-ca.pem
  block:
    - name: Export a package from node1
      keyops.utrust.utrust_ksp_export:
        host: node1.example.com
        expect_node: node1
      register: export

    - name: Import the package into node2
      keyops.utrust.utrust_ksp_import:
        host: node2.example.com
        expect_node: node2
        src: "{{ export.package.path }}"
        manifest_sha256: "{{ export.manifest_sha256 }}"
  always:
    - name: Delete the package
      keyops.utrust.utrust_ksp_export:
        host: node1.example.com
        state: absent
        dest: "{{ export.package.path }}"
      when: export.package is defined
"""

RETURN = r"""
package:
  description: Public facts of the package.
  returned: if O(state=present)
  type: dict
  contains:
    path:
      description: Path of the package. Null in check mode without O(dest).
      type: str
      returned: success
    sha256:
      description: Digest of the package. Null if check mode would export a new package.
      type: str
      returned: success
    size:
      description: Size of the package in bytes. Null if check mode would export a new package.
      type: int
      returned: success
    source:
      description: Name of the node that exported the package.
      type: str
      returned: success
    mbk:
      description: Public facts of the MBK that encrypts the package.
      type: dict
      returned: success
    key_count:
      description: Number of keys in the package.
      type: int
      returned: success
    keys_digest:
      description: Digest of the keys in the package.
      type: str
      returned: success
    elsewhere:
      description: Whether people have the package, so that only its manifest is at C(path).
      type: bool
      returned: success
  sample:
    path: /run/user/1000/keyops-utrust-ksp-pid-4711-0123456789ab-x1/cluster.ksp
    sha256: "sha256:9c..."
    size: 14336
    source: node1
    mbk: {name: KEYOPS, check_value: 5c1de3b2a4f60718, m: 2, n: 3}
    key_count: 10
    keys_digest: "sha256:1f..."
manifest:
  description:
    - Content of the manifest, without secrets.
    - In check mode, the manifest that a run would write, for O(keyops.utrust.utrust_ksp_import#module:manifest).
  returned: if O(state=present)
  type: dict
manifest_sha256:
  description:
    - Digest of the manifest as a file. Null if check mode would export a new package.
    - M(keyops.utrust.utrust_ksp_import) requires this digest, and refuses an edited manifest. The manifest has the digest of the package.
  returned: if O(state=present)
  type: str
  sample: "sha256:7a..."
node:
  description: Source node before the export, as RV(keyops.utrust.utrust_hsm_info#module:node) has it.
  returned: if O(state=present)
  type: dict
removed:
  description: Public facts of the deleted package, as RV(package) has them. Null if no package with a matching manifest existed.
  returned: if O(state=absent)
  type: dict
removed_stale:
  description: Paths of the packages and incomplete files of killed runs that this task has deleted. Every module of this collection can return them.
  returned: if killed runs had left a package
  type: list
  elements: str
executed_on:
  description: Host name of the machine that executed the operation.
  returned: always
  type: str
  sample: awx-task-1
code:
  description: Code of the failure, or of the first of RV(problems).
  returned: failure
  type: str
  sample: node_name_mismatch
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
    - node: node1
      step: package_downloaded
      confirmed_by: Alice
      origin: terminal
      sha256: "sha256:5f..."
      size: "48211"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_export import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
