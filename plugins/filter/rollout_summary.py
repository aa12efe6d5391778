# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter rollout_summary."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._summary import in_words, summarise

DOCUMENTATION = r"""
name: rollout_summary
short_description: How a roll-out ended, a line for every node
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Says for every node whether it is up to date, was synchronised now, failed and why, was not touched, or must be gated before it returns.
options:
  _input:
    description:
      - Variables of the target hosts, as C(hostvars) has them, with what role C(keyops.utrust.key_sync) registered.
    type: list
    elements: dict
    required: true
  untouched:
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
- name: Show how it stands
  ansible.builtin.debug:
    msg: "{{ ['node2', 'node3'] | map('extract', hostvars) | keyops.utrust.rollout_summary(untouched=['node4']) }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


def rollout_summary(
    hosts: t.Sequence[t.Mapping[str, t.Any]], untouched: t.Sequence[str] = (), dry_run: bool = False
) -> list[str]:
    """See DOCUMENTATION."""
    targets = {
        str(variables["inventory_hostname"]): {
            "plan": variables.get("key_sync__plan"),
            "result": variables.get("key_sync__imported") or variables.get("key_sync__import"),
            "after": variables.get("key_sync__after"),
        }
        for variables in hosts
    }
    return in_words(summarise(targets, untouched=untouched, dry_run=dry_run))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"rollout_summary": rollout_summary}
