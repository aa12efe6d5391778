# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which node responded: pure functions. Private to keyops.utrust.

A virtual address or a copied certificate makes one node look like another. Nobody can conclude anything about a node then.
"""

from __future__ import annotations

import collections
import typing as t


class NodeIdentity(t.NamedTuple):
    """What a node shows of itself: address and port of the connection, certificate fingerprint, host name of page 0."""

    address: str
    port: int
    certificate_fingerprint: str
    host_name: str | None


def identity_problems(nodes: t.Mapping[str, NodeIdentity]) -> dict[str, str]:
    """Return why the identity of a node is unknown, for each node with such a reason.

    `nodes` has the nodes by their names in the inventory.
    """
    facts: tuple[tuple[str, t.Callable[[NodeIdentity], object]], ...] = (
        ("address", lambda node: (node.address, node.port)),
        ("TLS certificate", lambda node: node.certificate_fingerprint),
        ("host name", lambda node: _normal(node.host_name)),
    )
    reasons: dict[str, list[str]] = {name: [] for name in nodes}
    for fact, value in facts:
        sharing: dict[object, list[str]] = collections.defaultdict(list)
        for name, node in nodes.items():
            if value(node) is not None:
                sharing[value(node)].append(name)
        for names in sharing.values():
            for name in names if len(names) > 1 else ():
                reasons[name].append(f"EJBCA of {', '.join(sorted(names))} has the same {fact}")
    for name, node in nodes.items():
        if _normal(node.host_name) is None:
            reasons[name].append(f"EJBCA of {name} shows no host name")
    return {name: ". ".join(found) for name, found in reasons.items() if found}


def _normal(host_name: str | None) -> str | None:
    return host_name.rstrip(".").casefold() or None if host_name is not None else None
