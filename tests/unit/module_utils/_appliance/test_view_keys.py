# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys and slots of a node as its EJBCA shows them."""

from __future__ import annotations

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.view_keys import (
    keys_of,
    slot_number,
    slots_of,
    unreadable,
)
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest

from tests.support.views import fingerprint_of, view_key, view_of, view_token


def test_key_has_the_identity_of_its_public_key() -> None:
    (key,) = keys_of(view_of(view_token(view_key("signKey"))))
    assert (key.slot, key.label, key.id, key.type) == (0, "signKey", "", "ec")
    assert (key.size, key.curve, key.fingerprint) == (None, None, fingerprint_of("signKey"))


def test_other_words_of_a_page_do_not_change_the_keys() -> None:
    """An update of EJBCA must not look like other keys."""
    one = view_of(view_token(view_key("a")))
    other = view_of(view_token(view_key("a", specification="secp256r1", algorithm="EC")))
    assert keys_digest(keys_of(one)) == keys_digest(keys_of(other))


def test_two_tokens_on_one_slot_show_a_key_once() -> None:
    view = view_of(view_token(view_key("a")), view_token(view_key("a"), number=-8))
    assert len(keys_of(view)) == 1
    assert len(slots_of(view)) == 1


def test_placeholder_is_not_a_key() -> None:
    placeholder = view_key("b", subject_key_id=None, fingerprint=None)
    assert [key.label for key in keys_of(view_of(view_token(view_key("a"), placeholder)))] == ["a"]


def test_soft_crypto_token_is_not_in_the_hsm() -> None:
    """The crypto token is active on every node. It must not make an HSM in Factory Reset Mode operational."""
    soft = view_token(view_key("s"), number=-8, type="SoftCryptoToken", reference=None)
    assert not keys_of(view_of(soft))
    assert not slots_of(view_of(soft))
    assert [key.label for key in keys_of(view_of(view_token(view_key("a")), soft))] == ["a"]


def test_key_without_identity_is_never_equal() -> None:
    """A row whose public key is unknown is a key, and nobody knows which."""
    doubtful = view_key("a", subject_key_id=None, fingerprint=None, problem="several keys have this alias")
    (key,) = keys_of(view_of(view_token(doubtful)))
    assert key.fingerprint == UNKNOWN
    assert compare([key], [key]).in_sync is None


@pytest.mark.parametrize("reference", ["SLOT", "", None, "99999999999"])
def test_slot_named_by_a_label_has_one_number(reference: str | None) -> None:
    number = slot_number(view_token(reference=reference))
    assert number == slot_number(view_token(reference=reference, number=-9))
    assert 0 <= number < 2**31
    assert slot_number(view_token(reference="3")) == 3


def test_token_that_people_activate_is_left_out() -> None:
    """It is inactive for certain. Its keys are unknown, and the other keys are known."""
    offline = view_token(number=-8, name="Root", active=False, auto_activation=False, keys=None, reference="1")
    view = view_of(view_token(view_key("a")), offline)
    assert unreadable(view) is None
    assert [(slot.slot, slot.activated, slot.label) for slot in slots_of(view)] == [
        (0, True, "SigningToken"),
        (1, False, "Root"),
    ]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"problem": ViewProblem("token_activation_failing", "the PIN is wrong")}, "token_activation_failing"),
        ({"active": None}, "ejbca_view_unknown"),
        ({"active": False, "auto_activation": True}, "ejbca_view_unknown"),
        ({"active": False, "auto_activation": None}, "ejbca_view_unknown"),
    ],
    ids=str,
)
def test_unreadable_token_makes_the_keys_unknown(changes: dict[str, object], code: str) -> None:
    view = view_of(view_token(view_key("a")), view_token(number=-8, keys=None, reference="1", **changes))
    problem = unreadable(view)
    assert problem is not None
    assert problem.code == code
    assert slots_of(view)[1].activated is None
