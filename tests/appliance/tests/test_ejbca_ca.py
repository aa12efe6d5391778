# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A key in the HSM is not sufficient: the EJBCA of each node caches its keys."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, DISCONNECTED, FIRST, TOKEN, EjbcaClient, openssl_verifies

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control


@pytest.fixture
def control(hsm: str) -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=2, ejbca=True, hsm=hsm) as running:
        yield running


def mapping(control: Control, node: str = "node1") -> dict[str, t.Any]:
    (ca,) = control.ejbca(node, "status")["certificate_authorities"]
    return {place: ca[place] and ca[place]["alias"] for place in ("current", "next", "previous")}


def cached(control: Control, node: str) -> dict[str, str]:
    return t.cast("dict[str, str]", control.ejbca(node, "status")["crypto_tokens"][0]["keys"])


def test_renewal_used_by_all_nodes_without_key_fails(control: Control) -> None:
    """All nodes use a renewed CA immediately, and nodes without the key fail."""
    new = control.ejbca("node1", "renew")["alias"]

    assert mapping(control, "node2") == {"current": new, "next": None, "previous": FIRST}
    assert EjbcaClient(control, "node1").health() == (200, "ALLOK")
    assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)
    rejected = EjbcaClient(control, "node2").enroll()
    assert (rejected.status, new in rejected.data["error_message"]) == (503, True)


def test_health_check_ignores_next_and_previous_keys(
    control: Control,
) -> None:
    """The health check tests only the current key of a CA."""
    body = {"key_pair_alias": "next-1", "key_alg": "EC", "key_spec": "P-256"}
    assert EjbcaClient(control, "node1")("POST", f"/cryptotoken/{TOKEN}/generatekeys", body).status == 201
    control.ejbca("node1", "next_key", alias="next-1")

    assert "next-1" not in cached(control, "node2")
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")

    control.ejbca("node1", "renew", alias=FIRST)  # FIRST is now the current and the previous key
    control.ejbca("node1", "renew", alias="next-1")
    control.ejbca("node1", "renew", alias=FIRST)
    assert mapping(control)["previous"] == "next-1"
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")


def test_new_key_unavailable_until_reactivation(control: Control) -> None:
    """A token finds a new key only after it is activated again."""
    control.generate_key("node2", "arrived")

    assert "arrived" not in cached(control, "node2")
    control.ejbca("node2", "activate")  # an active token does not read keys
    assert "arrived" not in cached(control, "node2")
    assert EjbcaClient(control, "node2")("PUT", f"/cryptotoken/{TOKEN}/deactivate").status == 200
    assert "arrived" in cached(control, "node2")  # auto-activation


def test_manual_activation_token_stays_offline(control: Control) -> None:
    """Without auto-activation, a token stays offline until it is activated."""
    control.ejbca("node1", "set", auto_activation=False)
    web = EjbcaClient(control, "node2")
    assert web("PUT", f"/cryptotoken/{TOKEN}/deactivate").status == 200

    assert web.health() == (500, DISCONNECTED)
    assert web.enroll().status == 503
    assert (
        web(
            "POST", f"/cryptotoken/{TOKEN}/generatekeys", {"key_pair_alias": "a", "key_alg": "EC", "key_spec": "P-256"}
        ).status
        == 503
    )
    assert EjbcaClient(control, "node1").health() == (200, "ALLOK")  # every node activates its own token

    code = (control.folder / "ejbca" / "activation-code").read_text(encoding="ascii").strip()
    assert web("PUT", f"/cryptotoken/{TOKEN}/activate", {"activation_code": code}).status == 200
    assert web.health() == (200, "ALLOK")

    control.down()
    again = type(control).up(control.folder)  # EJBCA stays enabled
    assert EjbcaClient(again, "node1").health() == (500, DISCONNECTED)


def test_renewal_failed_key_test_changes_nothing(control: Control) -> None:
    """A failed test of the next key stops the renewal without changes."""
    control.generate_key("node1", "next-2")
    control.ejbca("node1", "next_key", alias="next-2")

    with pytest.raises(OperationError, match="not contain a key with alias next-2"):
        control.ejbca("node2", "renew")

    assert mapping(control) == {"current": FIRST, "next": "next-2", "previous": None}
    assert "next-2" not in [key["label"] for key in control.keys("node2")]


