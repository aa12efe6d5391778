# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparison of two EJBCA views: the rules, and properties of every pair of views."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import (
    STATES,
    EjbcaView,
    ViewComparison,
    ViewKey,
    ViewProblem,
    ViewToken,
    compare_views,
)
from hypothesis import given
from hypothesis import strategies as st

A, B, C = (digit * 40 for digit in "abc")


def make_key(alias: str, subject_key_id: str | None = A, **changes: t.Any) -> ViewKey:
    fingerprint = None if subject_key_id is None else f"sha256:{subject_key_id[:1] * 64}"
    return ViewKey(alias, "ECDSA", "P-256", subject_key_id, fingerprint)._replace(**changes)


def make_token(*keys: ViewKey, number: int = 7, **changes: t.Any) -> ViewToken:
    token = ViewToken(number, f"Token {number}", "PKCS11CryptoToken", "1", True, True, True, keys)
    return token._replace(**changes)


def make_view(*tokens: ViewToken) -> EjbcaView:
    return EjbcaView("8.2.0", "node1", "2026-05-01 12:00:00", tokens)


def compare(source: ViewToken, node: ViewToken, **options: t.Any) -> ViewComparison:
    return compare_views(make_view(source), make_view(node), **options)


def states(comparison: ViewComparison) -> list[str]:
    return [key.state for key in comparison.keys]


@pytest.mark.parametrize(
    ("node", "state"),
    [
        (make_token(make_key("ca", A)), "present"),
        (make_token(make_key("ca", A), make_key("copy", A)), "present"),
        (make_token(), "absent"),
        (make_token(make_key("ca", None)), "absent"),
        (make_token(make_key("CA", B)), "absent"),
        (make_token(make_key("Ca", A)), "moved"),
        (make_token(make_key("id", A), make_key("ca", B)), "moved"),
        (make_token(make_key("ca", B)), "mismatched"),
        (make_token(make_key("ca", A, fingerprint="sha256:" + "0" * 64)), "mismatched"),
        (make_token(make_key("ca", A, fingerprint=None)), "present"),
        (make_token(make_key("ca", None, problem="the download failed")), "unknown"),
        (make_token(active=False, keys=None), "inactive"),
        (make_token(keys=None, problem=ViewProblem("key_listing_failed", "failed")), "unknown"),
        (make_token(keys=None), "unknown"),
    ],
)
def test_compare_views_returns_one_state(node: ViewToken, state: str) -> None:
    """By public key first, by alias second. A placeholder is not a key, and a row with a problem can be the key."""
    assert states(compare(make_token(make_key("ca", A)), node)) == [state]


@pytest.mark.parametrize(
    ("hsm", "state", "text"),
    [(None, "absent", "view can be old"), (["sha256:" + "a" * 64], "stale", "in the HSM"), ([], "absent", "not list")],
)
def test_compare_views_key_not_shown_is_stale_only_with_hsm(hsm: list[str] | None, state: str, text: str) -> None:
    """Without the keys of the HSM, a key that is not shown can be missing, or the view can be old."""
    comparison = compare(make_token(make_key("ca", A)), make_token(), hsm_fingerprints=hsm)
    assert states(comparison) == [state]
    assert text in comparison.keys[0].text


def test_compare_views_key_without_fingerprint_is_never_stale() -> None:
    source = make_token(make_key("ca", A, fingerprint=None))
    assert states(compare(source, make_token(), hsm_fingerprints=["sha256:" + "a" * 64])) == ["absent"]


def test_compare_views_key_in_other_token_is_moved() -> None:
    source = make_view(make_token(make_key("ca", A)), make_token(number=8))
    node = make_view(make_token(), make_token(make_key("ca", A), number=8))
    assert states(compare_views(source, node)) == ["moved"]


def test_compare_views_second_token_of_slot_is_not_a_move() -> None:
    """Crypto tokens of one slot show the same keys. One view of the node is old."""
    source = make_view(make_token(make_key("ca", A)), make_token(make_key("ca", A), number=8))
    node = make_view(make_token(), make_token(make_key("ca", A), number=8))
    assert states(compare_views(source, node)) == ["absent", "present"]


@pytest.mark.parametrize("numbers", [(), (7, 8), (-7,)])
def test_compare_views_with_other_token_ids_compares_nothing(numbers: tuple[int, ...]) -> None:
    node = make_view(*(make_token(make_key("ca", A), number=number) for number in numbers))
    comparison = compare_views(make_view(make_token(make_key("ca", A))), node)
    assert states(comparison) == ["unknown"]
    assert [problem.code for problem in comparison.problems] == ["database_diverged"]
    assert comparison.in_sync is None


