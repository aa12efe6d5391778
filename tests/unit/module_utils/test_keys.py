# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys digest and comparison of keys."""

from __future__ import annotations

import collections
import hashlib
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest
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
        f'[2,"Z","01","ec",256,"P-256","sha256:{"c" * 64}"]\n'
        f'[2,"a","01","ec",256,"P-256","sha256:{"d" * 64}"]\n'
        f'[2,"a","02","ec",256,"P-256","sha256:{"a" * 64}"]\n'
        '[2,"\\u00c4rger","","aes",256,null,"kcv:3fa2b1"]\n'
        f'[10,"b","01","ec",256,"P-256","sha256:{"b" * 64}"]\n'
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


@given(KEY_LISTS, KEY_LISTS)
def test_compare_reversed_swaps_missing_and_extra(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    there, back = compare(ours, theirs), compare(theirs, ours)
    assert there.missing == back.extra
    assert there.extra == back.missing
    assert [(pair.source_key, pair.target_key) for pair in there.mismatched] == [
        (pair.target_key, pair.source_key) for pair in back.mismatched
    ]
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
def test_compare_reports_each_key_once(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    difference = compare(ours, theirs)
    source_rest = [*difference.missing, *(pair.source_key for pair in difference.mismatched)]
    target_rest = [*difference.extra, *(pair.target_key for pair in difference.mismatched)]
    common = collections.Counter(ours) - collections.Counter(source_rest)
    assert common.total() == difference.unchanged == len(ours) - len(source_rest)
    assert common == collections.Counter(theirs) - collections.Counter(target_rest)


@given(KEY_LISTS, KEY_LISTS)
def test_in_sync_requires_equal_keys(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    difference = compare(ours, theirs)
    same = collections.Counter(ours) == collections.Counter(theirs)
    assert same == (not (difference.missing or difference.extra or difference.mismatched))
    assert same == (keys_digest(ours) == keys_digest(theirs))
    if difference.in_sync:
        assert same


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


def test_same_label_in_other_slot_is_another_key() -> None:
    elsewhere = key(slot=1)
    difference = compare([key()], [elsewhere])
    assert (difference.missing, difference.extra, difference.mismatched) == ((key(),), (elsewhere,), ())


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
