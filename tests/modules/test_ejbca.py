# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test ejbca_ca_info, ejbca_key and utrust_key_proof through both runners with the EJBCA simulator."""

from __future__ import annotations

import sys
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import CA, DISCONNECTED, FIRST, TOKEN, EjbcaClient
from tests.support.playbook import methods
from tests.support.runners import connection_args, task

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

    from tests.support.runners import AnsibleRunner, Arguments


@pytest.fixture(scope="module", autouse=True)
def library(runner: AnsibleRunner) -> None:
    """Use a Python that has the library cryptography, which these modules require."""
    runner.bastion_vars["ansible_python_interpreter"] = sys.executable


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=1, ejbca=True, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    running.clear_log()
    yield running
    running.clear_faults()


def ejbca(control: Control, node: str, *, client: str = "operator", **changes: t.Any) -> Arguments:
    certificate, key = control.client(client)
    url = control.ejbca(node, "status")["url"].rpartition(":")
    usual = {
        "host": url[0].removeprefix("https://"),
        "port": int(url[2]),
        "client_cert": str(certificate),
        "client_key": str(key),
        "tls_fingerprint": [control.node(node)["tls_fingerprint"]],
    }
    return {**usual, **changes}


def at(control: Control, node: str, **more: t.Any) -> Arguments:
    return {**connection_args(control, node), "ejbca": ejbca(control, node), **more}


def quiet(control: Control, node: str = "node2") -> Arguments:
    """Options of a node whose traffic people have removed."""
    return {
        "reactivate": True,
        "reactivation_affects": {"crypto_tokens": [], "cas": [CA], "key_bindings": []},
        "out_of_traffic": True,
        "ejbca_view": True,
        "ejbca_view_timeout": 0,
        "ejbca_reader": ejbca(control, node, client="ejbca-reader"),
    }


def key_of(control: Control, label: str, node: str = "node1", **more: t.Any) -> dict[str, t.Any]:
    found = next(key for key in control.keys(node) if key["label"] == label)
    return {name: found[name] for name in ("fingerprint", "label", "slot")} | more


def test_ejbca_ca_info_returns_cas_and_health(control: Control, runner: AnsibleRunner) -> None:
    """The module sends GET requests only."""
    control.ejbca("node1", "deactivate")
    control.fault("alarm", node="node2")
    well, ill = runner.run(
        task("ejbca_ca_info", at(control, "node1")), task("ejbca_ca_info", at(control, "node2"), check_mode=True)
    ).results
    [authority] = [entry for entry in well["authorities"] if entry["name"] == CA]
    assert (well["changed"], well["health"]) == (False, None)
    assert authority["public_key_sha256"] == key_of(control, FIRST)["fingerprint"]
    assert (ill["health"], ill["authorities"]) == (DISCONNECTED, well["authorities"])
    assert methods(control) == {"GET"}


def test_ejbca_ca_info_connection_problem_has_its_code(control: Control, runner: AnsibleRunner) -> None:
    """Each connection problem has its own code."""
    stranger = ejbca(control, "node1", tls_fingerprint=["ab" * 32])
    guest = dict(zip(("client_cert", "client_key"), map(str, control.client("guest")), strict=True))
    url = ejbca(control, "node1", host="http://127.0.0.1")
    closed = ejbca(control, "node1", port=1)
    results = runner.run(
        *(
            task("ejbca_ca_info", {**connection_args(control, "node1"), "ejbca": given})
            for given in (stranger, ejbca(control, "node1", **guest), url, closed)
        )
    ).results
    assert [result["code"] for result in results] == [
        "tls_fingerprint_mismatch",
        "ejbca_rejected",
        "host_invalid",
        "ejbca_unreachable",
    ]
    assert "CN=guest is valid but not registered" in results[1]["msg"]


