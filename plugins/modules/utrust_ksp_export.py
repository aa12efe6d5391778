#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_ksp_export
short_description: Export a Key Synchronization Package from the source node
version_added: 1.0.0
description:
  - Downloads a Key Synchronization Package (KSP) from the node with the latest key material, and writes beside it a manifest that says what is in it.
  - The package is a copy of every key in the HSM, encrypted under the MBK. It is written with mode 0600 under a temporary name, synced and renamed, never
    returned and never logged. The manifest (the package's name with C(.manifest.json)) holds no secret.
  - Every run first removes the private directories that killed runs have left on this machine.
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
      - Returns the manifest that a run would write, without digest and size of the package, for M(keyops.utrust.utrust_ksp_import) to predict with.
  diff_mode:
    support: none
    details:
      - The package is secret, and nothing else changes.
  idempotent:
    support: partial
    details:
      - With O(dest), a package that fits its manifest and the node's inventory is kept. Without O(dest) every run makes a new package.
options:
  state:
    description:
      - V(present) exports a package.
      - V(absent) removes the package at O(dest), its manifest, and the private directory in which it is. The connection options are not used then.
    type: str
    choices: [present, absent]
    default: present
  dest:
    description:
      - Path of the package on the machine that executes the module. Its directory must exist, and nobody else may look into it (mode 0700).
      - If not set, a private directory is made for this run, in memory where the machine has C(XDG_RUNTIME_DIR) or C(/dev/shm). It belongs to this run;
        remove it with O(state=absent) in C(always). When a run is killed, the next one removes it.
    type: path
  force:
    description:
      - Export even if the package at O(dest) fits.
    type: bool
    default: false
  ttl:
    description:
      - Seconds that a private directory outlives its run where the run's process cannot be watched, because the module runs on another machine.
    type: int
    default: 14400
  expect_keys_digest:
    description:
      - Digest of the inventory that the node is expected to have. If its keys have changed since that was read, nothing is exported.
    type: str
seealso:
  - module: keyops.utrust.utrust_ksp_import
  - module: keyops.utrust.utrust_hsm_info
"""

EXAMPLES = r"""
- name: Synchronize one node by hand, without the role key_sync
  module_defaults:
    group/keyops.utrust.utrust:
      client_cert: /etc/ansible/pki/operator.pem
      client_key: /etc/ansible/pki/operator.key
      ca_file: /etc/ansible/pki/appliance-ca.pem
  block:
    - name: Export from node1
      keyops.utrust.utrust_ksp_export:
        host: node1.example.com
        expect_node: node1
      register: export

    - name: Import into node2
      keyops.utrust.utrust_ksp_import:
        host: node2.example.com
        expect_node: node2
        src: "{{ export.package.path }}"
  always:
    - name: Remove the package
      keyops.utrust.utrust_ksp_export:
        host: node1.example.com
        state: absent
        dest: "{{ export.package.path }}"
      when: export.package is defined
"""

RETURN = r"""
package:
  description: Public facts of the package; never its content.
  returned: if O(state=present)
  type: dict
  contains:
    path:
      description: Where the package is. Nothing in check mode without O(dest).
      type: str
      returned: success
    sha256:
      description: Digest of the package. Nothing in check mode.
      type: str
      returned: success
    size:
      description: Bytes. Nothing in check mode.
      type: int
      returned: success
    source:
      description: Name of the node that made it.
      type: str
      returned: success
    mbk:
      description: Public facts of the MBK that protects it.
      type: dict
      returned: success
    key_count:
      description: Number of keys in it.
      type: int
      returned: success
    keys_digest:
      description: Digest of the inventory in it.
      type: str
      returned: success
manifest:
  description:
    - The manifest, without secrets. In check mode the one that a run would write, for O(keyops.utrust.utrust_ksp_import#module:manifest).
  returned: if O(state=present)
  type: dict
node:
  description: The source node as RV(keyops.utrust.utrust_hsm_info#module:node) has it, read before the export.
  returned: if O(state=present)
  type: dict
removed:
  description: Public facts of the package that was removed, or would be, as RV(package) has them; nothing if there was none that fitted its manifest.
  returned: if O(state=absent)
  type: dict
removed_stale:
  description: Private directories of killed runs that were removed, or would be.
  returned: success
  type: list
  elements: str
executed_on:
  description: Host name of the machine on which the package is.
  returned: always
  type: str
code:
  description: Stable code of the failure, or of the first of RV(problems).
  returned: failure
  type: str
  sample: node_name_mismatch
problems:
  description: Every problem that was found before anything was changed, each with C(code), C(node), C(text) and C(remedy).
  returned: if there were problems
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_export import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
