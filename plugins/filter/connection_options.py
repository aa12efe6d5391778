# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter connection_options."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.plugin_utils import _connection

DOCUMENTATION = r"""
name: connection_options
short_description: Make connection options from the variables of a host
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Returns the connection options of the modules of this collection from the variables of one inventory host. The option C(host) comes from the variable
    C(utrust_host), the option C(port) from C(utrust_port), and so on.
  - The expected node name (C(expect_node)) is C(utrust_node), or the name of the inventory host.
  - A delegated task and a task with C(run_once) keep the variables of their own host. Pass the variables of the host that the task must connect to.
options:
  _input:
    description: Variables of the host, as in C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Read node1 with any limit of the play
  module_defaults:
    group/keyops.utrust.utrust: "{{ hostvars['node1'] | keyops.utrust.connection_options }}"
  keyops.utrust.utrust_hsm_info:
  run_once: true
"""

RETURN = r"""
_value:
  description: Options for C(module_defaults) of the group C(keyops.utrust.utrust).
  type: dict
"""


def connection_options(variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError if the input is not the variables of a host."""
    if not hasattr(variables, "get") or variables.get("inventory_hostname") is None:
        raise AnsibleFilterError(
            "connection_options: the input must be the variables of an inventory host, such as hostvars['node1']"
        )
    return _connection.connection_options(variables)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"connection_options": connection_options}
