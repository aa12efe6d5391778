# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Readings of a cluster, made from lists of keys."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Member
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, compare_with_itself

from tests.support.factories import node

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

#: The keys of a node, or the reason why the node could not be read.
Keys = t.Sequence["HsmKey"] | str


def cluster_reading(
    keys_of: t.Mapping[str, Keys],
    *,
    changes: t.Mapping[str, t.Mapping[str, t.Any]] | None = None,
    not_read: t.Sequence[str] = (),
) -> ClusterReading:
    """Return a reading in which the first node is the source.

    `changes` are facts of a node that differ from the default. `not_read` are joined members that are not part of the reading.
    """
    names = (*keys_of, *not_read)
    members = tuple(Member(name, "127.0.0.2", 443, joined=True, connection="connected") for name in names)
    source, *others = keys_of
    source_keys = keys_of[source]
    assert not isinstance(source_keys, str)

    def read(name: str) -> NodeReading:
        hsm_keys = keys_of[name]
        if isinstance(hsm_keys, str):
            return NodeReading(name, name, problem=Problem("node_unreachable", name, hsm_keys, "check the node"))
        facts = {
            "name": name,
            "members": members,
            "unusable_key_count": sum(not key.usable for key in hsm_keys),
            **(changes or {}).get(name, {}),
        }
        difference = compare_with_itself(hsm_keys) if name == source else compare(source_keys, hsm_keys)
        return NodeReading(name, name, node(*hsm_keys, **facts), difference)

    return ClusterReading(read(source), tuple(read(name) for name in others), tuple(source_keys))
