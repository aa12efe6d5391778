# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a node whose keys are those of its EJBCA view: the reader, and the members that the inventory declares. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import INCOMPLETE_TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import connection_options, is_blank
from ansible_collections.keyops.utrust.plugins.plugin_utils._ejbca_view import (
    mark_failing,
    unmark_failing,
    view_options,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._node_names import node_name

Options = dict[str, t.Any]
Variables = t.Mapping[str, t.Any]
#: Port of Webconf in the steps for people.
DEFAULT_PORT: t.Final = 443


def is_incomplete(options: Variables) -> bool:
    """Whether the keys of a node with these connection options are not a complete list of its HSM."""
    return options.get("transport") in INCOMPLETE_TRANSPORTS


def with_assisted(options: Options, of_host: Variables, hostvars: Variables) -> Options:
    """Return the connection options of a host with what its transport needs."""
    if not is_incomplete(options) or "assisted" in options:
        return options
    members = declared_members(str(of_host.get("utrust_source") or of_host["inventory_hostname"]).strip(), hostvars)
    return {**options, "assisted": {**view_options(of_host), "members": members}}


def declared_members(source: str, hostvars: Variables) -> list[Options]:
    """Return the nodes of all hosts of the inventory that have the same source and declared facts, the source included."""
    found = []
    for host in hostvars:
        of_host = hostvars[host]
        given = of_host.get("utrust_source")
        same = host == source if is_blank(given) else str(given).strip() == source
        if same and not is_blank(of_host.get("utrust_declared")):
            options = connection_options(of_host)
            found.append(
                {
                    "node": node_name(of_host),
                    "address": str(options["host"]),
                    "port": int(options.get("port", DEFAULT_PORT)),
                }
            )
    return found


def host_of_node(options: Variables, hostvars: Variables) -> Variables | None:
    """Return the variables of the host of a task with option `host`, or None. Nodes of two clusters can have the same name, so the address decides."""
    named = [hostvars[host] for host in hostvars if node_name(hostvars[host]) == options.get("expect_node")]
    same = [of_host for of_host in named if _address(connection_options(of_host)) == _address(options)]
    if same:
        return same[0]
    return named[0] if len(named) == 1 else None


def _address(options: Variables) -> tuple[str, str]:
    return str(options.get("host") or "").strip(), str(options.get("port") or DEFAULT_PORT).strip()


def check_controller(options: Variables) -> None:
    """Raise UtrustError (`transport_needs_controller`) if a task on another machine would use such a node."""
    for each in (options, *(options.get("nodes") or ())):
        if is_incomplete(each):
            raise UtrustError(
                f"{each.get('expect_node') or each.get('host')}: transport {each['transport']} needs people or a browser at the controller. Nothing was done. "
                "Remove utrust_bastion, and delegate_to of the task",
                code="transport_needs_controller",
            )


def mark_view(options: Variables, result: Variables) -> None:
    """Mark a node whose EJBCA view must not be read again in this run, or remove the mark after its HSM was restored."""
    ejbca = (options.get("assisted") or {}).get("ejbca")
    if ejbca is None:
        return
    if result.get("code") == "token_activation_failing":
        mark_failing(ejbca)
    elif not result.get("failed") and any(
        each.get("step") == "hsm_restored" for each in result.get("confirmations") or ()
    ):
        unmark_failing(ejbca)
