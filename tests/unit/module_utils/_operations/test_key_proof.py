# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys that an operator names, and the manual confirmations of a node: utrust_key_proof."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import Profiles
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import (
    ProofOptions,
    prove_keys,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import (
    ManualConfirmation,
    RequestedKey,
    check_proof_options,
    resolve_keys,
)
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.factories import fingerprint, key, node
from tests.support.fakes import FakeAppliance

SIGN, OTHER = key("signKey"), key("other")
IN_SLOT_1 = key("signKey", slot=1, fingerprint=fingerprint("second"))
AES = key("aes", type="aes", size=256, curve=None, fingerprint="kcv:0a0b0c")
REQUESTED = RequestedKey(SIGN.fingerprint, "signKey", 0, None)


def resolve(
    *requested: dict[str, t.Any], source_keys: tuple[t.Any, ...] = (SIGN, IN_SLOT_1, OTHER, AES)
) -> list[RequestedKey]:
    return list(resolve_keys(requested, [each.to_dict() for each in source_keys]))


@pytest.mark.parametrize(
    ("requested", "found"),
    [
        ({"label": "other"}, OTHER),
        ({"label": "aes"}, AES),
        ({"label": "signKey", "slot": 1}, IN_SLOT_1),
        ({"label": "signKey", "slot": 0}, SIGN),
        ({"label": "signKey", "fingerprint": IN_SLOT_1.fingerprint}, IN_SLOT_1),
        ({"label": "other", "slot": None, "fingerprint": "", "ca": ""}, OTHER),
    ],
)
def test_resolve_keys_finds_the_key_of_the_source(requested: dict[str, t.Any], found: t.Any) -> None:
    """A label is enough if the source holds it once. Slot and key fingerprint make it exact."""
    assert resolve(requested) == [RequestedKey(found.fingerprint, found.label, found.slot, None)]


def test_resolve_keys_keeps_the_ca_and_the_order() -> None:
    found = resolve({"label": "other", "ca": "CA"}, {"label": "aes"})
    assert [(each.label, each.ca) for each in found] == [("other", "CA"), ("aes", None)]


@pytest.mark.parametrize(
    "requested",
    [
        {"label": "signKey"},
        {"label": "nowhere"},
        {"label": "signkey"},
        {"label": "other", "slot": 1},
        {"label": "other", "fingerprint": SIGN.fingerprint},
        {"label": "signKey", "slot": 1, "fingerprint": SIGN.fingerprint},
    ],
)
def test_resolve_keys_not_exactly_one_key(requested: dict[str, t.Any]) -> None:
    with pytest.raises(UtrustError, match=requested["label"]) as refused:
        resolve({"label": "aes"}, requested)
    assert refused.value.code == "key_not_on_source"


def test_resolve_keys_names_all_unclear_labels() -> None:
    with pytest.raises(UtrustError, match=r"signKey \(2 found\), nowhere \(0 found\)"):
        resolve({"label": "signKey"}, {"label": "nowhere"})


def test_resolve_keys_same_key_twice_on_the_source() -> None:
    twice = key("other", id="02")
    with pytest.raises(UtrustError) as refused:
        resolve({"label": "other"}, source_keys=(OTHER, twice))
    assert refused.value.code == "key_not_on_source"


@pytest.mark.parametrize(
    "requested",
    [[], [{"label": "signKey"}], [{"label": "signKey", "slot": 0}], [{"label": "signKey", "fingerprint": "sha256:aa"}]],
)
def test_resolve_keys_incomplete_without_source_keys(requested: list[dict[str, t.Any]]) -> None:
    """Without the keys of the source, slot and key fingerprint are required."""
    with pytest.raises(UtrustError) as refused:
        resolve_keys(requested, None)
    assert refused.value.code == "option_invalid"


def test_resolve_keys_complete_without_source_keys() -> None:
    requested = {"label": "signKey", "slot": 0, "fingerprint": SIGN.fingerprint}
    assert resolve_keys([requested], None) == (REQUESTED,)


# Manual confirmations

NOW = datetime.datetime.now(datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def confirmation(**changed: t.Any) -> ManualConfirmation:
    given = ManualConfirmation("node2", SIGN.fingerprint, NOW - HOUR, "Ada", "tested")
    return given._replace(**changed)


def confirmed(
    *confirmations: ManualConfirmation, expect_node: str | None = "node2", arrival: datetime.datetime | None = None
) -> dict[str, t.Any]:
    options = ProofOptions(
        expect_node,
        "sign",
        (REQUESTED,),
        None,
        False,
        Profiles("p", "e"),
        confirmations,
        WaitOptions(0.0),
        {SIGN.fingerprint: arrival} if arrival is not None else {},
    )
    appliance = FakeAppliance(node=node(SIGN, name="node2"), list_keys=(SIGN,)).appliance
    return prove_keys(appliance, None, options, dry_run=False, progress=lambda line: None)


@pytest.mark.parametrize(
    ("of_node", "of_key", "passed"),
    [
        ("node2", SIGN.fingerprint, True),
        ("node2", "signKey", False),
        ("node3", SIGN.fingerprint, False),
        ("Node2", SIGN.fingerprint, False),
        ("node2", "other", False),
        ("node2", OTHER.fingerprint, False),
        ("node2", IN_SLOT_1.fingerprint, False),
    ],
)
def test_confirmation_counts_for_its_node_and_key(of_node: str, of_key: str, passed: bool) -> None:
    """An operation uses the confirmations of its own node. A label is not a key."""
    assert confirmed(confirmation(node=of_node, key=of_key))["passed"] is passed


def test_confirmation_uses_the_name_that_the_node_reports() -> None:
    assert confirmed(confirmation(), expect_node=None)["passed"] is True


@pytest.mark.parametrize(
    ("time", "arrival", "words"),
    [
        (NOW - HOUR, NOW - HOUR / 2, "it arrived on this node at"),
        (NOW - HOUR, NOW - HOUR, "it arrived on this node at"),
        (NOW - 365 * 24 * HOUR, NOW - HOUR, "it arrived on this node at"),
        (NOW + HOUR, None, "in the future"),
        (NOW + HOUR, NOW - HOUR, "in the future"),
        (NOW - HOUR, NOW - 2 * HOUR, ""),
        (NOW - HOUR, None, ""),
    ],
    ids=["before", "same time", "long before", "future", "future after arrival", "after", "arrival unknown"],
)
def test_confirmation_is_later_than_the_arrival_of_the_key(
    time: datetime.datetime, arrival: datetime.datetime | None, words: str
) -> None:
    """Nobody can have tested a key before it was on the node, or tomorrow."""
    result = confirmed(confirmation(time=time), arrival=arrival)
    assert result["passed"] is (not words)
    assert words in result["proof"][0]["detail"]


def test_one_confirmation_that_counts_suffices() -> None:
    early = confirmation(time=NOW - 3 * HOUR)
    assert confirmed(early, confirmation(), arrival=NOW - 2 * HOUR)["passed"] is True
    assert confirmed(confirmation(), early, arrival=NOW - 2 * HOUR)["passed"] is True


VALID = {
    "node": "node2",
    "key": SIGN.fingerprint,
    "time": "2026-11-23T13:00:00Z",
    "confirmed_by": "Ada",
    "reason": "tested",
}
OTHERS: dict[str, t.Any] = {
    "reactivate": False,
    "reactivation_affects": None,
    "crypto_token": None,
    "ejbca_view": False,
    "ejbca_view_timeout": 150.0,
    "wait_timeout": 0.0,
    "hsm_keys": [],
}


@pytest.mark.parametrize(
    ("key", "allowed", "refused"),
    [
        ({}, False, False),
        ({"ca": "CA"}, False, True),
        ({"ca": "CA"}, True, False),
        ({"ca": ""}, False, False),
        ({"ca": "CA", "public_trust": True}, True, True),
        ({"ca": "CA", "public_trust": True}, False, True),
        ({"ca": "CA", "qualified": True}, True, True),
        ({"ca": "CA", "qualified": True, "public_trust": True}, True, True),
        ({"public_trust": True}, True, False),
        ({"qualified": True}, False, False),
        ({"ca": "CA", "public_trust": False, "qualified": False}, True, False),
    ],
)
def test_test_certificate_needs_permission(key: dict[str, t.Any], allowed: bool, refused: bool) -> None:
    """The operator allows test certificates, except for keys that must not sign them."""
    keys = [{"label": "other"}, {"label": "signKey", **key}]
    params = {**OTHERS, "hsm_keys": keys, "proof_certificates": allowed, "manual_confirmations": []}
    if not refused:
        assert check_proof_options(params) == ()
        return
    with pytest.raises(UtrustError, match="signKey") as found:
        check_proof_options(params)
    assert found.value.code == "proof_not_allowed"


@pytest.mark.parametrize("mark", ["public_trust", "qualified"])
def test_marks_of_a_key_stay_in_the_plan(mark: str) -> None:
    """The proof on each node refuses a marked key, too."""
    [found] = resolve({"label": "other", mark: True})
    assert found._asdict()[mark] is True


PARAMS: dict[str, t.Any] = {
    **OTHERS,
    "expect_node": "node2",
    "level": "sign",
    "hsm_keys": [{"label": "signKey", "slot": 0, "fingerprint": SIGN.fingerprint}],
    "source_keys": None,
    "key_arrivals": {},
    "proof_certificates": False,
    "certificate_profile": "p",
    "end_entity_profile": "e",
    "manual_confirmations": [],
    "crypto_token": "T",
    "ejbca": {"host": "h"},
    "ejbca_view": True,
    "ejbca_reader": {"host": "h"},
    "source_ejbca": None,
    "reactivate": True,
    "reactivation_affects": {"crypto_tokens": [], "cas": ["CA"], "key_bindings": []},
    "out_of_traffic": True,
}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, None),
        ({"out_of_traffic": False}, "node_in_traffic"),
        ({"out_of_traffic": False, "level": "token"}, "node_in_traffic"),
        ({"out_of_traffic": False, "level": "hsm"}, None),
        ({"out_of_traffic": False, "reactivate": False}, None),
        ({"ejbca": None}, "option_invalid"),
        ({"crypto_token": ""}, "option_invalid"),
        ({"ejbca_view": False}, "option_invalid"),
        ({"ejbca_reader": None}, "option_invalid"),
        ({"ejbca_reader": None, "level": "hsm"}, None),
        ({"reactivation_affects": None}, "option_invalid"),
        ({"ejbca_view_timeout": -1.0}, "option_invalid"),
        ({"ejbca_view_timeout": float("nan")}, "option_invalid"),
        ({"source_ejbca": {"view": {"tokens": 7}}}, "option_invalid"),
        ({"source_ejbca": {"problem": "unreachable"}}, None),
    ],
    ids=str,
)
def test_reactivation_needs_a_node_without_traffic(changed: dict[str, t.Any], code: str | None) -> None:
    if code is None:
        assert ProofOptions.from_params({**PARAMS, **changed}).level == {**PARAMS, **changed}["level"]
        return
    with pytest.raises(UtrustError) as refused:
        ProofOptions.from_params({**PARAMS, **changed})
    assert refused.value.code == code


