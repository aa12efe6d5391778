# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role key_gate proves keys by the EJBCA view and by test signatures."""

from __future__ import annotations

import json
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import FIRST, TOKEN
from tests.support.gate import (
    NODES,
    NOTHING_ELSE,
    admin_web_requests,
    gate_options,
    reactivated,
    synchronized_key,
    view_gate,
    write_gate,
)
from tests.support.playbook import finish, methods, start
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=1, ejbca=True) as running:
        yield running


@pytest.fixture
def flags(control: Control) -> Iterator[t.Callable[..., None]]:
    """Set flags of EJBCA of a node, or of all nodes. Afterwards all nodes have the defaults."""

    def change(node: str | None = None, **values: t.Any) -> None:
        for each in NODES if node is None else (node,):
            control.ejbca(each, "flags", **values)

    change(version="9.3.0")
    yield change
    change(reset=True)


def test_gate_opens_at_level_token_by_the_view(control: Control, tmp_path: Path, flags: t.Callable[..., None]) -> None:
    key = synchronized_key(control, "token")
    run = view_gate(control, tmp_path, key, key_gate_level="token")
    assert run.status == 0, run.output
    assert run.text.count("token: EJBCA shows alias and public key of the source") == 2
    assert "token: EJBCA shows the public key of the source with this alias" in run.text
    assert methods(control) == {"GET"}
    requests = admin_web_requests(control)
    assert all(len(requests[node]) == len(requests["node1"]) for node in NODES), requests


def test_gate_opens_at_level_sign_by_a_test_signature(
    control: Control, tmp_path: Path, flags: t.Callable[..., None]
) -> None:
    key = {**synchronized_key(control, "sign"), "sign_test": True}
    for node in NODES:
        control.ejbca(node, "counters", clear=True)
    audit = tmp_path / "audit.jsonl"
    env = {"UTRUST_AUDIT_FILE": str(audit), "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit"}
    run = view_gate(control, tmp_path, key, env=env)
    assert run.status == 0, run.output
    # EJBCA keeps no record of a test signature, so the audit trail has one for each node.
    events = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
    tested = [event["result"] for event in events if event["event"] == "signature_tested"]
    assert [(test["alias"], test["result"]) for test in tested] == [("sign", "can_sign")] * 3
    proven = [event["result"]["proof"][0] for event in events if event["event"] == "keys_verified"]
    assert [(row["method"], row["view"]) for row in proven] == [("signature_test", "present")] * 3
    assert run.text.count("EJBCA of this node signed with the key twice") == 3
    assert methods(control) == {"GET"}
    assert {node: control.ejbca(node, "counters")["logins"] for node in NODES} == dict.fromkeys(NODES, 1)
    # Check mode predicts level token, but makes no test signature.
    before = {node: control.ejbca(node, "counters").get("health_checks", 0) for node in NODES}
    checked = view_gate(control, tmp_path, key, "--check")
    assert checked.status == 0, checked.output
    assert "check mode cannot determine whether level sign is reached" in checked.text
    assert {node: control.ejbca(node, "counters").get("health_checks", 0) for node in NODES} == before


def test_gate_without_the_view_never_contacts_the_admin_web(
    control: Control, tmp_path: Path, flags: t.Callable[..., None]
) -> None:
    key = {"label": "signKey-2025"}
    closed = view_gate(control, tmp_path, key, key_gate_ejbca_view="", key_gate_level="token")
    assert "EJBCA does not report the keys of a crypto token" in closed.text
    opened = view_gate(control, tmp_path, key, key_gate_level="hsm")
    assert opened.status == 0, opened.output
    assert set(map(len, admin_web_requests(control).values())) == {0}
    assert TOKEN not in opened.text


