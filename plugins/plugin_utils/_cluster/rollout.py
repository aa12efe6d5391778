# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order and the batches of a rollout: pure functions. Private to keyops.utrust.

An import may restart a node, and a node without quorum goes to maintenance (Keyfactor's documentation, availability levels). At most (n-1)//2 of all n
members may be down at once. Members that are already down count.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node


class Rollout(t.NamedTuple):
    """`batches` of inventory hosts, the canary first and alone, or the problem that forbids a rollout."""

    batches: list[list[str]]
    problem: Problem | None


def plan_rollout(
    hosts: t.Sequence[str],
    source: Node,
    *,
    canary: str | None = None,
    batch_size: int | None = None,
    allow_outage: bool = False,
) -> Rollout:
    """Return batches for the `hosts` that must import the package, in their order.

    The member list of the source defines the size of the cluster. `batch_size` is the operator's own limit. With `allow_outage`, one node at a time is
    allowed even if the cluster loses its quorum.
    """
    if not hosts:
        return Rollout([], None)
    allowed, problem = _quorum(source)
    if problem is not None and not allow_outage:
        return Rollout([], problem)
    # A canary outside of `hosts` is in sync already.
    first = canary if canary is not None and canary in hosts else hosts[0]
    size = max(1, min(allowed, batch_size or allowed))
    rest = [host for host in hosts if host != first]
    return Rollout([[first], *(rest[start : start + size] for start in range(0, len(rest), size))], None)


def _quorum(source: Node) -> tuple[int, Problem | None]:
    """Return how many more nodes may be down at once, and the problem if this number is zero."""
    joined = [member for member in source.members if member.joined]
    down = [member.node for member in joined if not member.up]
    limit = (len(joined) - 1) // 2
    if limit - len(down) >= 1:
        return limit - len(down), None
    names = f" Already down: {', '.join(down)}." if down else ""
    text = (
        f"a node may restart during the import, and this cluster of {len(joined)} node(s) would lose its quorum.{names} "
        f"At most {limit} node(s) may be down at once"
    )
    remedy = (
        "connect all nodes first. If an outage is acceptable, for example for a cluster of two nodes in a maintenance window, "
        "set allow_outage: true"
    )
    return limit - len(down), Problem("quorum_at_risk", source.name, text, remedy)
