# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One key of the source in the EJBCA view of a node, and the conditions of a reactivation."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.key_view import (
    NOTHING,
    REMEDIES,
    Affected,
    KeyQuery,
    SourceEjbca,
    find_on_node,
    find_on_source,
    why_not_reactivate,
)
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import (
    STATES,
    EjbcaView,
    ViewKey,
    ViewProblem,
    ViewToken,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from hypothesis import given
from hypothesis import strategies as st

MINE, OTHER = ("aa" * 20, "sha256:mine"), ("bb" * 20, "sha256:other")
QUERY = KeyQuery("sha256:mine", "sign", "Token")
IN_HSM = frozenset({"sha256:mine", "sha256:other"})


def key(alias: str, identity: tuple[str | None, str | None] = MINE, problem: str | None = None) -> ViewKey:
    return ViewKey(alias, "RSA", "2048", *identity, problem)


def token(*keys: ViewKey, **changed: t.Any) -> ViewToken:
    usual = ViewToken(7, "Token", "Pkcs11NgCryptoToken", "1", True, True, True, keys, reference_type="Slot ID")
    return usual._replace(**changed)


def view(*tokens: ViewToken) -> EjbcaView:
    return EjbcaView("9.3.0", "node", None, tokens)


SOURCE = view(token(key("sign")))


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        (view(token(key("sign"))), "present"),
        (view(token(key("another"))), "present"),
        (view(token(key("another"), key("sign"))), "present"),
        (view(token(key("a"), key("b"))), "unknown"),
        (view(token(key("sign", OTHER))), "mismatched"),
        (view(token(key("sign", (MINE[0], None), "not downloaded"))), "unknown"),
        (view(token(key("sign", (MINE[0], None)))), "unknown"),
        (view(token(key("sign", (None, None)))), "stale"),
        (view(token()), "stale"),
        (view(token(active=False, keys=None)), "inactive"),
        (view(token(keys=None, problem=ViewProblem("key_listing_failed", "no"))), "unknown"),
        (view(token(name="Another")), "unknown"),
        (view(), "unknown"),
    ],
)
def test_key_of_the_source_in_its_own_view(shown: EjbcaView, state: str) -> None:
    found = find_on_source(shown, QUERY, IN_HSM)
    assert found.state == state
    assert REMEDIES[found.state] in found.detail


def test_key_that_nobody_shows_is_absent() -> None:
    assert find_on_source(view(token()), QUERY, frozenset()).state == "absent"


@pytest.mark.parametrize(
    ("shown", "hsm", "state"),
    [
        (view(token(key("sign"))), IN_HSM, "present"),
        (view(token(key("sign", (MINE[0], None), "not downloaded"))), IN_HSM, "unknown"),
        (view(token(key("sign", (MINE[0], "sha256:explicit")))), IN_HSM, "mismatched"),
        (view(token(key("sign", OTHER))), IN_HSM, "mismatched"),
        (view(token(key("renamed"))), IN_HSM, "moved"),
        (view(token()), IN_HSM, "stale"),
        (view(token()), frozenset(), "absent"),
        (view(token()), None, "absent"),
        (view(token(active=False, keys=None)), IN_HSM, "inactive"),
        (view(token(keys=None)), IN_HSM, "unknown"),
    ],
)
def test_key_of_the_source_in_the_view_of_a_node(shown: EjbcaView, hsm: t.Collection[str] | None, state: str) -> None:
    assert find_on_node(SOURCE, shown, QUERY, hsm, None).state == state


def test_other_database_is_a_finding() -> None:
    found = find_on_node(SOURCE, view(token(key("sign"), id=8)), QUERY, IN_HSM, None)
    assert (found.state, found.diverged) == ("unknown", True)
    assert "must share one database" in found.detail


def test_node_of_unknown_identity_is_never_proven() -> None:
    found = find_on_node(SOURCE, SOURCE, QUERY, IN_HSM, "both have one address")
    assert (found.state, found.diverged, found.text) == ("unknown", False, "both have one address")


