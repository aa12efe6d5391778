# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EJBCA views of the nodes of a cluster, compared with that of the source. Pure functions. Private to keyops.utrust.

The keys of a view are folded into their difference from the view of the source, so that a result stays small with many nodes and keys.
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity, identity_problems
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import (
    SCOPE,
    EjbcaView,
    KeyState,
    ViewComparison,
    ViewProblem,
    compare_views,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewReading


class TokenState(t.NamedTuple):
    """A crypto token of one node. None stands for an unknown fact."""

    id: int
    name: str
    type: str | None
    reference: str | None
    active: bool | None
    auto_activation: bool | None
    used: bool | None
    key_count: int | None


@dc.dataclass(frozen=True)
class NodeView:
    """The EJBCA view of one node. `different` has the keys of the source that the node does not show as the source does, `present` counts the others.

    `compared` is whether the view was compared with that of the source. `identity_unknown` is whether nobody knows which node responded.
    `listed` is whether the list of crypto tokens was requested, which can try the PIN of a crypto token.
    """

    host: str
    read: bool
    left_out: bool
    compared: bool
    identity: NodeIdentity | None = None
    identity_unknown: bool = False
    version: str | None = None
    server_time: str | None = None
    tokens: tuple[TokenState, ...] = ()
    present: int = 0
    different: tuple[KeyState, ...] = ()
    problems: tuple[ViewProblem, ...] = ()
    warnings: tuple[str, ...] = ()
    listed: bool = False

    @property
    def in_sync(self) -> bool | None:
        """Whether EJBCA of the node shows every key pair that EJBCA of the source shows. None if that is unknown."""
        return ViewComparison(self.different, self.problems).in_sync if self.compared else None

    def to_dict(self) -> dict[str, t.Any]:
        identity = self.identity._asdict() if self.identity is not None else None
        return {
            **{name: getattr(self, name) for name in PLAIN},
            "in_sync": self.in_sync,
            "identity": {**identity, "unknown": self.identity_unknown} if identity is not None else None,
            "tokens": [token._asdict() for token in self.tokens],
            "different": [key._asdict() for key in self.different],
            "problems": [problem._asdict() for problem in self.problems],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, host: str, document: t.Mapping[str, t.Any]) -> NodeView:
        identity = dict(document["identity"]) if document["identity"] is not None else None
        unknown = identity.pop("unknown") if identity is not None else False
        return cls(
            host,
            **{name: document[name] for name in PLAIN},
            identity=NodeIdentity(**identity) if identity is not None else None,
            identity_unknown=unknown,
            tokens=tuple(TokenState(**token) for token in document["tokens"]),
            different=tuple(KeyState(**key) for key in document["different"]),
            problems=tuple(ViewProblem(**problem) for problem in document["problems"]),
            warnings=tuple(document["warnings"]),
        )


#: Members of a node that are the same in a result.
PLAIN: t.Final = ("read", "left_out", "compared", "version", "server_time", "present", "listed")


@dc.dataclass(frozen=True)
class ClusterView:
    """The EJBCA views of all nodes. `source_view` has the keys of the source, or None if its view was not read."""

    source: str
    source_view: EjbcaView | None
    nodes: tuple[NodeView, ...]

    @property
    def unknown_nodes(self) -> list[str]:
        """Nodes whose view is unknown, without those that a person has left out."""
        return [node.host for node in self.nodes if node.in_sync is None and not node.left_out]

    def to_dict(self) -> dict[str, t.Any]:
        return {
            "scope": SCOPE,
            "source": self.source,
            "in_sync": all(node.in_sync for node in self.nodes),
            "out_of_sync": [node.host for node in self.nodes if node.in_sync is False],
            "unknown_nodes": self.unknown_nodes,
            "left_out": [node.host for node in self.nodes if node.left_out],
            "source_view": self.source_view.to_dict() if self.source_view is not None else None,
            "nodes": {node.host: node.to_dict() for node in self.nodes},
        }

    @classmethod
    def from_dict(cls, document: t.Mapping[str, t.Any]) -> ClusterView:
        view = document["source_view"]
        nodes = tuple(NodeView.from_dict(host, node) for host, node in document["nodes"].items())
        return cls(document["source"], EjbcaView.from_dict(view) if view is not None else None, nodes)


def fold_views(
    source: str, readings: t.Mapping[str, ViewReading], hsm_fingerprints: t.Callable[[str], t.Collection[str] | None]
) -> ClusterView:
    """Compare the views with the view of the source. `readings` has the nodes by their names in the inventory.

    `hsm_fingerprints` returns the key fingerprints in the HSM of a node, or None if the keys of its HSM are unknown.
    """
    identities = {host: reading.identity for host, reading in readings.items() if reading.identity is not None}
    unknown = dict.fromkeys(set(readings) - set(identities), "the server did not show its identity")
    unknown |= identity_problems(identities)
    source_view = readings[source].view
    nodes = tuple(
        _fold(host, reading, source, source_view, unknown.get(host), unknown.get(source), hsm_fingerprints)
        for host, reading in readings.items()
    )
    return ClusterView(source, source_view, nodes)


def _fold(
    host: str,
    reading: ViewReading,
    source: str,
    source_view: EjbcaView | None,
    identity_problem: str | None,
    source_problem: str | None,
    hsm_fingerprints: t.Callable[[str], t.Collection[str] | None],
) -> NodeView:
    view = reading.view
    if view is None:
        problems = (reading.problem,) if reading.problem is not None else ()
        return NodeView(
            host, False, reading.left_out, False, reading.identity, problems=problems, listed=reading.listed
        )
    node = dc.replace(_not_compared(host, reading, view), identity_unknown=identity_problem is not None)
    if source_view is None:
        text = f"the EJBCA view of the source {source} is unknown, so nothing was compared"
        return dc.replace(node, problems=(*node.problems, ViewProblem("source_view_unknown", text)))
    found = compare_views(
        source_view, view, hsm_fingerprints=hsm_fingerprints(host), identity_problem=identity_problem or source_problem
    )
    different = tuple(key for key in found.keys if key.state != "present")
    return dc.replace(
        node,
        compared=True,
        present=len(found.keys) - len(different),
        different=different,
        problems=tuple(dict.fromkeys((*found.problems, *node.problems))),
    )


def _not_compared(host: str, reading: ViewReading, view: EjbcaView) -> NodeView:
    """Return what the view of a node says without the view of the source."""
    return NodeView(
        host,
        read=True,
        left_out=False,
        compared=False,
        identity=reading.identity,
        version=view.version,
        server_time=view.server_time,
        tokens=_tokens(view),
        problems=tuple(token.problem for token in view.tokens if token.problem is not None),
        warnings=(*view.warnings, *_not_verified(view)),
        listed=reading.listed,
    )


def _tokens(view: EjbcaView) -> tuple[TokenState, ...]:
    """Return the crypto tokens without their keys."""
    return tuple(
        TokenState(
            **{name: getattr(token, name) for name in TokenState._fields if name != "key_count"},
            key_count=_count(token.keys),
        )
        for token in view.tokens
    )


def _count(keys: t.Sequence[t.Any] | None) -> int | None:
    """Return the number of key pairs without placeholders."""
    return None if keys is None else sum(key.subject_key_id is not None for key in keys)


def _not_verified(view: EjbcaView) -> t.Iterator[str]:
    """Yield a warning for each key whose public key could not be verified or has no key fingerprint."""
    for token in view.tokens:
        for key in token.keys or ():
            if key.problem is not None:
                yield f"key {key.alias} in crypto token {token.name}: {key.problem}"
