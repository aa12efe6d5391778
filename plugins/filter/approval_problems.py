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
short_description: Why approvals of a plan do not suffice
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Counts the different people who approved this very plan; who requested it does not count.
  - Where public keys of approvers are given, only they count, and each must have signed with Ed25519. The message is four lines, each ended by a line feed,
    C(keyops.utrust approval), the plan's digest, the name, and the time.
options:
  _input:
    description: Approvals, each with C(name), C(time), C(plan_digest), and C(signature) (base64) where keys are given.
    type: list
    elements: dict
    required: true
  plan:
    description: The plan.
    type: dict
    required: true
  required:
    description: How many approvals are needed.
    type: int
    required: true
  approvers:
    description: Public keys (PEM) of the approvers by their names.
    type: dict
    default: {}
requirements:
  - cryptography, where signatures are verified
"""

EXAMPLES = r"""
- name: Demand four eyes
  ansible.builtin.assert:
    that: approvals | keyops.utrust.approval_problems(plan=plan, required=2) | length == 0
"""

RETURN = r"""
_value:
  description: Problems, each with its code; none if the approvals suffice.
  type: list
  elements: str
"""


def approval_problems(
    approvals: t.Sequence[t.Mapping[str, t.Any]],
    plan: t.Mapping[str, t.Any],
    required: int,
    approvers: t.Mapping[str, str] | None = None,
) -> list[str]:
    """See DOCUMENTATION. Raises AnsibleFilterError for a `required` that is no number, and where `cryptography` is missing."""
    try:
        return check_approvals(
            plan, approvals, required=int(required), approvers=approvers or {}, verify=verify_ed25519
        )
    except ImportError as exc:
        raise AnsibleFilterError(
            f"approval_problems: signatures cannot be verified without the Python package cryptography: {exc}"
        ) from exc
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"approval_problems: {exc}") from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"approval_problems": approval_problems}
