# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order and the batches of a rollout: pure functions. Private to keyops.utrust.

An import may restart a node, and a node without quorum goes to maintenance (Keyfactor's documentation, availability levels). At most (n-1)//2 of all n
members may be down at once. Members that are already down count.
"""

from __future__ import annotations

import typing as t

QUORUM_REMEDY: t.Final = (
    "connect all nodes first. If an outage is acceptable, for example for a cluster of two nodes in a maintenance window, "
    "set key_sync_allow_outage: true"
)


class Rollout(t.NamedTuple):
    """`batches` of hosts, the canary first and alone, or the reason for the `refusal`."""

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
    """Plan batches for the `hosts` that need the package, in their order.

    `members` is the member list of the source node, which defines the size of the cluster. `batch_size` is the operator's own limit. With `allow_outage`
    one node at a time is allowed even if the cluster loses its quorum. Raises TypeError for options of another type, because the text "false" is true.
    """
    if not isinstance(allow_outage, bool):
        raise TypeError(f"allow_outage must be true or false, not {allow_outage!r}")
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise TypeError(f"batch_size must be an integer of at least 1, not {batch_size!r}")
    if not hosts:
        return Rollout([], None)
    # A canary outside of `hosts` is in sync already or outside of --limit. The caller checks that the host exists.
    first = canary if canary is not None and canary in hosts else hosts[0]
    allowed, risk = _quorum(members)
    if risk and not allow_outage:
        return Rollout([], f"{risk} [quorum_at_risk]. Fix: {QUORUM_REMEDY}")
    size = max(1, min(allowed, batch_size or allowed))
    rest = [host for host in hosts if host != first]
    return Rollout([[first], *(rest[start : start + size] for start in range(0, len(rest), size))], None)


def quorum_risk(members: t.Sequence[t.Mapping[str, t.Any]]) -> str | None:
    """The reason why the restart of one node costs the quorum, or None."""
    return _quorum(members)[1]


def _quorum(members: t.Sequence[t.Mapping[str, t.Any]]) -> tuple[int, str | None]:
    """How many more nodes may be down at once, and the reason if this number is zero."""
    joined = [member for member in members if member["joined"]]
    down = [member["node"] for member in joined if member["connection"] != "connected"]
    limit = (len(joined) - 1) // 2
    if limit - len(down) >= 1:
        return limit - len(down), None
    names = f" Already down: {', '.join(down)}" if down else ""
    risk = (
        f"a node may restart during the import, and this cluster of {len(joined)} node(s) would lose its quorum. "
        f"At most {limit} node(s) may be down at once.{names}"
    )
    return limit - len(down), risk.rstrip(".")
