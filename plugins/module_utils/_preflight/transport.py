# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which checks each transport can make: one table. Private to keyops.utrust.

A plan, its approvals, the summary and the audit trail name what nobody checked, so that silence is never taken for success.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node

#: A fact is read from the node, read from its EJBCA, declared by the operator, or not available.
READ, EJBCA, DECLARED, NOT_AVAILABLE = "read", "by EJBCA", "declared", "not available"
Transport = t.Literal["rest", "assisted", "webconf"]
#: Check -> transport -> how it is made. docs/transports.md has the same table.
CHECKS: t.Final[dict[str, dict[Transport, str]]] = {
    "key pairs in active crypto tokens": {"rest": READ, "assisted": EJBCA, "webconf": EJBCA},
    "keys that EJBCA does not show": {"rest": READ, "assisted": NOT_AVAILABLE, "webconf": NOT_AVAILABLE},
    "name of the node": {"rest": READ, "assisted": DECLARED, "webconf": DECLARED},
    "cluster and its members": {"rest": READ, "assisted": DECLARED, "webconf": DECLARED},
    "connection of the members": {"rest": READ, "assisted": NOT_AVAILABLE, "webconf": READ},
    "MBK": {"rest": READ, "assisted": DECLARED, "webconf": DECLARED},
    "HSM serial number": {"rest": READ, "assisted": DECLARED, "webconf": DECLARED},
    "HSM firmware": {"rest": READ, "assisted": DECLARED, "webconf": DECLARED},
    "appliance version": {"rest": READ, "assisted": DECLARED, "webconf": DECLARED},
    "FIPS mode": {"rest": READ, "assisted": DECLARED, "webconf": DECLARED},
    "state of the HSM": {"rest": READ, "assisted": NOT_AVAILABLE, "webconf": READ},
    "HSM driver and running jobs": {"rest": READ, "assisted": NOT_AVAILABLE, "webconf": NOT_AVAILABLE},
    "PIN pads": {"rest": READ, "assisted": NOT_AVAILABLE, "webconf": READ},
    "clock": {"rest": READ, "assisted": EJBCA, "webconf": EJBCA},
    "end of the TLS certificate": {"rest": READ, "assisted": NOT_AVAILABLE, "webconf": READ},
    "last backup": {"rest": READ, "assisted": NOT_AVAILABLE, "webconf": NOT_AVAILABLE},
    "import effect and restart": {"rest": READ, "assisted": DECLARED, "webconf": DECLARED},
    "content of the package": {"rest": READ, "assisted": NOT_AVAILABLE, "webconf": NOT_AVAILABLE},
    "claim of the cluster on its nodes": {"rest": READ, "assisted": NOT_AVAILABLE, "webconf": NOT_AVAILABLE},
}


def not_checked(nodes: t.Iterable[Node]) -> list[str]:
    """Return each check that nobody made on the nodes, or that only compares declared facts. Nothing for nodes with appliance API v1."""
    found: list[str] = []
    for node in nodes:
        transport = t.cast("Transport", node.transport)
        found += [
            f"{check} (declared)" if how[transport] == DECLARED else check
            for check, how in CHECKS.items()
            if how[transport] in (DECLARED, NOT_AVAILABLE)
        ]
        if node.sees_only_ejbca:
            found += [
                f"keys of the inactive crypto token {slot.label} of {node.name}"
                for slot in node.slots
                if slot.activated is False
            ]
    return list(dict.fromkeys(found))


def not_checked_line(checks: t.Sequence[str]) -> list[str]:
    """Return the line for people, or nothing if every check was made."""
    return [f"NOT CHECKED on this transport: {', '.join(checks)}"] if checks else []
