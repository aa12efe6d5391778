# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test ejbca_key_info with the EJBCA simulator: the results through both runners, and the pages and faults through its operation."""

from __future__ import annotations

import typing as t
from urllib.parse import urlsplit

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ejbca_key_info import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, execute
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import FIRST, TOKEN
from tests.support.runners import connection_args, task

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

    from tests.support.runners import AnsibleRunner, Arguments

AWKWARD = ["a b", "a+b", "A b", 'x&y<z>"q"\'', "50%", "#1;2=3/4", " lead", "trail ", "schl\u00fcssel"]
NODES = ("node1", "node2")


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, ejbca=True) as control:
        for alias in AWKWARD:
            control.generate_key("node1", alias)
        control.ejbca("node1", "deactivate")
        control.ejbca("node1", "create_token", name="Empty", slot=1, id=-5, placeholders=["template"])
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """Clear the counters before a test, and the flags, PINs and sessions after the test."""
    for node in NODES:
        running.ejbca(node, "counters", clear=True)
    yield running
    for node in NODES:
        running.ejbca(node, "flags", reset=True)
        running.ejbca(node, "slot_pin")
        running.ejbca(node, "end_sessions")


def at(control: Control, node: str, *, client: str = "ejbca-reader", **more: t.Any) -> Arguments:
    certificate, key = control.client(client)
    place = urlsplit(control.ejbca(node, "status")["url"])
    ejbca = {"host": place.hostname, "port": place.port, "client_cert": str(certificate), "client_key": str(key)}
    ejbca["tls_fingerprint"] = [control.node(node)["tls_fingerprint"]]
    return {**connection_args(control, node), "ejbca": ejbca, **more}


def read(runner: AnsibleRunner, arguments: Arguments, **keywords: t.Any) -> dict[str, t.Any]:
    return runner.run(task("ejbca_key_info", arguments, **keywords)).result


def operate(arguments: Arguments) -> dict[str, t.Any]:
    """Return the result of the operation in this process, which is faster than a run of Ansible."""
    checked = ArgumentSpecValidator(**OPERATION.module_arguments()).validate(arguments)
    assert not checked.error_messages
    return execute(OPERATION, Invocation(checked.validated_parameters, False, lambda dummy: None, None))


def token_of(result: dict[str, t.Any], name: str = TOKEN) -> dict[str, t.Any]:
    return next(token for token in result["view"]["tokens"] if token["name"] == name)


def keys_of(result: dict[str, t.Any], name: str = TOKEN) -> dict[str, tuple[str | None, str | None]]:
    """Return fingerprint and problem by alias."""
    return {key["alias"]: (key["fingerprint"], key["problem"]) for key in token_of(result, name)["token_keys"]}


def hsm_keys(control: Control, node: str = "node1") -> dict[str, str]:
    return {key["label"]: key["fingerprint"] for key in control.keys(node)}


def counters(control: Control, node: str = "node1") -> dict[str, int]:
    return t.cast("dict[str, int]", control.ejbca(node, "counters"))


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"version": "7.4.3"},
        {"language": "de"},
        {"language": "fr", "version": "7.10.0"},
        {"generation": "G95"},
        {"list_links": "title", "generation": "G95"},
        {"client_auth": "late"},
        {"explicit_parameters": True},
    ],
    ids=str,
)
def test_ejbca_key_info_returns_the_keys_of_the_node(control: Control, flags: dict[str, t.Any]) -> None:
    """Every alias has the public key of the HSM, in each generation and language. Only GET is sent, in one session."""
    control.ejbca("node1", "flags", **flags)
    result = operate(at(control, "node1"))
    assert result.get("failed") is not True, result
    expected = {alias: fingerprint for alias, fingerprint in hsm_keys(control).items() if alias in [FIRST, *AWKWARD]}
    assert {alias: keys_of(result).get(alias) for alias in expected} == {
        alias: (fingerprint, None) for alias, fingerprint in expected.items()
    }
    assert (result["changed"], result["problems"], result["view"]["scope"]) == (False, [], "ejbca")
    assert keys_of(result, "Empty")["template"] == (None, None)
    assert result["identity"]["host_name"] == "node1"
    assert result["identity"]["certificate_fingerprint"] == control.node("node1")["tls_fingerprint"]
    counted = counters(control)
    assert counted["logins"] == 1
    assert counted.get("method_POST", 0) == 0


def test_ejbca_key_info_is_the_same_in_check_mode(control: Control, runner: AnsibleRunner) -> None:
    """Both runners return what the operation returns, and send only GET."""
    expected = operate(at(control, "node1"))
    real, check = runner.run(
        task("ejbca_key_info", at(control, "node1")), task("ejbca_key_info", at(control, "node1"), check_mode=True)
    ).results
    for result in (expected, real, check):
        result["view"].pop("server_time")
    assert expected["view"] == real["view"] == check["view"]
    assert counters(control).get("method_POST", 0) == 0


