# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys that an operator names, and the manual confirmations of a node: utrust_key_proof."""

from __future__ import annotations

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


def confirmed(confirmation: ManualConfirmation, *, expect_node: str | None = "node2") -> bool | None:
    options = ProofOptions(
        expect_node, "sign", (REQUESTED,), None, False, Profiles("p", "e"), (confirmation,), WaitOptions(0.0)
    )
    appliance = FakeAppliance(node=node(SIGN, name="node2"), list_keys=(SIGN,)).appliance
    result = prove_keys(appliance, None, options, dry_run=False, progress=lambda line: None)
    return t.cast("bool | None", result["passed"])


@pytest.mark.parametrize(
    ("of_node", "of_key", "passed"),
    [
        ("node2", "signKey", True),
        ("node2", SIGN.fingerprint, True),
        ("node3", "signKey", False),
        ("Node2", "signKey", False),
        ("node2", "other", False),
        ("node2", OTHER.fingerprint, False),
    ],
)
def test_confirmation_counts_for_its_node_and_key(of_node: str, of_key: str, passed: bool) -> None:
    """An operation uses the confirmations of its own node, by label or key fingerprint."""
    assert confirmed(ManualConfirmation(of_node, of_key, "Ada", "tested")) is passed


def test_confirmation_uses_the_name_that_the_node_reports() -> None:
    assert confirmed(ManualConfirmation("node2", "signKey", "Ada", "tested"), expect_node=None) is True
