# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key of a key ceremony: ejbca_key with generate=false."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_TEXT
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ejbca_key import (
    EjbcaKeyOptions,
    find_ceremony_key,
)

from tests.support.factories import fingerprint, key, node
from tests.support.fakes import FakeAppliance

EC = key("caKey")
RSA = key("caKey", type="rsa", size=3072, curve=None)
PARAMS: dict[str, t.Any] = {
    "expect_node": "node1",
    "crypto_token": "T",
    "slot": 0,
    "alias": "caKey",
    "key_alg": "EC",
    "key_spec": "P-256",
    "wait_timeout": 0.0,
    "generate": False,
    "ceremony_reference": "Ceremony 7",
    "key_fingerprint": None,
}


def find(*keys: t.Any, name: str = "node1", **changed: t.Any) -> dict[str, t.Any]:
    fake = FakeAppliance(node=node(*keys, name=name), list_keys=keys)
    found = find_ceremony_key(fake.appliance, EjbcaKeyOptions.from_params({**PARAMS, **changed}))
    assert fake.calls == ["node", "list_keys"]
    return found


@pytest.mark.parametrize(
    ("present", "changed"),
    [
        (EC, {}),
        (EC, {"key_fingerprint": EC.fingerprint}),
        (RSA, {"key_alg": "RSA", "key_spec": "3072"}),
        (key("caKey", slot=2), {"slot": 2}),
        (key("caKey", curve="brainpoolP256r1"), {"key_spec": "brainpoolP256r1"}),
    ],
    ids=str,
)
def test_ceremony_key_is_found(present: t.Any, changed: dict[str, t.Any]) -> None:
    """Another label and another slot are other keys."""
    others = key("other"), key("caKey", slot=1, fingerprint=fingerprint("slot 1"))
    assert find(present, *others, **changed) == {"changed": False, "hsm_key": present.to_dict()}


@pytest.mark.parametrize(
    ("keys", "changed", "code"),
    [
        ((), {}, "key_not_found"),
        ((key("cakey"),), {}, "key_not_found"),
        ((EC,), {"slot": 1}, "key_not_found"),
        ((EC, key("caKey", fingerprint=fingerprint("second"))), {}, "alias_ambiguous"),
        ((EC, key("caKey", id="02")), {"key_fingerprint": EC.fingerprint}, "alias_ambiguous"),
        ((RSA,), {}, "key_spec_mismatch"),
        ((EC,), {"key_alg": "RSA", "key_spec": "3072"}, "key_spec_mismatch"),
        ((RSA,), {"key_alg": "RSA", "key_spec": "4096"}, "key_spec_mismatch"),
        ((EC,), {"key_spec": "P-384"}, "key_spec_mismatch"),
        ((EC,), {"key_spec": "prime256v1"}, "key_spec_mismatch"),
        ((EC,), {"key_fingerprint": "sha256:" + "0" * 64}, "ceremony_key_mismatch"),
    ],
    ids=str,
)
def test_ceremony_key_that_differs_is_refused(keys: t.Any, changed: dict[str, t.Any], code: str) -> None:
    """The name of a curve is compared exactly, because a ceremony records it exactly."""
    with pytest.raises(UtrustError, match="Ceremony 7") as refused:
        find(*keys, **changed)
    assert refused.value.code == code


def test_ceremony_key_of_another_node_is_refused() -> None:
    with pytest.raises(UtrustError) as refused:
        find(EC, name="node2")
    assert refused.value.code == "node_name_mismatch"


@pytest.mark.parametrize(
    "changed",
    [
        {"ceremony_reference": None},
        {"ceremony_reference": "  "},
        {"ceremony_reference": "x" * (MAX_TEXT + 1)},
        {"key_fingerprint": "caKey"},
        {"key_fingerprint": EC.fingerprint.upper()},
        {"generate": True},
        {"generate": True, "ceremony_reference": None, "key_fingerprint": EC.fingerprint},
    ],
    ids=str,
)
def test_ceremony_options_that_contradict_are_refused(changed: dict[str, t.Any]) -> None:
    """A run that may generate the key has no ceremony, and a run that may not needs its reference."""
    with pytest.raises(UtrustError) as refused:
        EjbcaKeyOptions.from_params({**PARAMS, **changed})
    assert refused.value.code == "option_invalid"


def test_ceremony_reference_has_the_full_length() -> None:
    """The audit trail has the whole reference."""
    reference = "x" * MAX_TEXT
    assert (
        EjbcaKeyOptions.from_params({**PARAMS, "ceremony_reference": f" {reference} "}).ceremony_reference == reference
    )
