# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter select_keys."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._report.select import select

DOCUMENTATION = r"""
name: select_keys
short_description: Select keys by a JMESPath expression
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Returns the keys that a JMESPath expression selects.
  - The filter fails if the result of the expression is not a list of keys, for example a list of labels. A mistake in the expression cannot look like an empty
    result.
requirements:
  - jmespath >= 1.0.1 where Ansible runs
options:
  _input:
    description: Keys, as in C(hsm_keys) of M(keyops.utrust.utrust_hsm_info) or in C(rows) of P(keyops.utrust.key_matrix#filter).
    type: list
    elements: dict
    required: true
  expression:
    description: JMESPath expression over the list of keys. Write strings in single quotes, and numbers and booleans in backquotes.
    type: str
    required: true
positional: expression
notes:
  - The result can be empty. If an empty result is a mistake, compare its C(length) with 0.
seealso:
  - plugin: keyops.utrust.key_matrix
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the usable RSA keys of slot 0
  ansible.builtin.debug:
    msg: >-
      {{ info.hsm_keys | keyops.utrust.select_keys("[?type=='rsa' && slot==`0` && usable]") | map(attribute='label') }}

- name: Show the keys that are missing on node3
  ansible.builtin.debug:
    msg: >-
      {{ matrix.rows | keyops.utrust.select_keys("[?nodes.node3=='missing']") | map(attribute='label') }}
"""

RETURN = r"""
_value:
  description: Selected keys, unchanged.
  type: list
  elements: dict
"""


def select_keys(hsm_keys: t.Sequence[t.Mapping[str, t.Any]], expression: str) -> list[dict[str, t.Any]]:
    """See DOCUMENTATION. Raises AnsibleFilterError for an invalid expression."""
    return select(hsm_keys, expression, caller="select_keys")


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"select_keys": select_keys}
