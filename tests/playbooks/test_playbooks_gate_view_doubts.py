# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role key_gate stays closed if view or test signature do not show that each node has the key of the source."""

from __future__ import annotations

import threading
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, FIRST, EjbcaClient
from tests.support.gate import NODES, admin_web_requests, synchronized_key, view_gate
from tests.support.playbook import methods

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

Flags = t.Callable[..., None]
KEY: t.Final = {"label": FIRST, "sign_test": True}


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=2, ejbca=True) as running:
        yield running


@pytest.fixture
def flags(control: Control) -> Iterator[Flags]:
    """Set flags of EJBCA of a node, or of all nodes. Afterwards all nodes have the defaults."""

    def change(node: str | None = None, **values: t.Any) -> None:
        for each in NODES if node is None else (node,):
            control.ejbca(each, "flags", **values)

    change(version="9.3.0")
    yield change
    change(reset=True)


def reload_token(control: Control, node: str) -> None:
    control.ejbca(node, "deactivate")
    EjbcaClient(control, node).health()  # EJBCA activates the token at its next use


@pytest.mark.parametrize(
    ("certificates", "state", "words"),
    [
        ({"mine": "renamed"}, "moved", "the node shows this public key with alias renamed"),
        ({"mine": None, "other": "mine"}, "mismatched", "the alias names another public key on this node"),
        (
            {"mine": "other", "other": "mine"},
            "moved",
            "the node shows this public key with alias other, and the alias of the source names",
        ),
        ({"mine": None}, "stale", "the key is in the HSM, but EJBCA does not show it yet"),
    ],
    ids=str,
)
def test_gate_stays_closed_for_another_view_of_a_node(
    control: Control, tmp_path: Path, flags: Flags, certificates: dict[str, str | None], state: str, words: str
) -> None:
    """The alias comes from the certificate object of the key. The confirmation of a person does not open the gate."""
    if "mine" not in [key["label"] for key in control.keys("node1")]:
        control.generate_key("node1", "other")
        synchronized_key(control, "mine")
    fingerprint = next(key["fingerprint"] for key in control.keys("node1") if key["label"] == "mine")
    confirmed = {"node": "node2", "key": fingerprint, "time": "2026-11-23T13:00:00Z", "confirmed_by": "Ada"}
    try:
        for label, certificate in certificates.items():
            control.ejbca("node2", "certificate_object", label=label, certificate=certificate)
        reload_token(control, "node2")
        for level in ("token", "sign"):
            key = {"label": "mine", "sign_test": True}
            words_of_ada = [{**confirmed, "reason": "tested"}]
            run = view_gate(control, tmp_path, key, key_gate_level=level, key_gate_manual_confirmations=words_of_ada)
            assert f"Not on node2 (hsm: EJBCA view: {state}: {words}" in run.text, run.output
            assert "2 of 3 node(s) reach level" in run.text
    finally:
        for label in certificates:
            control.ejbca("node2", "certificate_object", label=label, certificate=label)
        reload_token(control, "node2")


def test_gate_stays_closed_for_a_token_without_pin(control: Control, tmp_path: Path, flags: Flags) -> None:
    """Each view tries the PIN again, so a waiting gate reads the view once, and a second gate of the same run does not."""
    control.ejbca("node2", "slot_pin", code="other", tries=9)
    control.ejbca("node2", "deactivate")
    try:
        run = view_gate(control, tmp_path, {"label": FIRST}, key_gate_level="token", key_gate_wait_timeout=15)
        assert "Not on node2 (hsm: EJBCA view: inactive" in run.text, run.output
        assert "Activate the crypto token in the Admin Web of this node. Check its PIN first" in run.text
        assert len(admin_web_requests(control)["node2"]) <= 3
        assert len(admin_web_requests(control)["node3"]) > 3
    finally:
        control.ejbca("node2", "slot_pin")
        EjbcaClient(control, "node2").health()


def test_gate_stays_closed_for_a_token_without_activation(control: Control, tmp_path: Path, flags: Flags) -> None:
    control.ejbca("node2", "set", auto_activation=False)
    control.ejbca("node2", "deactivate")
    try:
        run = view_gate(control, tmp_path, {"label": FIRST}, key_gate_level="token")
        assert "Not on node2 (hsm: EJBCA view: inactive: the crypto token is inactive on this node" in run.text
    finally:
        control.ejbca("node2", "set", auto_activation=True)
        EjbcaClient(control, "node2").health()


@pytest.mark.parametrize(("node", "shown"), [("node2", "node1"), ("node3", "node2")])
def test_gate_stays_closed_behind_a_virtual_address(
    control: Control, tmp_path: Path, flags: Flags, node: str, shown: str
) -> None:
    """The page of another node has its host name. A node whose identity is unknown is not proven by the view."""
    flags(node, vip=shown)
    for level in ("token", "sign"):
        run = view_gate(control, tmp_path, KEY, key_gate_level=level)
        assert "has the same host name" in run.text, run.output
        assert f"{node} (hsm: EJBCA view: unknown" in run.text