def test_ejbca_key_generates_once_and_never_in_check_mode(control: Control, runner: AnsibleRunner) -> None:
    """A key of another kind with the same alias is refused."""
    alias = f"key-{runner.name}"
    arguments = at(control, "node1", crypto_token=TOKEN, alias=alias, key_alg="EC", key_spec="P-256")
    check = task("ejbca_key", arguments, check_mode=True)
    planned = runner.run(check).result
    assert (planned["changed"], planned["hsm_key"]) == (True, None)
    assert methods(control) == {"GET"}

    real = task("ejbca_key", arguments)
    other = task("ejbca_key", {**arguments, "key_alg": "RSA", "key_spec": "2048"})
    first, again, checked, different = runner.run(real, real, check, other).results
    assert (first["changed"], again["changed"], checked["changed"]) == (True, False, False)
    assert first["hsm_key"] == again["hsm_key"]
    assert first["hsm_key"]["fingerprint"] == key_of(control, alias)["fingerprint"]
    assert (different["failed"], different["code"]) == (True, "key_spec_mismatch")
    assert alias not in [key["label"] for key in control.keys("node2")]


def test_ejbca_key_response_lost_reads_the_hsm(control: Control, runner: AnsibleRunner) -> None:
    """The request is sent once. The keys of the HSM show whether the key exists."""
    alias = f"lost-{runner.name}"
    arguments = at(control, "node1", crypto_token=TOKEN, alias=alias, key_alg="EC", key_spec="P-256", retries=3)
    control.fault("lost_response_after", path="generatekeys")
    made = runner.run(task("ejbca_key", arguments)).result
    assert made["changed"] is True, made
    assert [request["method"] for request in control.requests("node1")].count("POST") == 1
    control.fault("lost_response_before", path="generatekeys")
    lost = runner.run(task("ejbca_key", {**arguments, "alias": f"never-{runner.name}"})).result
    assert (lost["failed"], lost["code"]) == (True, "response_lost")
    refused = runner.run(task("ejbca_key", {**arguments, "alias": "x", "crypto_token": "Nothing"})).result
    assert (refused["code"], "The crypto token Nothing does not exist" in refused["msg"]) == ("ejbca_rejected", True)


def test_key_proof_reaches_hsm_then_token_then_sign(control: Control, runner: AnsibleRunner) -> None:
    """Each level needs its own proof, or a manual confirmation."""
    label, proof_ca = f"proof-{runner.name}", f"Proof-{runner.name}"
    for node in ("node1", "node2"):
        control.ejbca(node, "deactivate")
    control.generate_key("node2", label)
    requested = key_of(control, label, "node2")

    def prove(level: str, **more: t.Any) -> dict[str, t.Any]:
        arguments = at(
            control, "node2", hsm_keys=[{**requested, **more.pop("key", {})}], level=level, crypto_token=TOKEN
        )
        return runner.run(task("utrust_key_proof", {**arguments, **more})).result

    assert prove("hsm")["proof"][0]["reached"] == "hsm"
    named = at(control, "node2", hsm_keys=[{"label": label}], source_keys=control.keys("node2"), level="hsm")
    assert runner.run(task("utrust_key_proof", named)).result["passed"] is True
    nowhere = runner.run(task("utrust_key_proof", {**named, "hsm_keys": [{"label": "nowhere"}]})).result
    assert (nowhere["failed"], nowhere["code"]) == (True, "key_not_on_source")
    unproven = prove("token")
    assert (unproven["passed"], unproven["proof"][0]["reached"]) == (False, "hsm")
    assert "does not report the keys of a crypto token" in unproven["proof"][0]["detail"]
    assert label not in control.ejbca("node2", "status")["crypto_tokens"][0]["keys"]
    assert "no CA uses this key" in prove("sign")["proof"][0]["detail"]

    words = {
        "node": "node2",
        "time": "2026-11-23T13:00:00Z",
        "confirmed_by": "Ada",
        "reason": "tested in the Admin Web",
    }
    confirmation = {**words, "key": requested["fingerprint"]}
    confirmed = prove("sign", manual_confirmations=[confirmation])
    assert (confirmed["passed"], confirmed["changed"]) == (True, False)
    assert confirmed["proof"][0]["detail"] == "confirmed by Ada at 2026-11-23T13:00:00+00:00: tested in the Admin Web"
    assert prove("sign", manual_confirmations=[{**confirmation, "node": "node1"}])["passed"] is False
    arrivals = {requested["fingerprint"]: "2026-11-23T13:00:01Z"}
    early = prove("sign", manual_confirmations=[confirmation], key_arrivals=arrivals)
    assert (early["passed"], "it arrived on this node" in early["proof"][0]["detail"]) == (False, True)
    for wrong in ({"key": label}, {"time": "yesterday"}):
        refused = prove("sign", manual_confirmations=[{**confirmation, **wrong}])
        assert (refused["failed"], refused["code"]) == (True, "option_invalid")
    nameless = prove("sign", manual_confirmations=[{**confirmation, "confirmed_by": " "}])
    assert (nameless["failed"], nameless["code"]) == (True, "option_invalid")

    token = prove("token", **quiet(control))
    assert (token["passed"], token["changed"], token["reactivated"]) == (True, True, True)
    assert label in control.ejbca("node2", "status")["crypto_tokens"][0]["keys"]

    control.ejbca("node2", "create_ca", name=proof_ca, alias=label, in_health_check=False)
    signed = prove("sign", key={"ca": proof_ca}, proof_certificates=True, **quiet(control))
    assert (signed["passed"], signed["changed"], signed["proof"][0]["reached"]) == (True, False, "sign")
    assert [made["ca"] for made in signed["certificates"]] == [proof_ca]
    other = prove("sign", key={"ca": CA}, proof_certificates=True)
    assert (other["passed"], f"CA {CA} signs with another key on this node" in other["proof"][0]["detail"]) == (
        False,
        True,
    )


