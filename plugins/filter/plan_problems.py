# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plan_problems."""

from __future__ import annotations

import typing as t

import yaml
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan import check_plan

DOCUMENTATION = r"""
name: plan_problems
short_description: "[INTERNAL] Check whether a plan can be applied"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Checks the digest of a plan, and compares the plan with a plan that is made now.
options:
  _input:
    description: Plan to apply, or the text of its file.
    type: raw
    required: true
  now:
    description: Plan that P(keyops.utrust.sync_plan#filter) makes now.
    type: dict
    required: true
seealso:
  - plugin: keyops.utrust.sync_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Check that the plan is valid
  ansible.builtin.assert:
    that: planned | keyops.utrust.plan_problems(now=plan) | length == 0
"""

RETURN = r"""
_value:
  description: Problems, each with its code in brackets. Empty if the plan can be applied.
  type: list
  elements: str
"""


def plan_problems(plan: t.Any, now: t.Mapping[str, t.Any]) -> list[str]:
    """See DOCUMENTATION."""
    if isinstance(plan, str):
        try:
            plan = yaml.safe_load(plan)
        except yaml.YAMLError as exc:
            return [f"the plan is not YAML: {' '.join(str(exc).split())} [plan_invalid]"]
    return check_plan(plan, now["changes"])


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"plan_problems": plan_problems}
