# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the EJBCA views of synchronized targets show the added keys: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.key_view import REMEDIES
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.traffic import OPERATOR_REMEDY

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import ClusterView, NodeView
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import KeyState, State

#: States that a view can leave by itself or by a reactivation.
WAITING: t.Final[frozenset[State]] = frozenset({"absent", "stale"})
#: Problems of an EJBCA that can still start after the import has restarted its node.
STARTING: t.Final = frozenset({"ejbca_unreachable", "ejbca_page_refused", "node_read_timeout", "node_unreachable"})
FAILING: t.Final = "token_activation_failing"
#: Remedy for a crypto token that an import has closed.
ACTIVATE: t.Final = "Activate the crypto token in EJBCA's Admin Web of this node"
#: Problems of a whole node. Nothing can be verified then.
OF_NODE: t.Final = ("ejbca_identity_unknown", "database_diverged", "source_view_unknown")


class HostView(t.NamedTuple):
    """What the view of one target shows. `expected` counts the added keys that the view of the source shows.

    `different` are those of them that the target does not show as the source does. `problem` is code and reason why nothing is known.
    """

    host: str
    expected: int
    different: tuple[KeyState, ...]
    problem: tuple[str, str] | None
    left_out: bool = False
    #: Why no later task of the run views the node or the source again.
    failing: str | None = None
    #: Whether a view that failed requested the list of crypto tokens. Each list can try a PIN.
    listed_in_vain: bool = False
    #: Crypto tokens that are active now, as id and name.
    active: tuple[tuple[int, str], ...] = ()
    #: Names of active crypto tokens that EJBCA does not activate by itself.
    unattended: tuple[str, ...] = ()
    #: Names of crypto tokens that were active before the import and are not active now.
    closed: tuple[str, ...] = ()
    #: Whether a person stands by who activates crypto tokens.
    operator_present: bool = False

    @property
    def verified(self) -> bool | None:
        """None if there was nothing to verify."""
        if self.left_out or not (self.expected or self.problem or self.closed):
            return None
        return not (self.different or self.problem or self.closed)

    @property
    def can_follow(self) -> bool:
        """Whether waiting can help."""
        if self.problem is not None:
            return self.problem[0] in STARTING and not self.listed_in_vain
        # Reading again would try the PIN of a crypto token with auto-activation again.
        by_people = self.operator_present and self.failing is None
        if self.closed and not by_people:
            return False
        waiting = {*WAITING, "inactive"} if by_people else WAITING
        return all(key.state in waiting for key in self.different)

    def line(self) -> str:
        if self.left_out:
            return f"{self.host}: EJBCA view: not verified, because the variable utrust_ejbca_view is false"
        if self.problem is not None:
            return f"{self.host}: EJBCA view: UNKNOWN: {self.problem[1]} [{self.problem[0]}]"
        if self.closed:
            names = ", ".join(self.closed)
            return f"{self.host}: EJBCA view: TOKEN INACTIVE: crypto token {names} was active before the import and is not active now. {ACTIVATE}"
        if self.different:
            keys = ". ".join(
                f"{key.alias} in {key.token}: {key.state}: {key.text}. {REMEDIES[key.state]}" for key in self.different
            )
            return f"{self.host}: EJBCA view: NOT VERIFIED: {keys}"
        if not self.expected:
            return f"{self.host}: EJBCA view: EJBCA of the source shows none of the added keys, so nothing was verified"
        return f"{self.host}: EJBCA view: verified: {self.expected} added key(s) as on the source"


def added_keys(planned: t.Mapping[str, t.Any], host: str) -> frozenset[str]:
    """Return the key fingerprints that the plan adds to a target. `planned` is the result of utrust_sync_plan."""
    difference = Difference.from_dict(planned["targets"][host]["difference"])
    new = [*difference.missing, *(pair.source_key for pair in difference.mismatched)]
    return frozenset(key.fingerprint for key in new)


