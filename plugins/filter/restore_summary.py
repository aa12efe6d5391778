# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter restore_summary."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.summary import format_rows, summarize_restores

DOCUMENTATION = r"""
name: restore_summary
short_description: "[INTERNAL] Summarize guided restores by node"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Returns a line for each node. The line states whether the HSM is up to date, restored, failed or not touched.
options:
  _input:
    description:
      - Variables of the joined hosts, as in C(hostvars), with the results that the role C(keyops.utrust.guided_restore) registered.
    type: list
    elements: dict
    required: true
  dry_run:
    description: Whether the run is in check mode.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the result of each node
  ansible.builtin.debug:
    msg: "{{ ['node2', 'node3'] | map('extract', hostvars) | keyops.utrust.restore_summary }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


def restore_summary(hosts: t.Sequence[t.Mapping[str, t.Any]], dry_run: bool = False) -> list[str]:
    """See DOCUMENTATION."""
    restores = {str(variables["inventory_hostname"]): variables.get("_guided_restore_result") for variables in hosts}
    return format_rows(summarize_restores(restores, dry_run=dry_run))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"restore_summary": restore_summary}
