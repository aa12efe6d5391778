# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter ejbca_options."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import EJBCA_SUBOPTIONS
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import connection_options, without_blanks

DOCUMENTATION = r"""
name: ejbca_options
short_description: Make EJBCA options from the variables of a host
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Returns the option C(ejbca) of the modules from the variables of one inventory host. The suboption C(port) comes from the variable C(utrust_ejbca_port),
    the suboption C(client_cert) from C(utrust_ejbca_client_cert), and so on.
  - The suboption C(host) comes from C(utrust_ejbca_host), then from C(utrust_host), then from C(ansible_host), then from the name of the inventory host.
options:
  _input:
    description: Variables of the host, as in C(hostvars).
    type: dict
    required: true
seealso:
  - plugin: keyops.utrust.connection_options
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read the CAs of this node
  keyops.utrust.ejbca_ca_info:
    ejbca: "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options }}"
"""

RETURN = r"""
_value:
  description: Value of the option C(ejbca).
  type: dict
"""


def ejbca_options(variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError if the input is not the variables of a host, or if a list is invalid JSON."""
    if not hasattr(variables, "get") or variables.get("inventory_hostname") is None:
        raise AnsibleFilterError(
            "ejbca_options: the input must be the variables of an inventory host, such as hostvars['node1']"
        )
    given = {name: variables.get(f"utrust_ejbca_{name}") for name in EJBCA_SUBOPTIONS}
    try:
        options = without_blanks(given, EJBCA_SUBOPTIONS)
    except UtrustError as exc:
        raise AnsibleFilterError(f"ejbca_options: {exc}") from exc
    return {"host": connection_options(variables)["host"], **options}


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"ejbca_options": ejbca_options}
