# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find one key of the source in the EJBCA view of a node: pure functions. Private to keyops.utrust.

A state other than `present` and `unknown` is a finding: it closes a gate, whatever a person confirms. `unknown` says nothing about the key.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import EjbcaView, ViewProblem, compare_views
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import (
        State,
        ViewKey,
        ViewToken,
    )

#: The crypto token of Java reads its keys only when it is activated, so waiting does not help.
READS_AT_ACTIVATION: t.Final = "PKCS11CryptoToken"

REMEDIES: t.Final[t.Mapping[State, str]] = {
    "present": "",
    "absent": "Check the slot of the crypto token and the certificate object of the key, then run again",
    "stale": "Wait longer (ejbca_view_timeout), or reactivate the crypto token on this node",
    "moved": "Correct the label of the certificate object of the key on this node. A CA finds its key by the alias",
    "mismatched": "Do not use the key. Find out which key the alias names, and reactivate the crypto token if a key was replaced",
    "inactive": "Activate the crypto token in the Admin Web of this node. Check its PIN first",
    "unknown": "Correct the reason, or prove the key in another way",
}


class SourceEjbca(t.NamedTuple):
    """What an earlier task read from EJBCA of the source. `problem` is why the view is missing.

    `tests` has result and reason of each test signature, by crypto token and alias.
    """

    view: EjbcaView | None
    identity: NodeIdentity | None
    tests: t.Mapping[tuple[str, str], tuple[str, str]]
    problem: str | None

    @classmethod
    def from_result(cls, given: t.Mapping[str, t.Any]) -> SourceEjbca:
        """Return the member `ejbca` of a result. Raises UtrustError (`option_invalid`)."""
        try:
            view, identity = given.get("view"), given.get("identity")
            tests = given.get("signature_tests") or ()
            return cls(
                EjbcaView.from_dict(view) if view else None,
                NodeIdentity(*(identity[name] for name in NodeIdentity._fields)) if identity else None,
                {(test["crypto_token"], test["alias"]): (test["result"], test["reason"]) for test in tests},
                given.get("problem"),
            )
        except (AttributeError, KeyError, TypeError) as exc:
            raise UtrustError(
                "source_ejbca: the value is not the member ejbca of a result of this module. Nothing was done. Correct the option",
                code="option_invalid",
            ) from exc


class KeyQuery(t.NamedTuple):
    """A key of the source: key fingerprint and label, and the name of the crypto token that uses it. All texts are printable."""

    fingerprint: str
    label: str
    crypto_token: str


class KeyFound(t.NamedTuple):
    """What a view shows of a key. `alias` is the alias of the key on the source, if its view shows the key.

    `diverged` is whether the nodes have different crypto token ids, so they do not share a database.
    """

    state: State
    text: str
    alias: str | None = None
    diverged: bool = False

    @property
    def detail(self) -> str:
        """Reason and remedy for people."""
        remedy = REMEDIES[self.state]
        if self.diverged:
            remedy = "All nodes of a cluster must share one database. Check the database before anything else"
        return f"EJBCA view: {self.state}: {self.text}" + (f". {remedy}" if remedy else "")


def token_of(view: EjbcaView, name: str) -> ViewToken | None:
    """Return the crypto token with this name, or None."""
    return next((token for token in view.tokens if token.name == name), None)


def find_on_source(view: EjbcaView, query: KeyQuery, hsm_fingerprints: t.Collection[str]) -> KeyFound:
    """Return what the view of the source shows of a key in its own HSM."""
    token = token_of(view, query.crypto_token)
    if token is None:
        return KeyFound("unknown", f"EJBCA lists no crypto token {query.crypto_token}")
    if token.active is False:
        return KeyFound("inactive", _problem(token) or "the crypto token is inactive on this node")
    if token.keys is None:
        return KeyFound("unknown", _problem(token) or "the crypto token was not read")
    same_key = [key for key in token.keys if key.fingerprint == query.fingerprint]
    if same_key:
        return _same_key_on_source(same_key, query)
    same_alias = next((key for key in token.keys if key.alias == query.label), None)
    if same_alias is not None and same_alias.fingerprint is not None:
        return KeyFound("mismatched", f"the alias {query.label} names another public key ({same_alias.fingerprint})")
    if same_alias is not None and (same_alias.problem or same_alias.subject_key_id):
        return KeyFound("unknown", same_alias.problem or "the public key was not verified")
    if query.fingerprint in hsm_fingerprints:
        return KeyFound("stale", "the key is in the HSM, but EJBCA does not show it yet")
    return KeyFound("absent", "EJBCA does not show the key, and the HSM does not list it")


