# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter rollout_summary."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.summary import format_rows, summarize_rollout

DOCUMENTATION = r"""
name: rollout_summary
short_description: "[INTERNAL] Summarize a rollout by node"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Returns a line for each node. The line states whether the node is up to date, synchronized, failed, not touched, or must be gated before use.
options:
  _input:
    description:
      - Variables of the target hosts, as in C(hostvars), with the results that the role C(keyops.utrust.key_sync) registered.
    type: list
    elements: dict
    required: true
  members_not_in_play:
    description: Names of joined members outside of the run.
    type: list
    elements: str
    default: []
  dry_run:
    description: Whether the run was in check mode.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the result of each node
  ansible.builtin.debug:
    msg: "{{ ['node2', 'node3'] | map('extract', hostvars) | keyops.utrust.rollout_summary(members_not_in_play=['node4']) }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


def rollout_summary(
    hosts: t.Sequence[t.Mapping[str, t.Any]], members_not_in_play: t.Sequence[str] = (), dry_run: bool = False
) -> list[str]:
    """See DOCUMENTATION."""
    targets = {
        str(variables["inventory_hostname"]): {
            "plan": variables.get("_key_sync_prediction"),
            "result": variables.get("_key_sync_imported") or variables.get("_key_sync_import"),
            "after": variables.get("_key_sync_after"),
        }
        for variables in hosts
    }
    return format_rows(summarize_rollout(targets, members_not_in_play=members_not_in_play, dry_run=dry_run))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"rollout_summary": rollout_summary}
