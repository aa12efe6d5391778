# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a synchronization would change on each target, and what forbids it: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import check_view_complete
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import (
    Policy,
    check_import_effect,
    check_key_changes,
    keys_after_import,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.transport import not_checked
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.rollout import Rollout, plan_rollout

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading
    from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

Document = dict[str, t.Any]


class Target(t.NamedTuple):
    """A node that was read and compared with the source."""

    host: str
    node: Node
    difference: Difference

    @property
    def pending(self) -> bool:
        """Whether the source has keys that this node does not have."""
        return bool(self.difference.missing or self.difference.mismatched)

    def digest(self, source_keys: t.Iterable[HsmKey]) -> str:
        """Return the keys digest, also if the node reported none with its facts, but then listed its keys."""
        return self.node.keys_digest or keys_digest(self.difference.target_of(source_keys))


def targets_of(reading: ClusterReading) -> list[Target]:
    return [
        Target(each.host, each.node, each.difference)
        for each in reading.others
        if each.node is not None and each.difference is not None
    ]


def nodes_of(reading: ClusterReading) -> list[Node]:
    return [each.node for each in reading.readings if each.node is not None]


def check_targets(reading: ClusterReading, policy: Policy) -> list[Problem]:
    """Check the keys of each operational target against the policy."""
    problems: list[Problem] = []
    for target in targets_of(reading):
        problems += check_view_complete(target.node, reading.hsm_keys or ())
        if target.node.hsm_state == "operational":
            source = reading.source_node.name
            problems += check_key_changes(target.node.name, source, target.difference, policy)
            problems += check_import_effect(target.node, target.difference, policy)
    return problems


def rollout_of(reading: ClusterReading, *, canary: str | None, batch_size: int | None, allow_outage: bool) -> Rollout:
    hosts = [target.host for target in targets_of(reading) if target.pending]
    return plan_rollout(hosts, reading.source_node, canary=canary, batch_size=batch_size, allow_outage=allow_outage)


def check_quorum(reading: ClusterReading, *, allow_outage: bool, all_targets: bool = False) -> list[Problem]:
    """Check that the cluster keeps its quorum while a target restarts. With `all_targets`, every target is going to import a key."""
    if all_targets:
        hosts = [target.host for target in targets_of(reading)]
        problem = plan_rollout(hosts, reading.source_node, allow_outage=allow_outage).problem
        return [problem] if problem is not None else []
    problem = rollout_of(reading, canary=None, batch_size=None, allow_outage=allow_outage).problem
    return [problem] if problem is not None else []


def describe_changes(reading: ClusterReading, batches: t.Sequence[t.Sequence[str]], options: Document) -> Document:
    """Return what a run would change. `options` are all options that change what the run does."""
    source, hsm_keys = reading.source_node, reading.hsm_keys or ()
    mbk = source.mbk
    return {
        "source": {
            "node": source.name,
            "hsm_serial": source.hsm_serial,
            "keys_digest": keys_digest(hsm_keys),
            "key_count": len(hsm_keys),
        },
        "cluster": {"id": source.cluster_id, "name": source.cluster_name},
        "mbk": {"name": mbk.name, "check_value": mbk.check_value} if mbk is not None else None,
        "options": options,
        # People approve what nobody checked, too.
        "key_scope": source.key_scope,
        "not_checked": not_checked(nodes_of(reading)),
        "batches": [list(batch) for batch in batches],
        "targets": {
            target.node.name: {
                "host": target.host,
                "hsm_serial": target.node.hsm_serial,
                "keys_digest": target.digest(hsm_keys),
                "keys_digest_after": keys_digest(
                    keys_after_import(target.node, hsm_keys, target.difference, options.get("import_effect"))
                )
                if target.pending
                else target.digest(hsm_keys),
                "add": [_key(key) for key in target.difference.missing],
                "replace": [
                    {"source_key": _key(pair.source_key), "target_key": _key(pair.target_key)}
                    for pair in target.difference.mismatched
                ],
                "kept": [_key(key) for key in (*target.difference.extra, *target.difference.duplicate)],
                "unchanged": target.difference.unchanged,
            }
            for target in targets_of(reading)
        },
    }


def _key(key: HsmKey) -> Document:
    return {name: value for name, value in key.to_dict().items() if name not in ("usable", "check_value_only")}