def views_of(
    view: ClusterView,
    planned: t.Mapping[str, t.Any],
    hosts: t.Sequence[str],
    *,
    every_key: bool = False,
    active_tokens: t.Mapping[str, t.Sequence[t.Sequence[t.Any]]] | None = None,
    operator_present: bool = False,
) -> list[HostView]:
    """Return what the view of each target shows of the keys that the plan adds, or with `every_key` of all keys of the source.

    `active_tokens` are the crypto tokens of each target that were active before, as id and name.
    """
    nodes = {node.host: node for node in view.nodes}
    source = nodes[view.source]
    of_source = [
        key.fingerprint for token in (view.source_view.tokens if view.source_view else ()) for key in token.keys or ()
    ]
    found = []
    for host in hosts:
        node = nodes[host]
        added = frozenset(filter(None, of_source)) if every_key else added_keys(planned, host)
        expected = sum(fingerprint in added for fingerprint in of_source)
        different = tuple(key for key in node.different if key.fingerprint in added)
        in_vain = any(each.listed and not each.read for each in (source, node))
        found.append(
            HostView(
                host,
                expected,
                different,
                _problem(source, node),
                node.left_out,
                _failing(source, node),
                in_vain,
                active=tuple((token.id, token.name) for token in node.tokens if token.active),
                unattended=tuple(token.name for token in node.tokens if token.active and not token.auto_activation),
                closed=_closed(node, (active_tokens or {}).get(host, ())),
                operator_present=operator_present,
            )
        )
    return found


def _closed(node: NodeView, before: t.Sequence[t.Sequence[t.Any]]) -> tuple[str, ...]:
    """Return the names of crypto tokens that are not active any more. A view that was not read has a problem of its own."""
    active = {token.id for token in node.tokens if token.active}
    return tuple(str(name) for number, name in before if number not in active) if node.read else ()


def _problem(source: NodeView, node: NodeView) -> tuple[str, str] | None:
    """Return why nothing is known about the keys of a target."""
    for each in (source, node):
        unread = next(iter(each.problems), None)
        if not each.read:
            code, text = (unread.code, unread.text) if unread else ("ejbca_view_unknown", "the view was not read")
            return code, text if each is node else f"the view of the source: {text}"
    return next(((problem.code, problem.text) for problem in node.problems if problem.code in OF_NODE), None)


def _failing(*nodes: NodeView) -> str | None:
    return next((found.text for node in nodes for found in node.problems if found.code == FAILING), None)


def refusals(views: t.Sequence[HostView]) -> list[Problem]:
    """Return why no key may be imported: a view that can never show the added keys. Nothing was changed yet."""
    problems = []
    for view in views:
        if view.left_out:
            continue
        if view.problem is not None:
            problems.append(Problem(view.problem[0], view.host, view.problem[1], "Or set key_sync_ejbca_view: false"))
        elif view.failing is not None:
            # The node is not viewed again in this run, so the keys could not be verified after the import.
            problems.append(Problem(FAILING, view.host, view.failing, "Or set key_sync_ejbca_view: false"))
        if view.unattended and not view.operator_present:
            text = f"crypto token {', '.join(view.unattended)} has no auto-activation, so it can stay inactive after an import"
            problems.append(Problem("operator_required", view.host, text, OPERATOR_REMEDY))
        problems += [
            Problem(
                "ejbca_view_unknown" if key.state in ("unknown", "inactive") else "ejbca_view_not_verified",
                view.host,
                f"EJBCA view: {key.alias} in {key.token}: {key.state}: {key.text}",
                REMEDIES[key.state],
            )
            for key in view.different
            if key.state not in WAITING
        ]
    return problems


def verdict(views: t.Sequence[HostView]) -> dict[str, t.Any]:
    """Return the result after the imports. A target whose view does not show the keys, or whose crypto token is inactive now, is a failure."""
    lines = [view.line() for view in views]
    failed = [view for view in views if view.verified is False]
    result: dict[str, t.Any] = {
        "verified": not failed and any(view.verified for view in views),
        "views": lines,
        "key_states": [
            {
                "node": view.host,
                "crypto_token": key.token,
                "alias": key.alias,
                "fingerprint": key.fingerprint,
                "state": key.state,
            }
            for view in views
            for key in view.different
        ],
        "msg": "EJBCA views of the targets",
        "_ansible_verbose_always": True,
    }
    if not failed:
        return result
    known = [view for view in failed if view.problem is None]
    code = "ejbca_view_not_verified" if known else "ejbca_view_unknown"
    text = "have the keys in the HSM, but EJBCA does not show them"
    if any(view.closed for view in failed):
        code, text = "token_inactive_after_import", "have the keys in the HSM, but an import has closed a crypto token"
    reasons = ". ".join(view.line() for view in failed)
    return {
        **result,
        "failed": True,
        "code": code,
        "msg": f"verifying the EJBCA views: {len(failed)} target(s) {text}. Later batches were not imported. {reasons}",
    }