def _same_key_on_source(same_key: t.Sequence[ViewKey], query: KeyQuery) -> KeyFound:
    aliases = sorted(key.alias for key in same_key)
    if query.label in aliases:
        return KeyFound("present", "EJBCA shows the public key of the source with this alias", query.label)
    if len(aliases) == 1:
        return KeyFound("present", f"EJBCA shows the public key of the source with alias {aliases[0]}", aliases[0])
    return KeyFound("unknown", f"EJBCA shows the public key with several aliases: {', '.join(aliases)}")


def find_on_node(
    source: EjbcaView,
    node: EjbcaView,
    query: KeyQuery,
    hsm_fingerprints: t.Collection[str] | None,
    identity_problem: str | None,
) -> KeyFound:
    """Return what the view of another node shows of a key. Source and node must show the public key of the HSM of the source.

    `identity_problem` is why nobody knows which node responded.
    """
    of_source = find_on_source(source, query, {query.fingerprint})
    comparison = compare_views(source, node, hsm_fingerprints=hsm_fingerprints, identity_problem=identity_problem)
    if any(problem.code == "database_diverged" for problem in comparison.problems):
        text = next(problem.text for problem in comparison.problems if problem.code == "database_diverged")
        return KeyFound("unknown", text, diverged=True)
    if identity_problem is not None:
        return KeyFound("unknown", identity_problem)
    if of_source.state != "present":
        return KeyFound(
            "unknown", f"the view of the source does not show the key ({of_source.state}: {of_source.text})"
        )
    found = next(key for key in comparison.keys if (key.token, key.alias) == (query.crypto_token, of_source.alias))
    if found.state != "present":
        return KeyFound(found.state, found.text, of_source.alias)
    token = token_of(node, query.crypto_token)
    shown = next((key for key in token.keys or () if key.alias == found.alias), None) if token is not None else None
    if shown is None or shown.fingerprint is None:
        return KeyFound("unknown", (shown and shown.problem) or "the public key was not verified", of_source.alias)
    if shown.fingerprint != query.fingerprint:
        return KeyFound("mismatched", "the key fingerprint is not that of the HSM of the source", of_source.alias)
    return KeyFound("present", "EJBCA shows alias and public key of the source", of_source.alias)


def _problem(token: ViewToken) -> str | None:
    return token.problem.text if token.problem is not None else None


class Affected(t.NamedTuple):
    """What an operator declares to be affected by a reactivation. EJBCA does not show which CAs and key bindings use a slot."""

    crypto_tokens: tuple[str, ...]
    cas: tuple[str, ...]
    key_bindings: tuple[str, ...]


NOTHING: t.Final = Affected((), (), ())


def why_not_reactivate(view: EjbcaView, crypto_token: str, affected: Affected) -> ViewProblem | None:
    """Return why a crypto token must not be reactivated, or None. All names are printable."""
    token = token_of(view, crypto_token)
    if token is None or token.auto_activation is not True:
        return ViewProblem(
            "auto_activation_off",
            f"the list of crypto tokens does not show auto-activation for {crypto_token}, so it would stay offline. "
            "Let a person reactivate the crypto token in the Admin Web",
        )
    if token.active is not True:
        return ViewProblem(
            "crypto_token_inactive",
            f"crypto token {crypto_token} is not active. Another attempt can lock the slot of the HSM. "
            "Let a person check the PIN and activate the crypto token in the Admin Web",
        )
    same = [other.name for other in view.tokens if _can_share_slot(token, other)]
    unnamed = sorted(set(same) - {crypto_token, *affected.crypto_tokens})
    if unnamed:
        return ViewProblem(
            "affected_token_not_named",
            f"crypto token {', '.join(unnamed)} is on the same slot or can be on it, and the reactivation can interrupt it. "
            "Check its CAs and key bindings, then name everything in reactivation_affects",
        )
    return None


def _can_share_slot(token: ViewToken, other: ViewToken) -> bool:
    """Whether two crypto tokens can be on one slot. A slot can be unknown, and can have a number and a label."""
    facts = (token.reference, token.reference_type, other.reference, other.reference_type)
    other_slot = token.reference_type == other.reference_type and token.reference != other.reference
    return None in facts or not other_slot
