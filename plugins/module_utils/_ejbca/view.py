# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EJBCA view: which keys EJBCA of one node shows. Data types and comparison without network. Private to keyops.utrust.

The view is what the application of the node sees. A key that EJBCA does not show can be in the HSM, and a key that EJBCA shows can be unusable.
"""

from __future__ import annotations

import typing as t

#: Each result with a view has this scope, so that nobody takes the view for the keys of the HSM.
SCOPE: t.Final = "ejbca"

State = t.Literal["present", "absent", "stale", "moved", "mismatched", "inactive", "unknown"]
STATES: t.Final[tuple[State, ...]] = t.get_args(State)


class ViewProblem(t.NamedTuple):
    """Why a part of the view is unknown. `code` is stable, `text` is for people and does not end with a period."""

    code: str
    text: str


class ViewKey(t.NamedTuple):
    """A row of a crypto token. A row without SubjectKeyID and without problem is a placeholder for a key that nobody generated.

    `alias` is the exact alias in printable form. `algorithm` and `specification` are for people only, because they change with the version of EJBCA.
    `subject_key_id` has 40 lowercase digits and identifies the public key. `fingerprint` is the key fingerprint, or None if it cannot be calculated.
    """

    alias: str
    algorithm: str
    specification: str
    subject_key_id: str | None
    fingerprint: str | None
    problem: str | None = None


class ViewToken(t.NamedTuple):
    """A crypto token. None stands for an unknown fact, also for keys that were not read or could not be read.

    `type` is the name of the class of EJBCA. `needs_authorization` is whether the HSM authorizes each use of a key (CP5).
    `reference` is the slot, and `reference_type` how it is named, for example by its label. Both are texts of the page.
    """

    id: int
    name: str
    type: str | None
    reference: str | None
    active: bool | None
    auto_activation: bool | None
    used: bool | None
    keys: tuple[ViewKey, ...] | None
    problem: ViewProblem | None = None
    needs_authorization: bool = False
    reference_type: str | None = None


class EjbcaView(t.NamedTuple):
    """The crypto tokens of one node as its EJBCA shows them, with version, host name and time of page 0."""

    version: str | None
    host_name: str | None
    server_time: str | None
    tokens: tuple[ViewToken, ...]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, t.Any]:
        """Return the view as it is in a result."""
        return {
            "scope": SCOPE,
            "version": self.version,
            "host_name": self.host_name,
            "server_time": self.server_time,
            "tokens": [_token_to_dict(token) for token in self.tokens],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, view: t.Mapping[str, t.Any]) -> EjbcaView:
        """Return the view of a result."""
        tokens = tuple(_token_from_dict(token) for token in view["tokens"])
        return cls(view["version"], view["host_name"], view["server_time"], tokens, tuple(view["warnings"]))


def _token_to_dict(token: ViewToken) -> dict[str, t.Any]:
    """Return the token as it is in a result. Jinja reads the name `keys` of a dictionary as its method, so the result has `token_keys`."""
    facts = token._asdict()
    keys, problem = facts.pop("keys"), token.problem
    return {
        **facts,
        "token_keys": None if keys is None else [key._asdict() for key in keys],
        "problem": None if problem is None else problem._asdict(),
    }


def _token_from_dict(token: t.Mapping[str, t.Any]) -> ViewToken:
    facts = dict(token)
    keys, problem = facts.pop("token_keys"), facts.pop("problem")
    return ViewToken(
        **facts,
        keys=None if keys is None else tuple(ViewKey(**key) for key in keys),
        problem=None if problem is None else ViewProblem(**problem),
    )


class KeyState(t.NamedTuple):
    """What the view of a node shows of one key pair of the source. `text` is the reason for people."""

    token_id: int
    token: str
    alias: str
    subject_key_id: str
    fingerprint: str | None
    state: State
    text: str


class ViewComparison(t.NamedTuple):
    """One state for each key pair of the source. `problems` name what nobody compared."""

    keys: tuple[KeyState, ...]
    problems: tuple[ViewProblem, ...]

    @property
    def in_sync(self) -> bool | None:
        """Whether the view of the node shows every key pair of the source. None if that is unknown."""
        states = {key.state for key in self.keys}
        if states - {"present", "unknown", "inactive"}:
            return False
        return None if self.problems or states - {"present"} else True


def compare_views(
    source: EjbcaView,
    node: EjbcaView,
    *,
    hsm_fingerprints: t.Collection[str] | None = None,
    identity_problem: str | None = None,
) -> ViewComparison:
    """Compare the view of a node with the view of the source, by public key first and by alias second.

    `hsm_fingerprints` are the key fingerprints in the HSM of the node, or None if the HSM was not read.
    `identity_problem` is why nobody knows which node responded. Then every state is `unknown`.
    """
    problems = [*_source_problems(source)]
    reason = identity_problem
    if reason is not None:
        problems.append(ViewProblem("ejbca_identity_unknown", reason))
    elif (difference := _different_ids(source, node)) is not None:
        reason = difference
        problems.append(ViewProblem("database_diverged", difference))
    tokens = {token.id: token for token in node.tokens}
    elsewhere = _only_on_node(source, node)
    states = []
    for token in source.tokens:
        for key in token.keys or ():
            if key.subject_key_id is None:  # a placeholder, or a problem of the source
                continue
            if reason is not None:
                found: tuple[State, str] = ("unknown", reason)
            else:
                found = _compare_key(key, tokens[token.id], elsewhere, hsm_fingerprints)
            states.append(KeyState(token.id, token.name, key.alias, key.subject_key_id, key.fingerprint, *found))
    return ViewComparison(tuple(states), tuple(problems))


def _source_problems(source: EjbcaView) -> t.Iterator[ViewProblem]:
    """Yield why the view of the source lacks keys. A token that nobody asked for has neither keys nor a problem."""
    for token in source.tokens:
        if token.keys is None and (token.problem is not None or token.active is False):
            text = token.problem.text if token.problem is not None else "the crypto token is inactive"
            yield ViewProblem("source_view_incomplete", f"crypto token {token.name} of the source: {text}")
        for key in token.keys or ():
            if key.subject_key_id is None and key.problem is not None:
                text = f"key {key.alias} in crypto token {token.name} of the source: {key.problem}"
                yield ViewProblem("source_view_incomplete", text)


def _different_ids(source: EjbcaView, node: EjbcaView) -> str | None:
    """Return how the crypto token ids differ, or None. All nodes of a cluster share one database, so they list the same ids."""
    of_source, of_node = {token.id for token in source.tokens}, {token.id for token in node.tokens}
    if of_source == of_node:
        return None
    parts = [
        f"{text} {', '.join(map(str, sorted(ids)))}"
        for text, ids in (("only the source lists", of_source - of_node), ("only the node lists", of_node - of_source))
        if ids
    ]
    return f"the crypto token ids differ: {' and '.join(parts)}"


def _only_on_node(source: EjbcaView, node: EjbcaView) -> dict[str, tuple[str, str]]:
    """Return token and alias of each public key that the node shows in a crypto token in which the source does not show it.

    Crypto tokens of one slot show the same keys, so a key that both show in a second crypto token did not move there.
    """
    of_source = {(token.id, key.subject_key_id) for token in source.tokens for key in token.keys or ()}
    return {
        key.subject_key_id: (token.name, key.alias)
        for token in node.tokens
        for key in token.keys or ()
        if key.subject_key_id is not None and (token.id, key.subject_key_id) not in of_source
    }


def _compare_key(
    key: ViewKey,
    token: ViewToken,
    elsewhere: t.Mapping[str, tuple[str, str]],
    hsm_fingerprints: t.Collection[str] | None,
) -> tuple[State, str]:
    """Return state and reason of a key of the source in the same crypto token of the node."""
    if token.active is False:
        return "inactive", "the crypto token is inactive on this node, so its keys are unknown"
    if token.keys is None:
        return "unknown", token.problem.text if token.problem is not None else "the crypto token was not read"
    same_key = [other for other in token.keys if other.subject_key_id == key.subject_key_id]
    same_alias = [other for other in token.keys if other.alias == key.alias]
    if same_key:
        return _compare_same_key(key, same_key, same_alias)
    other = same_alias[0] if same_alias else None
    if other is not None and other.subject_key_id is None and other.problem is not None:
        return "unknown", other.problem
    if (place := elsewhere.get(str(key.subject_key_id))) is not None:
        return "moved", f"the node shows this public key in crypto token {place[0]} with alias {place[1]}"
    if other is not None and other.subject_key_id is not None:
        return "mismatched", (
            "the alias names another public key on this node. The view can also be old if a key was replaced under the same alias"
        )
    return _not_shown(key, hsm_fingerprints)


def _compare_same_key(key: ViewKey, same_key: list[ViewKey], same_alias: list[ViewKey]) -> tuple[State, str]:
    exact = next((other for other in same_key if other.alias == key.alias), None)
    if exact is None:
        text = f"the node shows this public key with alias {same_key[0].alias}"
        if any(other.subject_key_id is not None for other in same_alias):
            text += ", and the alias of the source names another public key"
        return "moved", text
    if None not in (key.fingerprint, exact.fingerprint) and key.fingerprint != exact.fingerprint:
        return "mismatched", "the SubjectKeyIDs are equal but the key fingerprints differ"
    return "present", "the node shows the same alias and the same public key"


def _not_shown(key: ViewKey, hsm_fingerprints: t.Collection[str] | None) -> tuple[State, str]:
    if hsm_fingerprints is None or key.fingerprint is None:
        return "absent", (
            "EJBCA does not show the key. The keys of the HSM are unknown, so the view can be old or the key can be missing in the HSM"
        )
    if key.fingerprint in hsm_fingerprints:
        return "stale", "the key is in the HSM, but EJBCA does not show it yet"
    return "absent", "EJBCA does not show the key, and the HSM does not list it"
