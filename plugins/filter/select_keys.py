# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter select_keys."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._report.select import select

DOCUMENTATION = r"""
name: select_keys
short_description: Narrow keys by a JMESPath expression
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Returns those keys of an inventory that a JMESPath expression leaves.
  - An expression that makes something else of the keys, such as a list of labels, is refused, so that a slip in it cannot pass for "no keys".
requirements:
  - jmespath >= 1.0.1 where Ansible runs
options:
  _input:
    description: Keys, as C(hsm_keys) of M(keyops.utrust.utrust_hsm_info) or C(rows) of P(keyops.utrust.key_matrix#filter) has them.
    type: list
    elements: dict
    required: true
  expression:
    description: A JMESPath expression over the list of keys. Texts in it stand in single quotes, numbers and truth values in backquotes.
    type: str
    required: true
positional: expression
notes:
  - No key may be what the expression leaves. Where that would be a mistake, compare C(length) with 0.
seealso:
  - plugin: keyops.utrust.key_matrix
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Name the RSA keys of slot 0 that can be used
  ansible.builtin.debug:
    msg: >-
      {{ info.hsm_keys | keyops.utrust.select_keys("[?type=='rsa' && slot==`0` && usable]") | map(attribute='label') }}

- name: Name the keys that node3 lacks
  ansible.builtin.debug:
    msg: >-
      {{ matrix.rows | keyops.utrust.select_keys("[?nodes.node3=='missing']") | map(attribute='label') }}
"""

RETURN = r"""
_value:
  description: The keys that are left, each as it came.
  type: list
  elements: dict
"""


def select_keys(hsm_keys: t.Sequence[t.Mapping[str, t.Any]], expression: str) -> list[dict[str, t.Any]]:
    """See DOCUMENTATION. Raises AnsibleFilterError for an expression that cannot be used."""
    return select(hsm_keys, expression, by="select_keys")


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"select_keys": select_keys}