def test_gate_with_a_stale_view_reactivates_the_token(
    control: Control, tmp_path: Path, flags: t.Callable[..., None]
) -> None:
    """A crypto token of Java does not show the new key. Only named nodes are reactivated, under all conditions."""
    key = {**synchronized_key(control, "stale", loaded=["node1"]), "sign_test": True}
    closed = view_gate(control, tmp_path, key, key_gate_ejbca_view_timeout=60)
    assert "node2 (hsm: EJBCA view: stale: the key is in the HSM, but EJBCA does not show it yet" in closed.text
    assert "reactivate the crypto token" in closed.text
    how: dict[str, t.Any] = {"key_gate_reactivate": True, "key_gate_out_of_traffic": ["node2", "node3"]}
    undeclared = view_gate(control, tmp_path, key, **how)
    assert "code: option_invalid" in undeclared.text, undeclared.output
    assert methods(control) == set()
    how["key_gate_reactivation_affects"] = NOTHING_ELSE
    checked = view_gate(control, tmp_path, key, "--check", **how)
    assert (checked.status, methods(control)) == (0, {"GET"}), checked.output
    assert "check mode cannot determine" in checked.text
    opened = view_gate(control, tmp_path, key, **how)
    assert opened.status == 0, opened.output
    assert [opened.recap[node]["changed"] for node in NODES] == [0, 1, 1]
    assert reactivated(control) == ["node2", "node3"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"auto_activation": False}, "auto_activation_off", "does not show auto-activation"),
        ({"token": "Second"}, "affected_token_not_named", "crypto token Second is on the same slot"),
    ],
    ids=str,
)
def test_gate_refuses_a_reactivation_by_the_view(
    control: Control, tmp_path: Path, flags: t.Callable[..., None], change: dict[str, t.Any], code: str, words: str
) -> None:
    key = synchronized_key(control, f"refused-{code}", loaded=["node1"])
    if "token" in change:
        control.ejbca("node1", "create_token", name="Second")
    else:
        control.ejbca("node2", "set", auto_activation=False)
    how: dict[str, t.Any] = {"key_gate_reactivate": True, "key_gate_out_of_traffic": ["node2", "node3"]}
    how |= {"key_gate_reactivation_affects": NOTHING_ELSE, "key_gate_level": "token"}
    try:
        refused = view_gate(control, tmp_path, key, **how)
        assert f"code: {code}" in refused.text, refused.output
        assert words in refused.text
        assert methods(control) == {"GET"}
        if "token" in change:
            named = {"key_gate_reactivation_affects": {**NOTHING_ELSE, "crypto_tokens": ["Second"]}}
            assert view_gate(control, tmp_path, key, **{**how, **named}).status == 0
    finally:
        control.ejbca("node2", "set", auto_activation=True)
        if "token" in change:
            control.ejbca("node1", "delete_token", name="Second")


def test_gate_waits_for_the_view_of_an_ng_token(control: Control, tmp_path: Path, flags: t.Callable[..., None]) -> None:
    """Its cache lives 120 seconds. The gate reads the view again until it shows the key."""
    control.ejbca("node1", "create_token", name="NgToken", kind="ng")
    try:
        first = {"label": FIRST, "crypto_token": "NgToken"}
        assert view_gate(control, tmp_path, first, key_gate_level="token").status == 0  # fills the cache
        key = {**synchronized_key(control, "ng", loaded=[]), "crypto_token": "NgToken"}
        control.ejbca("node1", "advance", seconds=130)
        closed = view_gate(control, tmp_path, key, key_gate_level="token")
        assert "node2 (hsm: EJBCA view: stale" in closed.text, closed.output
        control.clear_log()
        more = {"key_gate_level": "token", "key_gate_ejbca_view_timeout": 60}
        process = start(write_gate(tmp_path), control, *gate_options(key, **more))
        wait_for(lambda: len(admin_web_requests(control)["node3"]) > 3)
        for node in NODES:
            control.ejbca(node, "advance", seconds=130)
        run = finish(process)
        assert run.status == 0, run.output
        assert "waiting for level token for up to 60 s" in run.text
        assert run.changed == 0
    finally:
        control.ejbca("node1", "delete_token", name="NgToken")
