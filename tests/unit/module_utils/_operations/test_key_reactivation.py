# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reactivation of a crypto token: its conditions, one attempt, and the health afterwards."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import IssuedCertificate, Profiles
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import ProofOptions, prove_keys
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_reactivation import (
    Reactivation,
    ReactivationError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import RequestedKey
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.factories import key, node
from tests.support.fakes import FakeAppliance

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import EjbcaNode

SIGN, OTHER = key("signKey"), key("other")
REJECTED = ApiError("no such token", code="ejbca_rejected")
LOST = ResponseLostError("the response was lost", code="response_lost")
AWAY = UnreachableError("no response", code="ejbca_unreachable")


def ejbca(**results: t.Any) -> tuple[FakeAppliance, EjbcaNode]:
    """Return EJBCA with prepared results, and its record of calls."""
    fake = FakeAppliance(**{"health": None, "reactivate": None, **results})
    return fake, t.cast("EjbcaNode", fake)


def test_reactivation_checks_the_health_before_and_after() -> None:
    fake, node2 = ejbca()
    reactivation = Reactivation(node2, "T", "node2")
    assert reactivation.attempted is False
    reactivation.run()
    assert (reactivation.attempted, fake.calls) == (True, ["health", "reactivate", "health"])


@pytest.mark.parametrize(
    ("results", "code", "attempted", "calls"),
    [
        ({"health": "CA: Error CA Token is disconnected"}, "ejbca_not_healthy", False, 1),
        ({"health": "MAINT: in maintenance"}, "ejbca_not_healthy", False, 1),
        ({"health": AWAY}, "ejbca_unreachable", False, 1),
        ({"reactivate": REJECTED}, "ejbca_rejected", True, 2),
        ({"reactivate": LOST}, "response_lost", True, 2),
        ({"health": [None, "CA: Error CA Token is disconnected"]}, "crypto_token_offline", True, 3),
        ({"health": [None, AWAY]}, "ejbca_unreachable", True, 3),
    ],
    ids=str,
)
def test_reactivation_stops_at_the_first_problem(
    results: dict[str, t.Any], code: str, attempted: bool, calls: int
) -> None:
    """Each further request could cost a PIN try. A failure after the attempt counts as a change."""
    fake, node2 = ejbca(**results)
    reactivation = Reactivation(node2, "T", "node2")
    with pytest.raises(ReactivationError, match="crypto token T of node2") as failed:
        reactivation.run()
    assert (failed.value.code, reactivation.attempted, len(fake.calls)) == (code, attempted, calls)
    assert failed.value.details.get("changed", False) is attempted
    assert failed.value.details.get("reactivated", False) is attempted


def prove(node2: EjbcaNode, *keys: t.Any, level: str = "sign", reactivate: bool = True, ca: str | None = "CA") -> t.Any:
    requested = tuple(RequestedKey(each.fingerprint, each.label, each.slot, ca) for each in keys)
    patience = WaitOptions(20.0, 1.0, clock=iter(range(1000)).__next__, sleep=lambda seconds: None)
    options = ProofOptions("node2", level, requested, "T", reactivate, Profiles("p", "e"), (), patience)
    appliance = FakeAppliance(node=node(*keys, name="node2"), list_keys=tuple(keys)).appliance
    return prove_keys(appliance, node2, options, dry_run=False, progress=lambda line: None)


def test_keys_that_stay_invisible_get_one_reactivation() -> None:
    """Two keys and many repetitions of the test reactivate the token once."""
    fake, node2 = ejbca(issue_test_certificate=REJECTED)
    result = prove(node2, SIGN, OTHER)
    assert (result["passed"], result["changed"], result["reactivated"]) == (False, True, True)
    assert fake.calls.count("reactivate") == 1
    assert fake.calls.count("issue_test_certificate") > 4


def test_key_that_signs_is_not_reactivated() -> None:
    fake, node2 = ejbca(issue_test_certificate=IssuedCertificate("01", SIGN.fingerprint))
    assert prove(node2, SIGN)["passed"] is True
    assert fake.calls == ["issue_test_certificate"]


@pytest.mark.parametrize("level", ["token", "sign"])
def test_unhealthy_ejbca_ends_the_proof(level: str) -> None:
    """The failure is not a row of the proof, so a role stops before the next node."""
    fake, node2 = ejbca(health="ill", issue_test_certificate=REJECTED)
    with pytest.raises(UtrustError) as failed:
        prove(node2, SIGN, level=level, ca="CA")
    assert failed.value.code == "ejbca_not_healthy"
    assert "reactivate" not in fake.calls


@pytest.mark.parametrize(("level", "words"), [("token", "does not report the keys"), ("sign", "no CA uses this key")])
def test_key_without_a_ca_sends_nothing(level: str, words: str) -> None:
    fake, node2 = ejbca()
    result = prove(node2, SIGN, level=level, reactivate=False, ca=None)
    assert result["passed"] is False
    assert words in result["proof"][0]["detail"]
    assert fake.calls == []
