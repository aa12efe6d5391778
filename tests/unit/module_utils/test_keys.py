# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys digest and comparison of keys."""

from __future__ import annotations

import collections
import hashlib
import json
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.module_utils._keys import (
    Difference,
    Mismatch,
    compare,
    compare_with_itself,
    keys_digest,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import example, fingerprint, key

if t.TYPE_CHECKING:
    import random

# Few values, so that equal slots, labels, ids and fingerprints are frequent.
KEYS = st.builds(
    HsmKey,
    slot=st.integers(0, 1),
    label=st.sampled_from(["a", "b"]),
    id=st.sampled_from(["01", "02"]),
    type=st.just("ec"),
    size=st.just(256),
    curve=st.just("P-256"),
    fingerprint=st.sampled_from([fingerprint("1"), fingerprint("2"), "kcv:3fa2b1"]),
    usable=st.booleans(),
)
KEY_LISTS = st.lists(KEYS, max_size=7)


def test_keys_digest_uses_canonical_lines_of_contract() -> None:
    aes = key("Ärger", slot=2, id="", type="aes", curve=None, fingerprint="kcv:3fa2b1")
    hsm_keys = [
        key("b", slot=10, fingerprint="sha256:" + "b" * 64),
        aes,
        key("a", slot=2, id="02", fingerprint="sha256:" + "a" * 64),
        key("Z", slot=2, fingerprint="sha256:" + "c" * 64),
        key("a", slot=2, id="01", fingerprint="sha256:" + "d" * 64),
    ]
    lines = (
        f'[10,"b","01","ec",256,"P-256","sha256:{"b" * 64}"]\n'
        f'[2,"Z","01","ec",256,"P-256","sha256:{"c" * 64}"]\n'
        '[2,"\\u00c4rger","","aes",256,null,"kcv:3fa2b1"]\n'
        f'[2,"a","01","ec",256,"P-256","sha256:{"d" * 64}"]\n'
        f'[2,"a","02","ec",256,"P-256","sha256:{"a" * 64}"]\n'
    )
    assert keys_digest(hsm_keys) == "sha256:" + hashlib.sha256(lines.encode("ascii")).hexdigest()


def test_keys_digest_of_empty_hsm_equals_example() -> None:
    assert keys_digest([]) == example("NodeFactoryReset")["keys_digest"]


def test_keys_digest_ignores_usable() -> None:
    assert keys_digest([key(usable=False)]) == keys_digest([key(usable=True)])


@pytest.mark.parametrize(
    "change",
    [
        {"slot": 1},
        {"label": "other"},
        {"id": "02"},
        {"type": "rsa"},
        {"size": 384},
        {"curve": "P-384"},
        {"fingerprint": fingerprint("other")},
    ],
    ids=str,
)
def test_each_key_field_changes_digest_and_comparison(change: dict[str, t.Any]) -> None:
    other = key(**change)
    assert keys_digest([key()]) != keys_digest([other])
    assert not compare([key()], [other]).in_sync


@pytest.mark.parametrize("key_type", ["eddsa", "x25519", "ml-dsa", "ml-kem", "slh-dsa", "des3", "frobnicate-9"])
def test_compare_keys_of_every_type(key_type: str) -> None:
    """Keys of new types are compared by their key fingerprint, also without label, size and curve."""
    odd = key("", type=key_type, size=None, curve=None)
    assert compare([odd, key()], [odd, key()]).in_sync
    assert compare([odd], [key("", type=key_type, size=None, curve=None, fingerprint=fingerprint("x"))]).mismatched
    assert compare([odd], [key("named", type=key_type, size=None, curve=None, fingerprint=odd.fingerprint)]).moved


def test_compare_keys_without_fingerprint_are_not_equal() -> None:
    """The node cannot determine the fingerprint, so nobody knows whether both keys are the same."""
    unknown = key(fingerprint="unknown")
    difference = compare([unknown], [unknown])
    assert difference.undetermined == (Mismatch(unknown, unknown),)
    assert (difference.unchanged, difference.mismatched, difference.in_sync) == (0, (), None)
    assert difference.why_unknown == "1 key(s) have an unknown key fingerprint, so they could not be compared"
    assert Difference.from_dict(difference.to_dict()) == difference
    assert not compare([unknown], [key("other", fingerprint="unknown")]).moved
    # Another drift is certain, and so is a key of another kind.
    assert compare([unknown, key("new")], [unknown]).in_sync is False
    assert compare([unknown], [key(fingerprint="unknown", size=384)]).in_sync is False


def test_compare_with_itself_needs_no_fingerprint() -> None:
    """The keys of the source are its own, so the source never differs from itself, except for keys that it cannot use."""
    unknown = key(fingerprint="unknown")
    difference = compare_with_itself([unknown, key("broken", usable=False)])
    assert (difference.unusable, difference.undetermined) == ((key("broken"),), ())
    assert compare_with_itself([unknown]).in_sync is True


def pairs(mismatches: t.Iterable[Mismatch]) -> collections.Counter[tuple[HsmKey, HsmKey]]:
    return collections.Counter((pair.source_key, pair.target_key) for pair in mismatches)


@given(KEY_LISTS, KEY_LISTS)
def test_compare_reversed_swaps_the_sides(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    """A row that only one side has is missing from here, and extra or duplicate from there."""
    there, back = compare(ours, theirs), compare(theirs, ours)
    assert collections.Counter(there.missing) == collections.Counter((*back.extra, *back.duplicate))
    assert collections.Counter((*there.extra, *there.duplicate)) == collections.Counter(back.missing)
    for one, other in ((there.mismatched, back.mismatched), (there.moved, back.moved)):
        assert pairs(one) == {(ours, theirs): count for (theirs, ours), count in pairs(other).items()}
    assert (there.unchanged, there.check_value_only) == (back.unchanged, back.check_value_only)


@given(KEY_LISTS, KEY_LISTS, st.randoms(use_true_random=False))
def test_compare_does_not_depend_on_order(ours: list[HsmKey], theirs: list[HsmKey], chance: random.Random) -> None:
    before = compare(ours, theirs)
    chance.shuffle(ours)
    chance.shuffle(theirs)
    after = compare(ours, theirs)
    # `usable` is not part of the equality of keys, but the result must not depend on the order.
    assert before.to_dict() == after.to_dict()


@given(KEY_LISTS, KEY_LISTS)
def test_compare_reports_each_row_once(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    """Every row of both sides is either unchanged or in exactly one list."""
    difference = compare(ours, theirs)
    both = (*difference.mismatched, *difference.moved)
    source_rest = [*difference.missing, *(pair.source_key for pair in both)]
    target_rest = [*difference.extra, *difference.duplicate, *(pair.target_key for pair in both)]
    assert sorted(target_rest, key=str) == sorted(difference.target_keys, key=str)
    common = collections.Counter(ours) - collections.Counter(source_rest)
    assert common.total() == difference.unchanged == len(ours) - len(source_rest) == len(theirs) - len(target_rest)
    assert common == collections.Counter(theirs) - collections.Counter(target_rest)


@given(KEY_LISTS, KEY_LISTS)
def test_in_sync_means_equal_and_usable_keys(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    difference = compare(ours, theirs)
    same = collections.Counter(ours) == collections.Counter(theirs)
    assert same == (keys_digest(ours) == keys_digest(theirs))
    assert difference.in_sync == (same and all(key.usable for key in theirs))


def same_key(one: HsmKey, other: HsmKey) -> bool:
    """Whether both rows are certainly the same key, or the same secret key as far as a check value with its label shows."""
    same = (one.fingerprint, one.type, one.size) == (other.fingerprint, other.type, other.size)
    return same and (not one.check_value_only or one.label == other.label)


@given(KEY_LISTS, KEY_LISTS)
def test_moved_and_duplicate_rows_are_keys_of_the_source(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    """A key that both sides have is never missing and extra, and a check value alone never pairs two secret keys."""
    difference = compare(ours, theirs)
    assert all(same_key(pair.source_key, pair.target_key) for pair in difference.moved)
    assert all(pair.source_key != pair.target_key for pair in (*difference.moved, *difference.mismatched))
    assert all(any(same_key(one, key) for one in ours) for key in difference.duplicate)
    assert not any(same_key(one, key) for one in ours for key in difference.extra)
    rest = (*difference.extra, *difference.duplicate)
    assert not any(same_key(one, key) for one in difference.missing for key in rest)


@given(KEY_LISTS, KEY_LISTS)
def test_difference_survives_a_round_trip(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    difference = compare(ours, theirs)
    assert Difference.from_dict(json.loads(json.dumps(difference.to_dict()))).to_dict() == difference.to_dict()


@given(KEY_LISTS, KEY_LISTS)
def test_mismatches_have_same_slot_and_label(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    """A pair has the same id if possible, because a node replaces the key with the same slot, label and id."""
    difference = compare(ours, theirs)
    for pair in difference.mismatched:
        assert (pair.source_key.slot, pair.source_key.label) == (pair.target_key.slot, pair.target_key.label)
    source_rest = [
        *difference.missing,
        *(pair.source_key for pair in difference.mismatched if pair.source_key.id != pair.target_key.id),
    ]
    target_rest = [
        *difference.extra,
        *difference.duplicate,
        *(pair.target_key for pair in difference.mismatched if pair.source_key.id != pair.target_key.id),
    ]
    assert not {(k.slot, k.label, k.id) for k in source_rest} & {(k.slot, k.label, k.id) for k in target_rest}


def test_same_label_with_other_key_is_a_mismatch() -> None:
    impostor = key(fingerprint=fingerprint("impostor"))
    difference = compare([key()], [impostor])
    assert [(pair.source_key, pair.target_key) for pair in difference.mismatched] == [(key(), impostor)]
    assert (difference.missing, difference.extra, difference.unchanged) == ((), (), 0)


def test_second_key_with_label_is_missing_or_extra() -> None:
    second = key(id="02", fingerprint=fingerprint("second"))
    assert compare([key(), second], [key()]).missing == (second,)
    assert compare([key()], [key(), second]).extra == (second,)


@pytest.mark.parametrize("change", [{"slot": 1}, {"label": "other"}, {"id": "02"}], ids=str)
def test_same_key_in_another_place_is_moved(change: dict[str, t.Any]) -> None:
    elsewhere = key(**{"fingerprint": key().fingerprint, **change})
    difference = compare([key()], [elsewhere])
    assert [(pair.source_key, pair.target_key) for pair in difference.moved] == [(key(), elsewhere)]
    assert (difference.missing, difference.extra, difference.mismatched, difference.duplicate) == ((), (), (), ())
    assert not difference.in_sync


@pytest.mark.parametrize("change", [{}, {"slot": 1}, {"label": "copy"}, {"id": "02"}], ids=str)
def test_same_key_once_more_is_a_duplicate(change: dict[str, t.Any]) -> None:
    copy = key(**{"fingerprint": key().fingerprint, **change})
    difference = compare([key()], [key(), copy])
    assert (difference.duplicate, difference.unchanged) == ((copy,), 1)
    assert (difference.missing, difference.extra, difference.mismatched, difference.moved) == ((), (), (), ())
    assert compare([key(), copy], [key()]).missing == (copy,)


def test_moved_key_does_not_hide_an_impostor() -> None:
    """Another key in the place that the moved key left is extra, because the moved key is found first."""
    impostor, elsewhere = key(fingerprint=fingerprint("impostor")), key(slot=1)
    difference = compare([key()], [impostor, elsewhere])
    assert [pair.target_key for pair in difference.moved] == [elsewhere]
    assert difference.extra == (impostor,)


def test_equal_check_value_under_another_label_is_another_key() -> None:
    """A check value has three bytes, so two secret keys can have the same value."""
    secret = key("backupKey", type="aes", curve=None, fingerprint="kcv:3fa2b1")
    other = key("otherKey", type="aes", curve=None, fingerprint="kcv:3fa2b1")
    difference = compare([secret], [other])
    assert (difference.missing, difference.extra, difference.moved) == ((secret,), (other,), ())
    assert compare([secret], [secret, other]).extra == (other,)
    assert (
        len(compare([secret], [key("backupKey", slot=1, type="aes", curve=None, fingerprint="kcv:3fa2b1")]).moved) == 1
    )


def test_unusable_key_of_target_is_not_in_sync() -> None:
    difference = compare([key()], [key(usable=False)])
    assert difference.unusable == (key(),)
    assert not difference.in_sync
    assert compare([key(usable=False)], [key()]).in_sync


def test_equal_secret_keys_count_as_check_value_only() -> None:
    secret = key("backupKey", type="aes", curve=None, fingerprint="kcv:3fa2b1")
    difference = compare([key(), secret], [secret, key()])
    assert (difference.unchanged, difference.check_value_only) == (2, 1)
    assert difference.in_sync


def test_difference_to_dict_is_plain_data() -> None:
    impostor = key(fingerprint=fingerprint("impostor"))
    shown = compare([key(), key("new")], [impostor]).to_dict()
    assert shown["missing"][0]["label"] == "new"
    assert shown["mismatched"] == [{"source_key": key().to_dict(), "target_key": impostor.to_dict()}]
