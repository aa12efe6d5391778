# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which order and how many at once nodes take a package: a pure function. Private to keyops.utrust.

Applying a package may restart a node, and a node without quorum goes to maintenance (Keyfactor's documentation, availability levels), so at most
(n-1)//2 of all n members are out at once, those counted that are down already.
"""

from __future__ import annotations

import typing as t


class Rollout(t.NamedTuple):
    """`batches` of hosts, the canary first and alone; or why there can be none."""

    batches: list[list[str]]
    refusal: str | None


def plan_rollout(
    hosts: t.Sequence[str],
    *,
    members: t.Sequence[t.Mapping[str, t.Any]],
    canary: str | None = None,
    batch_size: int | None = None,
    allow_outage: bool = False,
) -> Rollout:
    """Batches for the `hosts` that have to take the package, in their order.

    Raises TypeError for limits of another type: a quorum must not depend on whether the text "false" is true.
    `members` is the member list of the source node: it alone says how many nodes there are. `batch_size` is the operator's own limit; with
    `allow_outage` one node at a time is allowed even where that costs the quorum.
    """
    if not isinstance(allow_outage, bool):
        raise TypeError(f"allow_outage must be true or false, not {allow_outage!r}")
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise TypeError(f"batch_size must be a number of at least 1, not {batch_size!r}")
    if not hosts:
        return Rollout([], None)
    if canary not in hosts:
        canary = None  # none named, in sync already, or outside of --limit; the caller has made sure that it exists
    joined = [member for member in members if member["joined"]]
    down = [member["node"] for member in joined if member["connection"] != "connected"]
    allowed = (len(joined) - 1) // 2 - len(down)
    if allowed < 1 and not allow_outage:
        names = f", {', '.join(down)} down already" if down else ""
        return Rollout(
            [],
            f"a node that takes the package may restart, and this cluster of {len(joined)} node(s){names} would lose its quorum: at most "
            f"{(len(joined) - 1) // 2} may be out at once [quorum_at_risk] - bring all nodes up first; where an outage is acceptable, "
            "as in a cluster of two nodes in a maintenance window, say so with key_sync_allow_outage: true",
        )
    size = max(1, min(allowed, batch_size or allowed))
    first = canary or hosts[0]
    rest = [host for host in hosts if host != first]
    return Rollout([[first], *(rest[start : start + size] for start in range(0, len(rest), size))], None)