@pytest.mark.parametrize(
    "source", [view(token()), view(token(key("sign", OTHER))), view(token(active=False, keys=None))]
)
def test_view_of_the_source_without_the_key_proves_no_node(source: EjbcaView) -> None:
    found = find_on_node(source, SOURCE, QUERY, IN_HSM, None)
    assert found.state == "unknown"
    assert "the view of the source does not show the key" in found.text


KEYS = st.builds(key, st.sampled_from(["sign", "other", "x"]), st.sampled_from([MINE, OTHER, (None, None)]))
TOKENS = st.builds(
    lambda keys, active: token(*keys, active=active, keys=tuple(keys) if active else None),
    st.lists(KEYS, max_size=4, unique_by=lambda each: each.alias),
    st.sampled_from([True, False, None]),
)


@given(TOKENS, TOKENS, st.sampled_from([None, "one address"]))
def test_only_the_same_alias_and_key_are_present(one: ViewToken, two: ViewToken, problem: str | None) -> None:
    """Every other view of source or node gives another state."""
    found = find_on_node(view(one), view(two), QUERY, IN_HSM, problem)
    assert found.state in STATES
    if found.state == "present":
        assert problem is None
        row = next(row for row in two.keys or () if row.alias == found.alias)
        assert row.fingerprint == QUERY.fingerprint
        assert row in (one.keys or ())


@pytest.mark.parametrize(
    ("shown", "affected", "code"),
    [
        (view(token()), NOTHING, None),
        (view(token(auto_activation=False)), NOTHING, "auto_activation_off"),
        (view(token(auto_activation=None)), NOTHING, "auto_activation_off"),
        (view(), NOTHING, "auto_activation_off"),
        (view(token(active=False)), NOTHING, "crypto_token_inactive"),
        (view(token(active=None)), NOTHING, "crypto_token_inactive"),
        (view(token(), token(id=8, name="Two")), NOTHING, "affected_token_not_named"),
        (view(token(), token(id=8, name="Two")), Affected(("Two",), (), ()), None),
        (view(token(), token(id=8, name="Two")), Affected(("Three",), ("Two",), ()), "affected_token_not_named"),
        (view(token(), token(id=8, name="Two", reference="2")), NOTHING, None),
        (view(token(), token(id=8, name="Two", reference=None)), NOTHING, "affected_token_not_named"),
        (
            view(token(), token(id=8, name="Two", reference="label", reference_type="Slot label")),
            NOTHING,
            "affected_token_not_named",
        ),
        (
            view(token(), token(id=8, name="Two", reference="2", reference_type=None)),
            NOTHING,
            "affected_token_not_named",
        ),
        (view(token(reference=None), token(id=8, name="Two")), NOTHING, "affected_token_not_named"),
    ],
)
def test_conditions_of_a_reactivation(shown: EjbcaView, affected: Affected, code: str | None) -> None:
    problem = why_not_reactivate(shown, "Token", affected)
    assert (problem.code if problem is not None else None) == code


def test_result_of_the_source_keeps_view_identity_and_tests() -> None:
    test = {"crypto_token": "Token", "alias": "sign", "result": "can_sign", "reason": "twice"}
    identity = {"address": "a", "port": 1, "certificate_fingerprint": "f", "host_name": "h", "more": 7}
    found = SourceEjbca.from_result(
        {"view": SOURCE.to_dict(), "identity": identity, "signature_tests": [test], "problem": None}
    )
    assert found.view == SOURCE
    assert found.identity is not None
    assert found.identity.host_name == "h"
    assert found.tests == {("Token", "sign"): ("can_sign", "twice")}


@pytest.mark.parametrize(
    "given", [{"view": 7}, {"view": {}, "identity": {"address": "a"}}, {"signature_tests": [7]}, {"view": {"x": 1}}]
)
def test_other_result_of_the_source_is_refused(given: dict[str, t.Any]) -> None:
    with pytest.raises(UtrustError) as refused:
        SourceEjbca.from_result(given)
    assert refused.value.code == "option_invalid"
