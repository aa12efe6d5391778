# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter sync_plan."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan import make_changes, make_plan

DOCUMENTATION = r"""
name: sync_plan
short_description: A plan of what a synchronization would change
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Makes a plan from the manifest of the source and the predictions of the targets. It holds public facts only and has a digest that approvals name.
options:
  _input:
    description: Results of M(keyops.utrust.utrust_ksp_import) in check mode, one for each target.
    type: list
    elements: dict
    required: true
  manifest:
    description: The manifest that M(keyops.utrust.utrust_ksp_export) returned in check mode.
    type: dict
    required: true
  batches:
    description: The rollout, as P(keyops.utrust.rollout#filter) plans it.
    type: list
    elements: list
    required: true
  policy:
    description: What the operator allows.
    type: dict
    required: true
  requested_by:
    description: Who asks for it.
    type: str
    required: true
  requested_at:
    description: When.
    type: str
    required: true
seealso:
  - plugin: keyops.utrust.plan_problems
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the digest of a plan
  ansible.builtin.debug:
    msg: "{{ (predictions | keyops.utrust.sync_plan(manifest=export.manifest, batches=[['node2']], policy={}, requested_by='ada',
      requested_at='2026-11-23T12:00:00Z')).digest }}"
"""

RETURN = r"""
_value:
  description: The plan, with C(requested_by), C(requested_at), C(changes) and C(digest).
  type: dict
"""


def sync_plan(
    predictions: t.Sequence[t.Mapping[str, t.Any]],
    manifest: t.Mapping[str, t.Any],
    batches: t.Sequence[t.Sequence[str]],
    policy: t.Mapping[str, t.Any],
    requested_by: str,
    requested_at: str,
) -> dict[str, t.Any]:
    """See DOCUMENTATION."""
    changes = make_changes(manifest, predictions, batches=batches, policy=policy)
    return make_plan(changes, requested_by=str(requested_by), requested_at=str(requested_at))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"sync_plan": sync_plan}