def test_renewal_failed_key_test_regenerates_key(control: Control) -> None:
    """With regenerate_next_key, a failed test generates another key under the same alias."""
    control.generate_key("node1", "next-3", "rsa-3072")
    control.ejbca("node1", "deactivate")
    control.ejbca("node1", "next_key", alias="next-3")
    control.ejbca("node1", "set", regenerate_next_key=True)

    assert control.ejbca("node2", "renew")["alias"] == "next-3"

    first, second = cached(control, "node1")["next-3"], cached(control, "node2")["next-3"]
    assert first != second
    # Both health checks succeed, although node1 has a wrong key. EJBCA detects the wrong signature.
    assert EjbcaClient(control, "node1").health() == EjbcaClient(control, "node2").health() == (200, "ALLOK")
    assert EjbcaClient(control, "node2").enroll().status == 201
    rejected = EjbcaClient(control, "node1").enroll()
    assert (rejected.status, "another key signed it" in rejected.data["error_message"]) == (500, True)


def test_removed_key_stays_cached_without_signing(control: Control) -> None:
    """A token caches a removed key but cannot sign with it."""
    control.delete_key("node2", FIRST)

    assert FIRST in cached(control, "node2")
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")
    assert EjbcaClient(control, "node2").enroll().status == 503


def test_unusable_key_is_not_an_alias(control: Control) -> None:
    """An unusable key is not an alias of the token."""
    control.damage_key("node2", FIRST)
    control.ejbca("node2", "deactivate")

    assert FIRST not in cached(control, "node2")
    assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)


def test_inactive_slot_takes_token_offline(control: Control) -> None:
    """A slot that is not activated takes the token offline."""
    control.set_slot("node2", 0, activation="manual", activated=False)
    control.ejbca("node2", "deactivate")

    assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)
    control.set_slot("node2", 0, activated=True)
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")


def test_gate_ca_tests_key_on_each_node(control: Control, tmp_path: Path) -> None:
    """A separate CA tests a new key on each node before the renewal."""
    control.generate_key("node1", "next-4")
    control.ejbca("node1", "deactivate")
    control.ejbca("node1", "create_ca", name="Proof", alias="next-4", in_health_check=False)

    made = control.ejbca("node1", "issue", ca="Proof")
    assert openssl_verifies(made["certificate"], made["ca_certificate"], tmp_path)
    assert EjbcaClient(control, "node2").enroll("Proof").status == 503  # node2 does not have the key
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")  # the test CA does not affect the health check
    with pytest.raises(OperationError, match="already"):
        control.ejbca("node1", "create_ca", name="Proof", alias="next-4")


def test_simulator_paths_match_operations(control: Control) -> None:
    """The paths below /simulator match the operations of the control channel."""
    control.generate_key("node1", "next-5")
    web = EjbcaClient(control, "node1")
    assert web("PUT", f"/cryptotoken/{TOKEN}/deactivate").status == 200
    assert web("PUT", f"/simulator/ca/{CA}/next-key", {"key_pair_alias": "next-5"}).status == 200
    assert mapping(control)["next"] == "next-5"
    made = {
        "name": "P",
        "subject_dn": "CN=P",
        "crypto_token": TOKEN,
        "key_pair_alias": "next-5",
        "in_health_check": False,
    }
    assert web("POST", "/simulator/ca", made).status == 201
    assert web("POST", "/simulator/ca", {**made, "name": "Q", "subject_dn": "no name"}).status == 400
    assert web("POST", f"/simulator/ca/{CA}/renew").data == {"key_pair_alias": "next-5"}
    assert web("POST", "/simulator/ca/Nobody/renew").status == 404
    facts = {ca["name"]: ca for ca in web("GET", "/simulator/ejbca").data["certificate_authorities"]}
    assert facts[CA]["current"] == {"alias": "next-5", "available": True}