def test_ejbca_key_info_without_listed_ids_needs_token_ids(control: Control, runner: AnsibleRunner) -> None:
    known = token_of(read(runner, at(control, "node1")))
    control.ejbca("node1", "flags", generation="G95", list_links="none")
    failed, result = runner.run(
        task("ejbca_key_info", at(control, "node1")),
        task("ejbca_key_info", at(control, "node1", token_ids=[known["id"]])),
        warnings=["crypto token Empty is in the list"],
    ).results
    assert failed["code"] == "crypto_token_id_missing"
    assert token_of(result)["token_keys"] == known["token_keys"]


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ({"response": "truncated"}, None),
        ({"response": "bad_gateway"}, "ejbca_page_refused"),
        ({"response": "unavailable"}, "ejbca_page_refused"),
        ({"response": "redirect"}, "ejbca_redirected"),
        ({"roles": {"ejbca-reader": "nothing"}}, "ejbca_page_unrecognized"),
        ({"roles": {"ejbca-reader": "tester"}}, "ejbca_rights_excessive"),
        ({"roles": {"ejbca-reader": "operator"}}, "ejbca_rights_excessive"),
        ({"roles": {"ejbca-reader": "administrator"}}, "ejbca_rights_excessive"),
        ({"roles": {"ejbca-reader": "administrator"}, "generation": "G95"}, "ejbca_rights_excessive"),
    ],
    ids=str,
)
def test_ejbca_key_info_rejects_every_other_page(control: Control, flags: dict[str, t.Any], code: str | None) -> None:
    """An error page with status 200 never means that a node has no keys."""
    control.ejbca("node1", "flags", **flags)
    result = operate(at(control, "node1"))
    assert result["failed"]
    assert result["code"] == code or (code is None and result["code"].startswith("ejbca_"))
    assert "view" not in result
    assert counters(control).get("method_POST", 0) == 0


def test_ejbca_key_info_with_failed_listing_has_unknown_keys(control: Control) -> None:
    control.ejbca("node1", "flags", listing_error="CKR_DEVICE_ERROR")
    result = operate(at(control, "node1"))
    assert token_of(result)["token_keys"] is None
    assert "key_listing_failed" in [problem["code"] for problem in result["problems"]]


def test_ejbca_key_info_spends_one_pin_try(control: Control, runner: AnsibleRunner) -> None:
    """The second task of the run sends nothing."""
    arguments = at(control, "node1")  # the simulator tries the PIN for its own status, too
    operate(arguments)
    control.ejbca("node1", "slot_pin", code="another")
    control.ejbca("node1", "deactivate")
    control.ejbca("node1", "slot_pin", code="another")
    before, logins = control.ejbca("node1", "pin_state"), counters(control)["logins"]
    first, second = runner.run(*[task("ejbca_key_info", arguments)] * 2).results
    assert [problem["code"] for problem in first["problems"]] == ["token_activation_failing"]
    assert token_of(first)["token_keys"] is None
    assert second["code"] == "token_activation_failing"
    assert counters(control)["logins"] == logins + 1
    assert control.ejbca("node1", "pin_state")["tries_left"] == before["tries_left"] - 1


def test_ejbca_key_info_shows_an_old_view(control: Control) -> None:
    """A key that arrived in the HSM after the activation is missing in the view."""
    operate(at(control, "node1"))
    control.generate_key("node1", "arrived-later")
    assert "arrived-later" in hsm_keys(control)
    assert "arrived-later" not in keys_of(operate(at(control, "node1")))
    control.ejbca("node1", "deactivate")
    assert "arrived-later" in keys_of(operate(at(control, "node1")))


def test_ejbca_key_info_behind_a_vip_shows_the_other_node(control: Control) -> None:
    control.ejbca("node2", "flags", vip="node1")
    assert operate(at(control, "node2"))["identity"]["host_name"] == "node1"


@pytest.mark.parametrize(
    ("flags", "without_traffic", "expected"),
    [
        ({}, True, ["can_sign", "unknown"]),
        ({}, False, ["unknown", "unknown"]),
        ({"version": "9.3.0"}, False, ["can_sign", "unknown"]),
        ({"version": "8.1.0"}, True, ["unknown", "unknown"]),
        ({"maintenance": "service"}, True, ["unknown", "unknown"]),
        ({"health_error": "out of service"}, True, ["unknown", "unknown"]),
        ({"health_ok": "all is well", "health_html": True}, True, ["can_sign", "unknown"]),
        ({"health_send_error": False}, True, ["can_sign", "unknown"]),
        ({"health_ips": ["10.0.0.1"]}, True, ["unknown", "unknown"]),
        ({"cp5": True}, True, ["unknown", "unknown"]),
    ],
    ids=str,
)
def test_ejbca_key_info_tests_signatures(
    control: Control, flags: dict[str, t.Any], without_traffic: bool, expected: list[str]
) -> None:
    control.ejbca("node1", "flags", **flags)
    tested = [{"crypto_token": TOKEN, "alias": alias} for alias in ("a+b", "no such key")]
    result = operate(at(control, "node1", test_keys=tested, without_traffic=without_traffic))
    assert [test["result"] for test in result["signature_tests"]] == expected
    assert result["signature_tests"][0]["fingerprint"] == hsm_keys(control)["a+b"]


def test_ejbca_key_info_returns_signature_tests(control: Control, runner: AnsibleRunner) -> None:
    tested = [{"crypto_token": TOKEN, "alias": "a+b"}]
    result = read(runner, at(control, "node1", crypto_tokens=["Empty"], test_keys=tested, without_traffic=True))
    assert [test["result"] for test in result["signature_tests"]] == ["can_sign"]
