# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter key_report."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.history import read_history
from ansible_collections.keyops.utrust.plugins.plugin_utils._collection import collection_version
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.report import report

DOCUMENTATION = r"""
name: key_report
short_description: "[INTERNAL] Make the data of a key report"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Returns the differences between the nodes, the CAs that would fail, versions, MBK check values, and earlier synchronizations and restores.
  - The data contains no secret.
options:
  _input:
    description:
      - Results of M(keyops.utrust.utrust_hsm_info) by node, as for P(keyops.utrust.key_matrix#filter). Failed results are allowed.
    type: dict
    required: true
  source:
    description: Name of the node with the latest keys.
    type: str
    required: true
  time:
    description: Time of the report.
    type: str
    required: true
  cas:
    description: CAs with their keys, as in O(keyops.utrust.key_report#role:main:key_report_cas).
    type: list
    elements: dict
    default: []
  audit_file:
    description: Path of the file of P(keyops.utrust.audit#callback). Without this option, the report has no C(history).
    type: path
  unreachable_nodes:
    description: Names of joined members that the input does not contain.
    type: list
    elements: str
    default: []
seealso:
  - plugin: keyops.utrust.key_report_page
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the CAs that would fail on a node
  ansible.builtin.debug:
    msg: "{{ report.cas | selectattr('would_fail_on') | map(attribute='name') }}"
  vars:
    report: "{{ nodes | keyops.utrust.key_report(source='node1', time='2026-11-23T12:00:00Z', cas=cas) }}"
"""

RETURN = r"""
_value:
  description:
    - Dictionary with C(verdict) (V(in_sync), V(drift) or V(incomplete)), C(time), C(source), C(cluster), C(nodes), C(matrix) (from
      P(keyops.utrust.key_matrix#filter)), C(cas) and C(history).
  type: dict
"""


def key_report(
    results: t.Mapping[str, t.Any],
    source: str,
    time: str,
    cas: t.Sequence[t.Mapping[str, t.Any]] = (),
    audit_file: str | None = None,
    unreachable_nodes: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError for invalid results and for an unknown source."""
    if source not in results:
        raise AnsibleFilterError(f"key_report: the source {source!r} is not among the nodes {', '.join(results)}")
    try:
        data = report(results, source, cas=cas, unreachable_nodes=unreachable_nodes)
    except UtrustError as exc:
        raise AnsibleFilterError(f"key_report: {exc} [{exc.code}]") from exc
    return {
        **data,
        "time": time,
        "collection": {"name": "keyops.utrust", "version": collection_version()},
        "history": read_history(audit_file) if audit_file else None,
    }


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"key_report": key_report}
