# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether EJBCA views show the added keys (utrust_view_verdict), and which nodes a gate knows."""

from __future__ import annotations

import dataclasses as dc
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import ClusterView, NodeView
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import (
    STATES,
    EjbcaView,
    KeyState,
    ViewKey,
    ViewProblem,
    ViewToken,
)
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import gate_verdict
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.view_verdict import (
    STARTING,
    WAITING,
    refusals,
    verdict,
    views_of,
)

from tests.support.factories import key

OLD, NEW = key("old"), key("new")
PLANNED = {"targets": {"node2": {"difference": compare([OLD, NEW], [OLD]).to_dict()}}}


def row(hsm_key: t.Any) -> ViewKey:
    return ViewKey(hsm_key.label, "EC", "P-256", "ab" * 20, hsm_key.fingerprint)


def source_view(*keys: t.Any) -> EjbcaView:
    token = ViewToken(7, "T", "x", "1", True, True, True, tuple(row(each) for each in keys))
    return EjbcaView("9.3.0", "node1", None, (token,))


def differing(state: t.Any, hsm_key: t.Any = NEW) -> KeyState:
    return KeyState(7, "T", hsm_key.label, "ab" * 20, hsm_key.fingerprint, state, "reason")


def views(*different: KeyState, shown: tuple[t.Any, ...] = (OLD, NEW), **changed: t.Any) -> t.Any:
    of_node = {"read": True, "left_out": False, "compared": True, "different": different, **changed}
    nodes = (NodeView("node1", read=True, left_out=False, compared=True), NodeView("node2", **of_node))
    return views_of(ClusterView("node1", source_view(*shown), nodes), PLANNED, ["node2"])


def test_view_with_the_added_keys_is_verified() -> None:
    [found] = views()
    assert (found.expected, found.verified) == (1, True)
    result = verdict([found])
    assert (result["verified"], result.get("failed")) == (True, None)
    assert result["views"] == ["node2: EJBCA view: verified: 1 added key(s) as on the source"]


@pytest.mark.parametrize("state", [state for state in STATES if state != "present"])
def test_every_other_state_of_an_added_key_is_a_failure(state: str) -> None:
    found = views(differing(state))
    result = verdict(found)
    assert (result["failed"], result["code"], result["verified"]) == (True, "ejbca_view_not_verified", False)
    assert [each["state"] for each in result["key_states"]] == [state]
    assert bool(refusals(found)) == (state not in WAITING)
    assert found[0].can_follow == (state in WAITING)


@pytest.mark.parametrize("state", [state for state in STATES if state != "present"])
def test_state_of_an_earlier_key_is_not_judged(state: str) -> None:
    found = views(differing(state, OLD))
    assert (verdict(found)["verified"], refusals(found)) == (True, [])


def test_key_that_the_source_does_not_show_is_not_verified() -> None:
    result = verdict(views(shown=(OLD,)))
    assert (result["verified"], result.get("failed")) == (False, None)
    assert "shows none of the added keys" in result["views"][0]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"read": False, "problems": (ViewProblem("ejbca_unreachable", "no response"),)}, "ejbca_unreachable"),
        ({"read": False}, "ejbca_view_unknown"),
        ({"problems": (ViewProblem("ejbca_identity_unknown", "one address"),)}, "ejbca_identity_unknown"),
        ({"problems": (ViewProblem("database_diverged", "other ids"),)}, "database_diverged"),
    ],
)
def test_unknown_view_refuses_before_and_fails_after(changed: dict[str, t.Any], code: str) -> None:
    found = views(**changed)
    assert [problem.code for problem in refusals(found)] == [code]
    assert verdict(found)["code"] == "ejbca_view_unknown"
    assert found[0].can_follow is (code == "ejbca_unreachable")


@pytest.mark.parametrize("code", sorted(STARTING))
@pytest.mark.parametrize(("host", "listed"), [("node1", True), ("node2", True), ("node2", False)])
def test_view_that_failed_after_the_list_is_not_read_again(code: str, host: str, listed: bool) -> None:
    """The list can have tried a PIN, so waiting with further readings could lock the slot."""
    nodes = [NodeView(name, read=True, left_out=False, compared=True, listed=True) for name in ("node1", "node2")]
    unread: dict[str, t.Any] = {
        "read": False,
        "compared": False,
        "problems": (ViewProblem(code, "reason"),),
        "listed": listed,
    }
    nodes = [dc.replace(node, **unread) if node.host == host else node for node in nodes]
    [found] = views_of(ClusterView("node1", source_view(OLD, NEW), tuple(nodes)), PLANNED, ["node2"])
    assert (found.verified, found.can_follow) == (False, not listed)


def test_node_that_a_person_left_out_is_not_verified() -> None:
    found = views(read=False, left_out=True, problems=(ViewProblem("ejbca_view_left_out", "left out"),))
    assert (refusals(found), verdict(found).get("failed"), verdict(found)["verified"]) == ([], None, False)


# Nodes of a gate

KEY = {"fingerprint": "sha256:a", "label": "sign", "slot": 0}


def proof(address: str, method: str = "view") -> dict[str, t.Any]:
    identity = {"address": address, "port": 443, "certificate_fingerprint": address, "host_name": address}
    one = {**KEY, "reached": "token", "passed": True, "detail": "", "method": method, "view": "present"}
    return {"proof": [one], "ejbca": {"identity": identity}}


def gate(*proofs: dict[str, t.Any], source: dict[str, t.Any]) -> dict[str, t.Any]:
    planned = {
        "level": "token",
        "gate_nodes": ["n2", "n3"],
        "min_nodes": None,
        "hsm_keys": [KEY],
        "excluded_members": [],
        "ejbca_view": True,
        "source_host": "n1",
    }
    return gate_verdict(planned, proofs, source)


def test_gate_opens_for_different_nodes() -> None:
    assert gate(proof("b"), proof("c"), source=proof("a"))["passed"] is True


@pytest.mark.parametrize(("two", "three", "passed"), [("b", "b", []), ("a", "c", ["n3"]), ("b", "a", ["n2"])])
def test_gate_stays_closed_for_nodes_with_one_identity(two: str, three: str, passed: list[str]) -> None:
    result = gate(proof(two), proof(three), source=proof("a"))
    assert (result["passed"], result["nodes"], result["code"]) == (False, passed, "gate_closed")
    assert "has the same address" in result["lines"][0]


def test_gate_keeps_a_confirmation_of_an_unknown_node() -> None:
    confirmed = proof("b", "confirmation"), proof("b", "certificate")
    assert gate(*confirmed, source=proof("a"))["passed"] is True


@pytest.mark.parametrize("host", ["node1", "node2"])
def test_token_that_fails_is_refused_before_an_import(host: str) -> None:
    """The run views the node once, so nobody could verify the keys after the import, whatever the token contains."""
    nodes = [NodeView(name, read=True, left_out=False, compared=True) for name in ("node1", "node2")]
    failing = (ViewProblem("token_activation_failing", "crypto token Other is inactive"),)
    nodes = [dc.replace(node, problems=failing) if node.host == host else node for node in nodes]
    found = views_of(ClusterView("node1", source_view(OLD, NEW), tuple(nodes)), PLANNED, ["node2"])
    assert [(problem.code, problem.node) for problem in refusals(found)] == [("token_activation_failing", "node2")]
    assert found[0].verified is True