def test_key_proof_missing_other_and_unusable_key(control: Control, runner: AnsibleRunner) -> None:
    """Each of these keys fails with its own detail."""
    label = f"other-{runner.name}"
    control.generate_key("node1", label)
    requested = key_of(control, label)
    proof = task("utrust_key_proof", {**connection_args(control, "node2"), "hsm_keys": [requested], "level": "hsm"})
    missing = runner.run(proof).result
    control.generate_key("node2", label)
    another = runner.run(proof).result
    control.damage_key("node1", label)
    broken = runner.run(
        task("utrust_key_proof", {**connection_args(control, "node1"), "hsm_keys": [requested], "level": "hsm"})
    ).result
    control.fault("node_down", node="node2")
    away = runner.run(proof).result
    for result, word in (
        (missing, "is not in the HSM"),
        (another, "another key"),
        (broken, "cannot be used"),
        (away, "could not be read"),
    ):
        assert (result["passed"], result["changed"], result["proof"][0]["reached"]) == (False, False, "none")
        assert word in result["proof"][0]["detail"]


def test_key_proof_check_mode_returns_unknown(control: Control, runner: AnsibleRunner) -> None:
    """Check mode sends GET requests only and cannot prove a level beyond hsm."""
    keys = [key_of(control, FIRST, ca=CA)]
    arguments = at(control, "node2", hsm_keys=keys, crypto_token=TOKEN, proof_certificates=True, **quiet(control))
    result = runner.run(task("utrust_key_proof", arguments, check_mode=True)).result
    assert (result["passed"], result["proof"][0]["reached"], result["certificates"]) == (None, "hsm", [])
    assert methods(control) == {"GET"}


def test_key_proof_token_stays_offline_is_reported(control: Control, runner: AnsibleRunner) -> None:
    """A crypto token whose PIN has changed stays offline after the deactivation."""
    label = f"offline-{runner.name}"
    control.generate_key("node2", label)
    control.ejbca("node2", "slot_pin", code="other", tries=50)
    try:
        requested = key_of(control, label, "node2")
        arguments = at(control, "node2", hsm_keys=[requested], level="token", crypto_token=TOKEN)
        result = runner.run(task("utrust_key_proof", {**arguments, **quiet(control)})).result
        assert (result["failed"], result["code"]) == (True, "crypto_token_offline")
        assert (result["changed"], result["reactivated"]) == (True, True)
        assert "may have no auto-activation" in result["msg"]
        assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)
    finally:
        control.ejbca("node2", "slot_pin")
        EjbcaClient(control, "node2").health()
