# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter key_table."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._report.table import format_table

DOCUMENTATION = r"""
name: key_table
short_description: Format a key matrix as a table of text
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Returns the result of P(keyops.utrust.key_matrix#filter) as lines of text, with a last line for each node that differs from the source.
  - With more than twelve nodes, the nodes that hold the same keys as the source share its column.
options:
  _input:
    description: Key matrix.
    type: dict
    required: true
  only_drift:
    description: Whether to omit keys that each node holds and can use.
    type: bool
    default: false
seealso:
  - plugin: keyops.utrust.key_matrix
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the keys of all nodes
  ansible.builtin.debug:
    msg: "{{ cluster | keyops.utrust.key_matrix | keyops.utrust.key_table }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"key_table": format_table}
