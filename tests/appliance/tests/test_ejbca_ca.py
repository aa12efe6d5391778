# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why "the key is in the HSM" is not enough: what each node's application sees of a CA's keys, and when."""

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


def seen(control: Control, node: str) -> dict[str, str]:
    return t.cast("dict[str, str]", control.ejbca(node, "status")["crypto_tokens"][0]["keys"])


def test_renewal_is_used_by_all_nodes_at_once_and_fails_where_the_key_is_not(control: Control) -> None:
    new = control.ejbca("node1", "renew")["alias"]

    assert mapping(control, "node2") == {"current": new, "next": None, "previous": FIRST}
    assert EjbcaClient(control, "node1").health() == (200, "ALLOK")
    assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)
    refused = EjbcaClient(control, "node2").enroll()
    assert (refused.status, new in refused.data["error_message"]) == (503, True)


def test_health_check_does_not_notice_a_key_that_is_missing_and_only_mapped_as_next_or_previous(
    control: Control,
) -> None:
    body = {"key_pair_alias": "next-1", "key_alg": "EC", "key_spec": "P-256"}
    assert EjbcaClient(control, "node1")("POST", f"/cryptotoken/{TOKEN}/generatekeys", body).status == 201
    control.ejbca("node1", "next", alias="next-1")

    assert "next-1" not in seen(control, "node2")
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")

    control.ejbca("node1", "renew", alias=FIRST)  # FIRST is current and previous now
    control.ejbca("node1", "renew", alias="next-1")
    control.ejbca("node1", "renew", alias=FIRST)
    assert mapping(control)["previous"] == "next-1"
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")


def test_key_that_arrives_is_unseen_until_the_token_is_activated_again(control: Control) -> None:
    control.generate_key("node2", "arrived")

    assert "arrived" not in seen(control, "node2")
    control.ejbca("node2", "activate")  # it is active: nothing is read
    assert "arrived" not in seen(control, "node2")
    assert EjbcaClient(control, "node2")("PUT", f"/cryptotoken/{TOKEN}/deactivate").status == 200
    assert "arrived" in seen(control, "node2")  # auto-activation


def test_without_auto_activation_a_token_stays_offline_until_somebody_activates_it(control: Control) -> None:
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
    assert EjbcaClient(control, "node1").health() == (200, "ALLOK")  # activation is each node's own

    code = (control.folder / "ejbca" / "activation-code").read_text(encoding="ascii").strip()
    assert web("PUT", f"/cryptotoken/{TOKEN}/activate", {"activation_code": code}).status == 200
    assert web.health() == (200, "ALLOK")

    control.down()
    again = type(control).up(control.folder)  # the application stays without being asked for again
    assert EjbcaClient(again, "node1").health() == (500, DISCONNECTED)


def test_next_key_that_fails_its_test_stops_the_renewal_and_nothing_changes(control: Control) -> None:
    control.generate_key("node1", "next-2")
    control.ejbca("node1", "next", alias="next-2")

    with pytest.raises(OperationError, match="no key with alias next-2"):
        control.ejbca("node2", "renew")

    assert mapping(control) == {"current": FIRST, "next": "next-2", "previous": None}
    assert "next-2" not in [key["label"] for key in control.keys("node2")]


def test_with_second_key_a_failed_test_makes_another_key_under_the_same_alias(control: Control) -> None:
    control.generate_key("node1", "next-3", "rsa-3072")
    control.ejbca("node1", "deactivate")
    control.ejbca("node1", "next", alias="next-3")
    control.ejbca("node1", "set", second_key=True)

    assert control.ejbca("node2", "renew")["alias"] == "next-3"

    first, second = seen(control, "node1")["next-3"], seen(control, "node2")["next-3"]
    assert first != second
    # Both health checks are content, and node1 has the wrong key: what it signs does not verify, and it notices.
    assert EjbcaClient(control, "node1").health() == EjbcaClient(control, "node2").health() == (200, "ALLOK")
    assert EjbcaClient(control, "node2").enroll().status == 201
    refused = EjbcaClient(control, "node1").enroll()
    assert (refused.status, "another key signed it" in refused.data["error_message"]) == (500, True)


def test_removed_key_is_still_remembered_by_the_token_but_does_not_sign(control: Control) -> None:
    control.delete_key("node2", FIRST)

    assert FIRST in seen(control, "node2")
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")
    assert EjbcaClient(control, "node2").enroll().status == 503


def test_unusable_key_is_no_alias_of_the_token(control: Control) -> None:
    control.damage_key("node2", FIRST)
    control.ejbca("node2", "deactivate")

    assert FIRST not in seen(control, "node2")
    assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)


def test_slot_that_is_not_activated_takes_the_token_offline(control: Control) -> None:
    control.set_slot("node2", 0, activation="manual", activated=False)
    control.ejbca("node2", "deactivate")

    assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)
    control.set_slot("node2", 0, activated=True)
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")


def test_ca_on_a_new_key_proves_each_node_before_anything_is_activated(control: Control, tmp_path: Path) -> None:
    control.generate_key("node1", "next-4")
    control.ejbca("node1", "deactivate")
    control.ejbca("node1", "create", name="Proof", alias="next-4", in_health_check=False)

    made = control.ejbca("node1", "issue", ca="Proof")
    assert openssl_verifies(made["certificate"], made["ca_certificate"], tmp_path)
    assert EjbcaClient(control, "node2").enroll("Proof").status == 503  # it has not got the key
    assert EjbcaClient(control, "node2").health() == (200, "ALLOK")  # and the proof takes no node out of service
    with pytest.raises(OperationError, match="already"):
        control.ejbca("node1", "create", name="Proof", alias="next-4")


def test_admin_web_requests_do_what_the_console_does(control: Control) -> None:
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
    facts = {ca["name"]: ca for ca in web("GET", "/simulator/application").data["certificate_authorities"]}
    assert facts[CA]["current"] == {"alias": "next-5", "seen": True}
