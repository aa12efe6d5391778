#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_key_report
short_description: Write a report about keys and nodes of a cluster
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Reads the cluster as M(keyops.utrust.utrust_cluster_info) does, and writes one self-contained HTML page and the same content as JSON.
  - The report shows the keys of each node, the differences from the source, CAs that would fail on a node, and earlier synchronizations and restores.
  - The report has the name of every key, but no secrets. No node is changed.
  - The files are on the controller, also if C(delegate_to) names another machine. Relative paths are relative to the working directory of Ansible.
  - The paths are checked before a node is read. Check mode writes nothing.
  - The action plugin runs on the controller only.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._cluster
  - keyops.utrust._cluster.view
attributes:
  check_mode:
    support: full
    details:
      - Check mode reads the cluster and writes no file.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Each run replaces both files, because the report has the time when it was written. No node is changed.
options:
  page:
    description: Path of the HTML file. Its directory must exist.
    type: path
    default: key_report.html
  data:
    description: Path of the JSON file. The default is O(page) with the extension C(json). The directory must exist.
    type: path
  mode:
    description: Mode of both files, as a text of four octal digits.
    type: str
    default: "0640"
  cas:
    description:
      - CAs with the key that each CA uses. Identify the key by C(public_key_sha256), or by C(label) and, if several slots have the label, C(slot).
      - RV(keyops.utrust.ejbca_ca_info#module:authorities) has this form.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the CA.
        type: str
        required: true
      public_key_sha256:
        description: SHA-256 of the public key.
        type: str
      label:
        description: Label of the key.
        type: str
      slot:
        description: Slot of the key.
        type: int
      subject_dn:
        description: Subject DN of the CA.
        type: str
      not_after:
        description: Expiry time of the CA certificate.
        type: str
      is_root:
        description: Whether the CA is a root CA. The report does not use it.
        type: bool
      problem:
        description: Reason why the certificate of the CA could not be read. The report does not use it.
        type: str
  audit_file:
    description: Audit file of P(keyops.utrust.audit#callback), for earlier synchronizations and restores. If not set, the report omits this part.
    type: path
seealso:
  - module: keyops.utrust.utrust_cluster_info
  - plugin: keyops.utrust.key_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write a report
  keyops.utrust.utrust_key_report:
    source: node1
    page: /srv/reports/keys.html
    mode: "0644"
  run_once: true
"""

RETURN = r"""
verdict:
  description:
    - V(in_sync) if every joined member holds exactly the keys of the source and can use them.
    - V(drift) if a node differs, and V(incomplete) if no node differs but some nodes were not read.
    - With O(ejbca_view), the EJBCA views of all nodes must also be in sync.
  returned: success
  type: str
  sample: drift
page:
  description: Absolute path of the HTML file.
  returned: success
  type: str
  sample: /srv/reports/keys.html
data:
  description: Absolute path of the JSON file.
  returned: success
  type: str
  sample: /srv/reports/keys.json
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: report_not_written
"""