def test_compare_views_of_unknown_node_compares_nothing() -> None:
    token = make_token(make_key("ca", A))
    comparison = compare(token, token, identity_problem="node1 and node2 have one address")
    assert states(comparison) == ["unknown"]
    assert [problem.code for problem in comparison.problems] == ["ejbca_identity_unknown"]


@pytest.mark.parametrize(
    "source",
    [
        make_token(active=False, keys=None),
        make_token(keys=None, problem=ViewProblem("key_listing_failed", "failed")),
        make_token(make_key("ca", None, problem="the download failed")),
    ],
)
def test_compare_views_of_incomplete_source_is_never_in_sync(source: ViewToken) -> None:
    comparison = compare(source, make_token())
    assert comparison.keys == ()
    assert [problem.code for problem in comparison.problems] == ["source_view_incomplete"]
    assert comparison.in_sync is None


def test_compare_views_skips_token_that_was_not_read_on_purpose() -> None:
    comparison = compare(make_token(keys=None), make_token(keys=None))
    assert comparison == ViewComparison((), ())


aliases = st.sampled_from(["ca", "CA", "a b", "a+b"])
ids = st.sampled_from([A, B, C, None])
rows = st.builds(make_key, aliases, ids, problem=st.sampled_from([None, "failed"]))
row_lists = st.lists(rows, max_size=4, unique_by=lambda key: key.alias).map(tuple)
problems = st.sampled_from([None, ViewProblem("key_listing_failed", "failed")])


@st.composite
def tokens(draw: st.DrawFn, number: int) -> ViewToken:
    active = draw(st.sampled_from([True, True, False, None]))
    keys = draw(st.none() | row_lists) if active else None
    return make_token(number=number, keys=keys, active=active, problem=None if keys is not None else draw(problems))


@st.composite
def views(draw: st.DrawFn) -> EjbcaView:
    return make_view(*(draw(tokens(number)) for number in draw(st.sampled_from([(1,), (1, 2), (1, 2), (-3,)]))))


hsms = st.none() | st.lists(st.sampled_from([f"sha256:{digit * 64}" for digit in "abc"]), max_size=3)


@given(views(), views(), hsms)
def test_compare_views_has_one_state_for_each_key_pair(
    source: EjbcaView, node: EjbcaView, hsm: list[str] | None
) -> None:
    """No key pair of the source is dropped, and no row that is not a key pair gets a state."""
    comparison = compare_views(source, node, hsm_fingerprints=hsm)
    pairs = [(token.id, key.alias) for token in source.tokens for key in token.keys or () if key.subject_key_id]
    assert [(key.token_id, key.alias) for key in comparison.keys] == pairs
    assert set(states(comparison)) <= set(STATES)
    assert all(key.text for key in comparison.keys)


@given(views(), views(), hsms)
def test_compare_views_present_means_same_alias_and_key(
    source: EjbcaView, node: EjbcaView, hsm: list[str] | None
) -> None:
    shown = {(token.id, key.alias, key.subject_key_id) for token in node.tokens for key in token.keys or ()}
    same_ids = {token.id for token in source.tokens} == {token.id for token in node.tokens}
    for key in compare_views(source, node, hsm_fingerprints=hsm).keys:
        assert (key.state == "present") == (same_ids and (key.token_id, key.alias, key.subject_key_id) in shown)


@given(views(), views(), hsms)
def test_compare_views_concludes_nothing_without_keys(
    source: EjbcaView, node: EjbcaView, hsm: list[str] | None
) -> None:
    """A token without keys in the view gives neither absent nor present."""
    unread = {token.id for token in node.tokens if token.keys is None}
    for key in compare_views(source, node, hsm_fingerprints=hsm).keys:
        if key.token_id in unread:
            assert key.state in {"inactive", "unknown"}
        if key.state == "stale":
            assert hsm is not None
            assert key.fingerprint in hsm


@given(views())
def test_compare_views_with_itself_finds_no_difference(view: EjbcaView) -> None:
    assert set(states(compare_views(view, view))) <= {"present"}


@given(views())
def test_view_survives_a_result(view: EjbcaView) -> None:
    assert view.to_dict()["scope"] == "ejbca"
    assert EjbcaView.from_dict(view.to_dict()) == view
