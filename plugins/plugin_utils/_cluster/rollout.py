# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order and the batches of a rollout: pure functions. Private to keyops.utrust.

An import may restart a node, so the batches keep the quorum of the cluster. Before each import, the module checks the quorum again.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import check_quorum

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem


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
    allowed, problems = check_quorum(source)
    if problems and not allow_outage:
        return Rollout([], problems[0])
    # A canary outside of `hosts` is in sync already.
    first = canary if canary is not None and canary in hosts else hosts[0]
    size = max(1, min(allowed, batch_size or allowed))
    rest = [host for host in hosts if host != first]
    return Rollout([[first], *(rest[start : start + size] for start in range(0, len(rest), size))], None)
