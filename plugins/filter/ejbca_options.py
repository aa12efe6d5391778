# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter ejbca_options."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import EJBCA_SUBOPTIONS
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import (
    connection_options,
    is_blank,
    without_blanks,
)

DOCUMENTATION = r"""
name: ejbca_options
short_description: Make EJBCA options from the variables of a host
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Returns the option C(ejbca) of the modules from the variables of one inventory host. The suboption C(port) comes from the variable C(utrust_ejbca_port),
    and so on.
  - The suboptions C(client_cert) and C(client_key) come from the variables of the account,
    for example C(utrust_ejbca_reader_client_cert) and C(utrust_ejbca_reader_client_key).
  - The filter fails if the account has no client certificate. It never uses the other account instead.
  - The suboption C(host) comes from C(utrust_ejbca_host), then from C(utrust_host), then from C(ansible_host), then from the name of the inventory host.
options:
  _input:
    description: Variables of the host, as in C(hostvars).
    type: dict
    required: true
  account:
    description:
      - Account of EJBCA.
      - The account V(reader) reads. Use it for M(keyops.utrust.ejbca_ca_info).
      - The account V(operator) generates keys, reactivates crypto tokens and issues test certificates.
        Use it for M(keyops.utrust.ejbca_key) and M(keyops.utrust.utrust_key_proof).
    type: str
    choices: [reader, operator]
    required: true
seealso:
  - plugin: keyops.utrust.connection_options
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read the CAs of this node
  keyops.utrust.ejbca_ca_info:
    ejbca: "{{ hostvars[inventory_hostname] | keyops.utrust.ejbca_options('reader') }}"
"""

RETURN = r"""
_value:
  description: Value of the option C(ejbca).
  type: dict
"""


ACCOUNTS: t.Final = ("reader", "operator")
OF_ACCOUNT: t.Final = ("client_cert", "client_key")


def ejbca_options(variables: t.Mapping[str, t.Any], account: str = "") -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError for other input, for an account without a certificate, and for a list that is invalid JSON."""
    if not hasattr(variables, "get") or variables.get("inventory_hostname") is None:
        raise AnsibleFilterError(
            "ejbca_options: the input must be the variables of an inventory host, such as hostvars['node1']"
        )
    if account not in ACCOUNTS:
        raise AnsibleFilterError(
            f"ejbca_options: the account {account!r} is invalid. Name one of {' and '.join(ACCOUNTS)} [option_invalid]"
        )
    prefixes = dict.fromkeys(OF_ACCOUNT, f"utrust_ejbca_{account}_")
    given = {name: variables.get(f"{prefixes.get(name, 'utrust_ejbca_')}{name}") for name in EJBCA_SUBOPTIONS}
    if is_blank(given["client_cert"]):
        raise AnsibleFilterError(
            f"ejbca_options: {variables['inventory_hostname']} has no client certificate for the account {account} of EJBCA. Nothing was sent. "
            f"Set the variable utrust_ejbca_{account}_client_cert [credentials_missing]"
        )
    try:
        options = without_blanks(given, EJBCA_SUBOPTIONS)
    except UtrustError as exc:
        raise AnsibleFilterError(f"ejbca_options: {exc}") from exc
    return {"host": connection_options(variables)["host"], **options}


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"ejbca_options": ejbca_options}