@pytest.mark.parametrize(
    "time", ["2026-11-23T13:00:00Z", "2026-11-23 13:00:00+00:00", "2026-11-23T14:00:00+01:00", " 2026-11-23T13:00Z"]
)
def test_confirmation_time_has_one_meaning(time: str) -> None:
    """YAML writes a time without quotes in another form, which is the same time."""
    [given] = check_proof_options({**OTHERS, "manual_confirmations": [{**VALID, "time": time}]})
    assert given.time == datetime.datetime(2026, 11, 23, 13, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "changed",
    [
        {"key": "signKey"},
        {"key": SIGN.fingerprint.upper()},
        {"key": SIGN.fingerprint[:-1]},
        {"key": ""},
        {"time": "2026-11-23"},
        {"time": "2026-11-23T13:00:00"},
        {"time": "yesterday"},
        {"time": "1763902800"},
        {"time": "0001-01-01T00:00:00+23:00"},
        {"confirmed_by": " "},
        {"reason": ""},
    ],
)
def test_confirmation_of_another_form_is_refused(changed: dict[str, str]) -> None:
    """A confirmation names a key fingerprint, a time with its zone, a person and a reason."""
    with pytest.raises(UtrustError) as refused:
        check_proof_options({**OTHERS, "manual_confirmations": [{**VALID, **changed}]})
    assert refused.value.code == "option_invalid"
