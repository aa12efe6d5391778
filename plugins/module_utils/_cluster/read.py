# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the nodes of a cluster: the source first, then all nodes that have joined, in parallel. Private to keyops.utrust.

A failed reading is a result of its node. A node that the source does not list as joined is never contacted: a node that was contacted can no longer join.
The keys of a node are folded into their difference from the source and dropped, so that a result stays small with many nodes and keys.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN, HsmKey, Node
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.node_job import Found, NodeJob
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Job, Limits, run_all
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import ClusterView, fold_views
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewReading
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError, raise_for_problems
from ansible_collections.keyops.utrust.plugins.module_utils._keys import (
    Difference,
    compare,
    compare_with_itself,
    keys_digest,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import (
    check_no_node_twice,
    check_same_scope,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    check_identity,
    clock_skew,
    describe_count,
    describe_mbk,
    describe_state,
    read_keys,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewSource


#: Problems of a view for which the keys of the view are not those of the node.
UNUSABLE_VIEW: t.Final = frozenset({"ejbca_identity_unknown", "database_diverged"})


class NodeAddress(t.NamedTuple):
    """A node to read. `host` is its name in the inventory, `name` the name that the node must report. `open` sends nothing yet.

    `view` is the EJBCA of the node, or None if nobody asked for its view.
    """

    host: str
    name: str
    open: t.Callable[[], Appliance]
    view: ViewSource | None = None


@dc.dataclass(frozen=True)
class NodeReading:
    """What was read from one node. `node` is missing if its facts could not be read, and `problem` is why facts or keys could not be read.

    `difference` compares the keys of the node with those of the source. It is missing if keys were not read. `clock_skew` is in seconds.
    """

    host: str
    name: str
    node: Node | None = None
    difference: Difference | None = None
    problem: Problem | None = None
    clock_skew: float | None = None

    @property
    def in_sync(self) -> bool | None:
        """Whether the node holds exactly the keys of the source and can use them. None if unknown."""
        return self.difference.in_sync if self.difference is not None else None

    @property
    def why_unknown(self) -> str | None:
        """Return why some or all keys are unknown, or None."""
        if self.problem is not None:
            return self.problem.text
        return self.difference.why_unknown if self.difference is not None else None

    def to_dict(self) -> dict[str, t.Any]:
        return {
            "name": self.name,
            "node": {**self.node.to_dict(), "clock_skew": self.clock_skew} if self.node is not None else None,
            "in_sync": self.in_sync,
            "difference": self.difference.to_dict() if self.difference is not None else None,
            "problem": self.problem.to_dict() if self.problem is not None else None,
        }

    @classmethod
    def from_dict(cls, host: str, document: t.Mapping[str, t.Any]) -> NodeReading:
        node, difference, problem = (document[name] for name in ("node", "difference", "problem"))
        return cls(
            host,
            str(document["name"]),
            Node.from_dict(node) if node is not None else None,
            Difference.from_dict(difference) if difference is not None else None,
            Problem(**problem) if problem is not None else None,
            node["clock_skew"] if node is not None else None,
        )


@dc.dataclass(frozen=True)
class ClusterReading:
    """All readings of a cluster. `hsm_keys` are the keys of the source, or None if they were not read.

    `view` has the EJBCA views of the nodes. It is missing if nobody asked for them.
    """

    source: NodeReading
    others: tuple[NodeReading, ...]
    hsm_keys: tuple[HsmKey, ...] | None
    view: ClusterView | None = None

    @property
    def readings(self) -> tuple[NodeReading, ...]:
        return (self.source, *self.others)

    @property
    def source_node(self) -> Node:
        return t.cast(Node, self.source.node)

    @property
    def members_not_read(self) -> tuple[str, ...]:
        """Joined members that no reading is about: hosts outside of --limit, or nodes that are not in the inventory."""
        names = {reading.name for reading in self.readings}
        return tuple(member.node for member in self.source_node.members if member.joined and member.node not in names)

    def to_dict(self) -> dict[str, t.Any]:
        return {
            "source": self.source.host,
            "in_sync": all(reading.in_sync for reading in self.readings),
            "out_of_sync": [reading.host for reading in self.readings if reading.in_sync is False],
            "unknown_nodes": [reading.host for reading in self.readings if reading.in_sync is None],
            "members_not_read": list(self.members_not_read),
            "summary": self.summary(),
            "nodes": {reading.host: reading.to_dict() for reading in self.readings},
            "key_scope": self.source_node.key_scope,
            "hsm_keys": [key.to_dict() for key in self.hsm_keys] if self.hsm_keys is not None else None,
            "ejbca_view": self.view.to_dict() if self.view is not None else None,
        }

    def summary(self) -> list[str]:
        """Return a line for each node, and a line for each member that was not read."""
        width = max(len(reading.host) for reading in self.readings)
        lines = [f"{reading.host.ljust(width)}  {_describe(reading)}" for reading in self.readings]
        lines += [f"{name}: a joined member that was not read" for name in self.members_not_read]
        nodes = {reading.host: reading.node for reading in self.readings if reading.node is not None}
        return lines + [f"{problem.node}: {problem.text} [{problem.code}]" for problem in check_no_node_twice(nodes)]

    @classmethod
    def from_dict(cls, document: t.Mapping[str, t.Any]) -> ClusterReading:
        """Return the reading in a result of utrust_cluster_info. Raises KeyError or TypeError for another document."""
        readings = [NodeReading.from_dict(host, reading) for host, reading in document["nodes"].items()]
        hsm_keys, view = document["hsm_keys"], document["ejbca_view"]
        return cls(
            next(reading for reading in readings if reading.host == document["source"]),
            tuple(reading for reading in readings if reading.host != document["source"]),
            tuple(HsmKey.from_dict(key) for key in hsm_keys) if hsm_keys is not None else None,
            ClusterView.from_dict(view) if view is not None else None,
        )


def read_cluster(
    source: NodeAddress, others: t.Sequence[NodeAddress], limits: Limits, *, keys: bool = True
) -> ClusterReading:
    """Read the source, then every other node that has joined. Without `keys` no list of keys is read.

    Raises UtrustError if the facts of the source cannot be read: nobody knows then which nodes have joined.
    If only its keys cannot be listed, the facts of all nodes are read and nothing is compared.
    """
    first = _run([source], limits, functools.partial(_read_source, keys=keys), is_source=True)[source.host]
    if isinstance(first, UtrustError):
        raise first
    if isinstance(first.result, UtrustError):
        raise first.result
    reading, hsm_keys = first.result
    joined = {member.node for member in t.cast(Node, reading.node).members if member.joined}
    compare_with = _compare_with(t.cast(Node, reading.node), hsm_keys) if hsm_keys is not None else None
    found = _run(
        [address for address in others if address.name in joined],
        limits,
        functools.partial(_read_node, compare_with=compare_with),
    )
    outcomes = {address.host: _outcome(address, found.get(address.host), source.name) for address in others}
    cluster = ClusterReading(reading, tuple(outcome for outcome, dummy in outcomes.values()), hsm_keys)
    if source.view is None and not any(address.view for address in others):
        return cluster
    views = {source.host: first.view or ViewReading(), **{host: view for host, (dummy, view) in outcomes.items()}}
    cluster = dc.replace(cluster, view=fold_views(source.host, views, functools.partial(_hsm_fingerprints, cluster)))
    return dc.replace(
        cluster,
        source=_with_view_problem(cluster, cluster.source),
        others=tuple(_with_view_problem(cluster, each) for each in cluster.others),
    )


T = t.TypeVar("T")


def _run(
    addresses: t.Iterable[NodeAddress],
    limits: Limits,
    read: t.Callable[[NodeAddress, Appliance], T],
    *,
    is_source: bool = False,
) -> dict[str, Found[T] | UtrustError]:
    jobs: list[Job[Found[T]]] = []
    for address in addresses:
        job = NodeJob(address.open, functools.partial(read, address), address.view, is_source=is_source)
        jobs.append(Job(address.host, job.run, job.abort, job.partial))
    return run_all(jobs, limits)


def _with_view_problem(cluster: ClusterReading, reading: NodeReading) -> NodeReading:
    """Return the reading of a node without its keys if they come from a view of which nobody knows the node or the database."""
    if cluster.view is None or reading.node is None or not reading.node.sees_only_ejbca:
        return reading
    view = next(each for each in cluster.view.nodes if each.host == reading.host)
    found = next((problem for problem in view.problems if problem.code in UNUSABLE_VIEW), None)
    if found is None:
        return reading
    problem = Problem(found.code, reading.host, found.text, "check the address of EJBCA of each node")
    return dc.replace(reading, difference=None, problem=problem)


def _hsm_fingerprints(cluster: ClusterReading, host: str) -> frozenset[str] | None:
    """Return the key fingerprints in the HSM of a node, or None if some of them are unknown."""
    difference = next(reading.difference for reading in cluster.readings if reading.host == host)
    if cluster.source_node.sees_only_ejbca or cluster.hsm_keys is None or difference is None or difference.undetermined:
        return None
    return frozenset(key.fingerprint for key in difference.target_of(cluster.hsm_keys))


def _read_source(
    address: NodeAddress, appliance: Appliance, *, keys: bool
) -> tuple[NodeReading, tuple[HsmKey, ...] | None]:
    node, skew = _read_facts(address, appliance)
    hsm_keys = difference = problem = None
    if keys:
        try:
            hsm_keys = read_keys(appliance, node.name)
            difference = compare_with_itself(hsm_keys)
        except UtrustError as exc:
            problem = _problem(address, exc)
    return NodeReading(address.host, address.name, node, difference, problem, skew), hsm_keys


def _read_node(
    address: NodeAddress, appliance: Appliance, *, compare_with: t.Callable[[Node, Appliance], Difference] | None
) -> NodeReading:
    node, skew = _read_facts(address, appliance)
    difference = problem = None
    if compare_with is not None:
        try:
            difference = compare_with(node, appliance)
        except UtrustError as exc:
            problem = _problem(address, exc)
    return NodeReading(address.host, address.name, node, difference, problem, skew)


def _problem(address: NodeAddress, error: UtrustError) -> Problem:
    if listed := error.details.get("problems"):
        return Problem(error.code, address.host, listed[0]["text"], listed[0]["remedy"])
    return Problem(error.code, address.host, " ".join(str(error).split()), "")


def _read_facts(address: NodeAddress, appliance: Appliance) -> tuple[Node, float | None]:
    node = appliance.node()
    skew = clock_skew(node)  # right after the node was read
    raise_for_problems(f"reading {address.host}", check_identity(node, address.name))
    return node, skew


def _compare_with(source: Node, hsm_keys: tuple[HsmKey, ...]) -> t.Callable[[Node, Appliance], Difference]:
    """Return the comparison with the keys of the source. A node with the same digest holds the same keys, so its list is not read."""
    digest = keys_digest(hsm_keys)
    same = compare(hsm_keys, [dc.replace(key, usable=True) for key in hsm_keys])
    none_usable = compare(hsm_keys, [dc.replace(key, usable=False) for key in hsm_keys])

    def difference(node: Node, appliance: Appliance) -> Difference:
        raise_for_problems(f"comparing {node.name} with {source.name}", check_same_scope(node, source))
        if node.has_keys(digest) and node.usable_alike:
            return none_usable if node.unusable_key_count and node.key_count else same
        return compare(hsm_keys, read_keys(appliance, node.name))

    return difference


def _outcome(
    address: NodeAddress, found: Found[NodeReading] | UtrustError | None, source: str
) -> tuple[NodeReading, ViewReading]:
    """Return the reading of a node and its view. A node without a result has not joined, and a result without a view exceeded its time."""
    if found is None:
        problem = Problem(
            "node_not_joined",
            address.host,
            f"{address.name} is not a joined member of the cluster of {source}, so it was not contacted",
            "let the node join in Webconf, page Cluster, or remove the host from the play. With transport assisted, set utrust_declared of the host",
        )
    elif isinstance(found, UtrustError):
        problem = _problem(address, found)
    elif isinstance(found.result, UtrustError):
        return NodeReading(
            address.host, address.name, problem=_problem(address, found.result)
        ), found.view or ViewReading()
    else:
        return found.result, found.view or ViewReading()
    view = ViewReading(problem=ViewProblem(problem.code, problem.text))
    return NodeReading(address.host, address.name, problem=problem), view


def _describe(reading: NodeReading) -> str:
    node = reading.node
    if node is None:
        return f"UNKNOWN: {reading.problem.text if reading.problem is not None else 'the node was not read'}"
    keys = {True: ", in sync", False: ", DRIFT", None: ""}[reading.in_sync]
    why = reading.why_unknown
    unusable = "" if node.unusable_key_count is None else f", {node.unusable_key_count} unusable"
    scope = " in its EJBCA view" if node.sees_only_ejbca and node.key_count is not None else ""
    return (
        f"{describe_state(node)}, MBK {describe_mbk(node)}, {describe_count(node.key_count)}{scope}{unusable}{keys}, "
        f"appliance {node.appliance_version or UNKNOWN}, HSM {node.hsm_serial}, firmware {node.hsm_firmware or UNKNOWN}"
        + (f". Keys UNKNOWN: {why}" if why else "")
    )