def test_gate_stops_at_another_database(control: Control, tmp_path: Path, flags: Flags) -> None:
    flags("node3", token_ids={"SigningToken": 4711})
    run = view_gate(control, tmp_path, {"label": FIRST, "ca": CA}, key_gate_proof_certificates=True)
    assert "Not on node3 (hsm: EJBCA view: unknown: the crypto token ids differ" in run.text, run.output
    assert "All nodes of a cluster must share one database" in run.text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": "8.1.0"}, "EJBCA 8.1.0 cannot test a key by its health check"),
        ({"version": "8.2.0.1"}, "Take the node out of traffic, then set out_of_traffic"),
        ({"health_error": "service unavailable"}, "does not report a failed test of a key that does not exist"),
        ({"maintenance": "until noon"}, "the health check fails without a key: HTTP 500 MAINT: until noon"),
        ({"health_ips": ["192.0.2.1"]}, "the health check fails without a key: HTTP 401"),
        ({"cp5": True}, "The HSM authorizes each use of the keys"),
        ({"roles": {"ejbca-reader": "administrator"}}, "[ejbca_rights_excessive]"),
        ({"roles": {"ejbca-reader": "tester"}}, "[ejbca_rights_excessive]"),
    ],
    ids=str,
)
def test_gate_stays_closed_if_the_test_says_nothing(
    control: Control, tmp_path: Path, flags: Flags, changed: dict[str, t.Any], words: str
) -> None:
    """The other nodes pass. On the source, the same doubt closes the gate for all nodes, and no other node is tested."""
    flags("node2", **changed)
    run = view_gate(control, tmp_path, KEY)
    assert words in run.text, run.output
    assert "2 of 3 node(s) reach level sign, 3 must" in run.text
    flags("node2", reset=True)
    flags("node2", version="9.3.0")
    flags("node1", **changed)
    before = control.ejbca("node3", "counters").get("health_checks", 0)
    run = view_gate(control, tmp_path, KEY)
    assert words in run.text, run.output
    assert "0 of 3 node(s) reach level sign, 3 must" in run.text
    assert control.ejbca("node3", "counters").get("health_checks", 0) == before


def test_gate_falls_back_to_the_proof_ca(control: Control, tmp_path: Path, flags: Flags) -> None:
    """A doubt of the test signature leads to a test certificate, if the operator allows test certificates."""
    flags("node2", maintenance=None, health_error="service unavailable")
    key = {**KEY, "ca": CA}
    run = view_gate(control, tmp_path, key, key_gate_proof_certificates=True)
    assert run.status == 0, run.output
    assert "node2 (sign: certificate" in run.text


def test_gate_before_version_9_needs_nodes_without_traffic(control: Control, tmp_path: Path, flags: Flags) -> None:
    flags(version="8.2.0.1")
    some = view_gate(control, tmp_path, KEY, key_gate_out_of_traffic=["node1", "node2"])
    assert "2 of 3 node(s) reach level sign, 3 must" in some.text, some.output
    every = view_gate(control, tmp_path, KEY, key_gate_out_of_traffic=list(NODES))
    assert every.status == 0, every.output


def test_gate_at_the_same_time_as_a_load_balancer(control: Control, tmp_path: Path, flags: Flags) -> None:
    """Version 8.2 shares responses of requests at the same time, so a gate without doubt is open and any doubt closes it."""
    flags(version="8.2.0.1", health_delay=0.05)
    ended = threading.Event()

    def monitor() -> None:
        while not ended.is_set():
            EjbcaClient(control, "node2").health()

    thread = threading.Thread(target=monitor)
    thread.start()
    try:
        run = view_gate(control, tmp_path, KEY, key_gate_out_of_traffic=list(NODES))
    finally:
        ended.set()
        thread.join()
    assert run.status == 0 or "Not on node2 (token: " in run.text, run.output


@pytest.mark.parametrize(
    "mark", ["public_trust", "qualified", "root", "offline", "needs_authorization", "sole_control"]
)
def test_gate_makes_no_test_signature_of_a_marked_key(
    control: Control, tmp_path: Path, flags: Flags, mark: str
) -> None:
    refused = view_gate(control, tmp_path, {**KEY, mark: True})
    assert "code: proof_not_allowed" in refused.text, refused.output
    assert methods(control) == set()


@pytest.mark.parametrize(
    ("key", "more", "code"),
    [
        (KEY, {"key_gate_ejbca_view": ""}, "option_invalid"),
        (KEY, {"key_gate_crypto_token": ""}, "option_invalid"),
        (KEY, {"key_gate_ejbca_view_timeout": -1}, "option_invalid"),
        ({**KEY, "sign_test": "perhaps"}, {}, "option_invalid"),
        (KEY, {"key_gate_reactivate": True, "key_gate_out_of_traffic": ["node2"]}, "option_invalid"),
        (KEY, {"key_gate_out_of_traffic": ["node9"]}, "option_invalid"),
    ],
    ids=str,
)
def test_gate_with_invalid_options_of_the_view(
    control: Control, tmp_path: Path, key: dict[str, t.Any], more: dict[str, t.Any], code: str
) -> None:
    refused = view_gate(control, tmp_path, key, **more)
    assert f"code: {code}" in refused.text, refused.output
    assert methods(control) == set()


def test_gate_makes_no_test_signature_without_permission(control: Control, tmp_path: Path, flags: Flags) -> None:
    before = {node: control.ejbca(node, "counters").get("key_tests", 0) for node in NODES}
    run = view_gate(control, tmp_path, {"label": FIRST})
    assert "A test signature was not requested. Set sign_test" in run.text, run.output
    assert {node: control.ejbca(node, "counters").get("key_tests", 0) for node in NODES} == before
