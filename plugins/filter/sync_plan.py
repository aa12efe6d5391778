# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter sync_plan."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan import make_changes, make_plan

DOCUMENTATION = r"""
name: sync_plan
short_description: "[INTERNAL] Make the plan of a synchronization"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Makes a plan from the manifest of the source and the predictions of the targets. The plan contains no secret, and approvals name its digest.
options:
  _input:
    description: Results of M(keyops.utrust.utrust_ksp_import) in check mode, one for each target.
    type: list
    elements: dict
    required: true
  manifest:
    description: Manifest that M(keyops.utrust.utrust_ksp_export) returned in check mode.
    type: dict
    required: true
  batches:
    description: Batches from P(keyops.utrust.rollout#filter).
    type: list
    elements: list
    required: true
  policy:
    description: Options of the operator.
    type: dict
    required: true
  requested_by:
    description: Name of the requester.
    type: str
    required: true
  requested_at:
    description: Time of the request.
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
  description: Plan with C(requested_by), C(requested_at), C(changes) and C(digest).
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
