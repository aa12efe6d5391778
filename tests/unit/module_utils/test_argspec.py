# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Task arguments that are rejected before a connection is opened."""

from __future__ import annotations

import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keyops.utrust.plugins.module_utils import _argspec
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations import (
    hsm_info,
    hsm_restore,
    ksp_export,
    ksp_import,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy

from tests.support.factories import fingerprint

OPERATIONS = {
    operation.name: operation
    for operation in (hsm_info.OPERATION, hsm_restore.OPERATION, ksp_export.OPERATION, ksp_import.OPERATION)
}
CONNECTION = {"host": "127.0.0.2", "client_cert": "/pki/operator.pem", "tls_fingerprint": ["ab" * 32]}
IMPORT = {**CONNECTION, "expect_node": "node2", "src": "/run/cluster.ksp", "manifest_sha256": "sha256:" + 64 * "0"}
RESTORE = {**CONNECTION, "expect_node": "node2", "source": {}, "pin_pad": "front-usb"}


def validated(name: str, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
    checked = ArgumentSpecValidator(**OPERATIONS[name].module_arguments()).validate(arguments)
    assert checked.error_messages == []
    return t.cast("dict[str, t.Any]", checked.validated_parameters)


def without(arguments: dict[str, t.Any], *names: str) -> dict[str, t.Any]:
    return {name: value for name, value in arguments.items() if name not in names}


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("utrust_hsm_info", without(CONNECTION, "host"), "host"),
        ("utrust_hsm_info", without(CONNECTION, "client_cert"), "client_cert, bearer_token"),
        (
            "utrust_hsm_info",
            {**without(CONNECTION, "client_cert"), "bearer_token": "x", "client_key": "/k"},
            "client_cert",
        ),
        ("utrust_hsm_info", {**CONNECTION, "members": ["node1"]}, "expect_node"),
        ("utrust_hsm_info", {**CONNECTION, "gather": ["secrets"]}, "keys, pin_pads, restore"),
        ("utrust_hsm_info", {**CONNECTION, "validate_certs": False}, "validate_certs. Supported parameters"),
        ("utrust_ksp_export", CONNECTION, "expect_node"),
        ("utrust_ksp_import", without(IMPORT, "src"), "src, manifest"),
        ("utrust_ksp_import", without(IMPORT, "manifest_sha256"), "manifest_sha256"),
        ("utrust_ksp_import", {**IMPORT, "manifest": {}}, "mutually exclusive"),
        ("utrust_ksp_import", without(IMPORT, "expect_node"), "expect_node"),
        ("utrust_ksp_import", {**IMPORT, "allow_replace": [{"fingerprint": fingerprint("a")}]}, "reason"),
        ("utrust_hsm_restore", without(RESTORE, "expect_node"), "expect_node"),
        ("utrust_hsm_restore", without(RESTORE, "pin_pad"), "pin_pad"),
        ("utrust_hsm_restore", without(RESTORE, "source"), "source"),
        ("utrust_hsm_restore", {**RESTORE, "cards_required": 2}, "cards_total"),
    ],
)
def test_arguments_with_conflict_are_rejected(name: str, arguments: dict[str, t.Any], words: str) -> None:
    checked = ArgumentSpecValidator(**OPERATIONS[name].module_arguments()).validate(arguments)
    assert words in " ".join(checked.error_messages)


def test_state_canceled_and_absent_require_fewer_options() -> None:
    validated("utrust_hsm_restore", {**CONNECTION, "state": "canceled"})
    validated("utrust_ksp_export", {**CONNECTION, "state": "absent"})


def test_defaults_are_safe() -> None:
    options = ksp_import.ImportOptions.from_params(validated("utrust_ksp_import", IMPORT))
    assert options.policy == Policy(False, frozenset(), frozenset(), None, frozenset(), None)
    endpoint = _argspec.node_endpoint(validated("utrust_hsm_info", CONNECTION))
    assert (endpoint.port, endpoint.ca_file) == (443, None)


TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    "token", [TOKEN + "\n", f"{TOKEN}\r\nX: y", TOKEN + " x", TOKEN + "\u00fc", "=" + TOKEN, "\x00" + TOKEN]
)
def test_bearer_token_that_no_header_can_carry_is_rejected(token: str) -> None:
    """A block in a vault file ends with a line end. The message does not quote the token."""
    arguments = {**without(CONNECTION, "client_cert"), "bearer_token": token}
    with pytest.raises(UtrustError, match="line end") as caught:
        _argspec.node_endpoint(validated("utrust_hsm_info", arguments))
    assert caught.value.code == "option_invalid"
    assert TOKEN not in f"{caught.value}{caught.value.details}"


def test_bearer_token_of_rfc_6750_is_accepted() -> None:
    arguments = {**without(CONNECTION, "client_cert"), "bearer_token": f"{TOKEN}-._~+/=="}
    _argspec.node_endpoint(validated("utrust_hsm_info", arguments))


@pytest.mark.parametrize(
    "change",
    [{"timeout": float("inf")}, {"timeout": float("nan")}, {"connect_timeout": 1e9}, {"retries": 21}, {"retries": -1}],
    ids=str,
)
def test_time_or_repetitions_without_limit_are_rejected(change: dict[str, t.Any]) -> None:
    """An infinite time-out is not a number of seconds that a socket accepts."""
    with pytest.raises(UtrustError, match="at most") as caught:
        _argspec.node_endpoint(validated("utrust_hsm_info", {**CONNECTION, **change}))
    assert caught.value.code == "option_invalid"


@pytest.mark.parametrize(
    "host", ["http://node1", "https://node1", "node1/api", "", "  ", "node 1", "a@b", "n\x00", "n" * 256]
)
def test_host_with_url_is_rejected(host: str) -> None:
    with pytest.raises(UtrustError, match="HTTPS is always used") as caught:
        _argspec.node_endpoint(validated("utrust_hsm_info", {**CONNECTION, "host": host}))
    assert caught.value.code == "host_invalid"


@pytest.mark.parametrize("change", [{"timeout": 0}, {"timeout": -1}, {"connect_timeout": 0}, {"retries": -1}], ids=str)
def test_timeout_and_retries_out_of_range_are_rejected(change: dict[str, t.Any]) -> None:
    with pytest.raises(UtrustError) as caught:
        _argspec.node_endpoint(validated("utrust_hsm_info", {**CONNECTION, **change}))
    assert caught.value.code == "option_invalid"
    assert next(iter(change)) in str(caught.value)


def test_check_joined_rejects_other_nodes() -> None:
    params = validated("utrust_hsm_info", {**CONNECTION, "expect_node": "node3", "members": ["node1", "node2"]})
    with pytest.raises(UtrustError, match="Nothing was sent") as caught:
        _argspec.check_joined(params)
    assert caught.value.code == "node_not_joined"
    assert "node1, node2" in str(caught.value)
    _argspec.check_joined({**params, "expect_node": "node2"})
    _argspec.check_joined({**params, "members": None})
    with pytest.raises(UtrustError, match="none"):
        _argspec.check_joined({**params, "members": []})


@pytest.mark.parametrize("option", ["allowed_extra_keys", "destroyed_keys", "expected_new_keys", "allow_replace"])
@pytest.mark.parametrize("written", ["signKey-2026", "ab" * 32, fingerprint("a").upper(), "sha256:", "kcv:3FA2B1", "*"])
def test_key_fingerprint_invalid_is_rejected(option: str, written: str) -> None:
    """An invalid key fingerprint matches no key, so it would protect no key."""
    value = [{"fingerprint": written, "reason": "because"}] if option == "allow_replace" else [written]
    with pytest.raises(UtrustError, match="Nothing was changed") as caught:
        ksp_import.ImportOptions.from_params(validated("utrust_ksp_import", {**IMPORT, option: value}))
    assert caught.value.code == "option_invalid"
    assert option in str(caught.value)
    assert repr(written) in str(caught.value)


def test_key_fingerprint_of_any_key_kind_is_accepted() -> None:
    given = {"allowed_extra_keys": [fingerprint("a"), "kcv:3fa2b1"]}
    options = ksp_import.ImportOptions.from_params(validated("utrust_ksp_import", {**IMPORT, **given}))
    assert options.policy.allowed_extra_keys == {fingerprint("a"), "kcv:3fa2b1"}
