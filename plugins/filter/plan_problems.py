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
short_description: Why a plan must not be applied now
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Compares a plan that was made before with one that is made now, and looks for alterations by its digest.
options:
  _input:
    description: The plan that is to be applied, or the text of its file.
    type: raw
    required: true
  now:
    description: The plan as P(keyops.utrust.sync_plan#filter) makes it now.
    type: dict
    required: true
seealso:
  - plugin: keyops.utrust.sync_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Refuse a plan that no longer fits
  ansible.builtin.assert:
    that: planned | keyops.utrust.plan_problems(now=plan) | length == 0
"""

RETURN = r"""
_value:
  description: Problems, each with its code; none if the plan fits.
  type: list
  elements: str
"""


def plan_problems(plan: t.Any, now: t.Mapping[str, t.Any]) -> list[str]:
    """See DOCUMENTATION."""
    if isinstance(plan, str):
        try:
            plan = yaml.safe_load(plan)
        except yaml.YAMLError as exc:
            return [f"it is no YAML: {' '.join(str(exc).split())} [plan_invalid]"]
    return check_plan(plan, now["changes"])


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"plan_problems": plan_problems}
