# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter approval_problems."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.approvals import check_approvals
from ansible_collections.keyops.utrust.plugins.plugin_utils._signature import verify_ed25519

DOCUMENTATION = r"""
name: approval_problems
short_description: "[INTERNAL] Check the approvals of a plan"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Counts the different people who approved this plan. The approval of the requester does not count.
  - If public keys are given, only approvals with a valid Ed25519 signature of these approvers count.
  - An approver signs four lines that each end with a line feed - C(keyops.utrust approval), the digest of the plan, the name, and the time.
options:
  _input:
    description: Approvals, each with C(name), C(time), C(plan_digest), and also C(signature) (base64) if O(approvers) is set.
    type: list
    elements: dict
    required: true
  plan:
    description: Plan that the approvals name.
    type: dict
    required: true
  required:
    description: Number of required approvals.
    type: int
    required: true
  approvers:
    description: Public keys (PEM) of the approvers by their names.
    type: dict
    default: {}
requirements:
  - cryptography, if O(approvers) is set
"""

EXAMPLES = r"""
- name: Check that two people approved the plan
  ansible.builtin.assert:
    that: approvals | keyops.utrust.approval_problems(plan=plan, required=2) | length == 0
"""

RETURN = r"""
_value:
  description: Problems, each with its code in brackets. Empty if the approvals suffice.
  type: list
  elements: str
"""


def approval_problems(
    approvals: t.Sequence[t.Mapping[str, t.Any]],
    plan: t.Mapping[str, t.Any],
    required: int,
    approvers: t.Mapping[str, str] | None = None,
) -> list[str]:
    """See DOCUMENTATION. Raises AnsibleFilterError if `required` is not a number, and if `cryptography` is missing."""
    try:
        return check_approvals(
            plan, approvals, required=int(required), approvers=approvers or {}, verify=verify_ed25519
        )
    except ImportError as exc:
        raise AnsibleFilterError(
            f"approval_problems: verifying signatures requires the Python package cryptography: {exc}"
        ) from exc
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"approval_problems: {exc}") from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"approval_problems": approval_problems}
