# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan and the verdict of a key gate: utrust_gate_plan and utrust_gate_verdict."""

from __future__ import annotations

import dataclasses as dc
import sys
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca import x509 as _x509
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import (
    GateNodes,
    check_gate_nodes,
    gate_verdict,
    plan_gate,
    reactivation_hosts,
)

from tests.support.factories import key, node

SIGN = key("signKey")
NAMES = {"host1": "node1", "host2": "node2", "host3": "node3"}


PLANNED = {"fingerprint": "sha256:aa", "label": "signKey", "slot": 0, "ca": None}


def row(passed: bool | None, reached: str = "hsm") -> dict[str, t.Any]:
    return {
        "fingerprint": "sha256:aa",
        "label": "signKey",
        "slot": 0,
        "reached": reached,
        "passed": passed,
        "detail": "why",
    }


def proof(passed: bool | None, reached: str | None = None) -> dict[str, t.Any]:
    return {"proof": [row(passed, reached or ("sign" if passed else "hsm"))], "passed": passed}


def verdict(*proofs: dict[str, t.Any], level: str = "sign", **changes: t.Any) -> dict[str, t.Any]:
    hosts = [f"node{number}" for number in range(1, len(proofs) + 1)]
    planned = {"gate_nodes": hosts, "level": level, "min_nodes": None, "excluded_members": [], "hsm_keys": [PLANNED]}
    return gate_verdict({**planned, **changes}, proofs)


def test_verdict_requires_all_nodes_by_default() -> None:
    """All nodes must pass, unless the operator sets a number of nodes."""
    proofs = proof(True, "sign"), proof(False)
    closed = verdict(*proofs)
    assert (closed["passed"], closed["failed"], closed["code"]) == (False, True, "gate_closed")
    opened = verdict(*proofs, min_nodes=1)
    assert (opened["passed"], opened["nodes"], "failed" in opened) == (True, ["node1"], False)


def test_verdict_closed_names_nodes_of_each_key() -> None:
    """A closed gate names the nodes that reach the level, and the other nodes."""
    closed = verdict(proof(True, "sign"), proof(False, "none"))
    assert closed["lines"] == [
        "signKey sha256:aa: on node1 (sign: why). Not on node2 (none: why)",
        "1 of 2 node(s) reach level sign, 2 must",
    ]
    assert "\n" not in closed["msg"]


@pytest.mark.parametrize(
    "unread",
    [
        {"failed": True, "msg": "no response"},
        {"failed": True, "msg": "no response", "proof": []},
        {"skipped": True, "msg": "no response"},
        {"msg": "no response", "passed": True},
        {"msg": "no response", "passed": True, "proof": []},
    ],
)
def test_verdict_unread_node_closes_the_gate(unread: dict[str, t.Any]) -> None:
    """A node without rows closes the gate, and its message is shown."""
    closed = verdict(proof(True), unread, level="hsm")
    assert (closed["passed"], "node2 was not read: no response" in closed["lines"]) == (False, True)


def test_verdict_failed_proof_with_rows_closes_the_gate() -> None:
    assert verdict({**proof(True), "failed": True})["passed"] is False


@pytest.mark.parametrize(
    ("level", "planned", "passed"),
    [
        ("token", PLANNED, True),
        ("hsm", PLANNED, True),
        ("sign", PLANNED, False),
        ("token", {**PLANNED, "fingerprint": "sha256:bb"}, False),
        ("token", {**PLANNED, "slot": 1}, False),
        ("token", {**PLANNED, "label": "other"}, False),
    ],
)
def test_verdict_proof_of_another_gate(level: str, planned: dict[str, t.Any], passed: bool) -> None:
    """A proof counts only for the planned keys, and only up to the level that it reached."""
    assert verdict(proof(True, "token"), level=level, hsm_keys=[planned])["passed"] is passed


def test_verdict_requires_every_planned_key() -> None:
    assert verdict(proof(True), hsm_keys=[PLANNED, {**PLANNED, "slot": 1}])["passed"] is False
    assert verdict(proof(True), hsm_keys=[])["passed"] is False


def test_verdict_without_nodes_is_closed() -> None:
    assert verdict()["passed"] is False


def test_verdict_names_excluded_members() -> None:
    assert (
        "must be gated before they return: node8, node9"
        in verdict(proof(True), excluded_members=["node8", "node9"])["lines"]
    )


@pytest.mark.parametrize(
    ("states", "min_nodes", "expected"),
    [
        ((True, None), None, (False, True)),  # Check mode cannot decide.
        ((False, None), None, (False, False)),  # The result of node2 does not matter, because node1 fails.
        ((True, None), 1, (True, False)),
        ((False, None), 1, (False, True)),
        ((None, None), None, (False, True)),
    ],
)
def test_verdict_check_mode_unknown(
    states: tuple[bool | None, ...], min_nodes: int | None, expected: tuple[bool, bool]
) -> None:
    """The verdict in check mode is unknown only if the result can still change. An unknown verdict has passed=false and does not fail."""
    found = verdict(*map(proof, states), min_nodes=min_nodes)
    assert (found["passed"], found["unknown"]) == expected
    assert found.get("failed", False) == (expected == (False, False))


# The plan


def gate_nodes(*hosts: str, **changes: t.Any) -> GateNodes:
    return GateNodes(**{"names": {host: NAMES[host] for host in hosts or NAMES}, "explicit": False, **changes})


def reading(*hsm_keys: t.Any, joined: t.Sequence[str] = ("node1", "node2", "node3")) -> ClusterReading:
    example = node(key()).members[0]
    members = tuple(dc.replace(example, node=name, joined=True) for name in joined)
    members += (dc.replace(example, node="new", joined=False),)
    source = NodeReading("host1", "node1", node(*hsm_keys, members=members))
    return ClusterReading(source, (), hsm_keys)


def plan(nodes: GateNodes, *keys: dict[str, t.Any], of: ClusterReading | None = None) -> dict[str, t.Any]:
    return plan_gate(of or reading(SIGN), nodes, keys or [{"label": "signKey"}], "sign")


def test_plan_has_keys_nodes_and_members_and_is_closed() -> None:
    planned = plan(gate_nodes(), {"label": "signKey", "ca": "CA"})
    assert "failed" not in planned
    assert (planned["passed"], planned["gate_nodes"]) == (False, ["host1", "host2", "host3"])
    assert planned["members"] == ["node1", "node2", "node3"]
    assert planned["hsm_keys"] == [
        {
            "fingerprint": SIGN.fingerprint,
            "label": "signKey",
            "slot": 0,
            "ca": "CA",
            "public_trust": False,
            "qualified": False,
            "root": False,
            "offline": False,
            "needs_authorization": False,
            "sole_control": False,
            "crypto_token": None,
            "sign_test": False,
        }
    ]


@pytest.mark.parametrize(
    ("hosts", "changes", "excluded", "codes"),
    [
        (("host1", "host2"), {}, ["node3"], ["member_not_in_play"]),
        (("host2",), {}, ["node1", "node3"], ["member_not_in_play"]),
        (("host1", "host2"), {"explicit": True}, ["node3"], []),
        (("host1", "host2"), {"ignored_members": frozenset({"node3"})}, [], []),
        (("host1", "host2"), {"ignored_members": frozenset({"host3"})}, ["node3"], ["member_not_in_play"]),
    ],
)
def test_plan_member_outside_of_the_gate(
    hosts: tuple[str, ...], changes: dict[str, t.Any], excluded: list[str], codes: list[str]
) -> None:
    """Members are compared by their node names. The names of hosts do not count."""
    planned = plan(gate_nodes(*hosts, **changes))
    assert (planned["excluded_members"], planned["codes"]) == (excluded, codes)
    assert planned["passed"] is False
    assert planned.get("failed", False) == bool(codes)


def test_plan_reports_members_and_keys_at_once() -> None:
    planned = plan(gate_nodes("host1"), {"label": "nowhere"})
    assert planned["codes"] == ["member_not_in_play", "key_not_on_source"]
    assert len(planned["problems"]) == 3


@pytest.mark.parametrize(
    ("nodes", "active", "code"),
    [
        (gate_nodes(), ["host1", "host2"], "option_invalid"),
        (GateNodes({}, True), ["host1"], "option_invalid"),
        (gate_nodes(min_nodes=0), list(NAMES), "option_invalid"),
        (gate_nodes(min_nodes=4), list(NAMES), "option_invalid"),
        (GateNodes({"host2": "node2", "alias": "node2"}, True), ["host2", "alias"], "node_duplicate"),
    ],
)
def test_gate_nodes_that_are_refused(nodes: GateNodes, active: list[str], code: str) -> None:
    """The nodes of a gate are active hosts of the play, each node once, and enough for the required number."""
    with pytest.raises(UtrustError) as refused:
        check_gate_nodes(nodes, active)
    assert refused.value.code == code


def test_gate_nodes_that_are_accepted() -> None:
    check_gate_nodes(gate_nodes(min_nodes=3), list(NAMES))
    check_gate_nodes(gate_nodes("host2", min_nodes=1), list(NAMES))


def test_require_cryptography_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the missing Python package cryptography."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UtrustError, match="cryptography is missing") as refused:
        _x509.require_cryptography()
    assert refused.value.code == "python_library_missing"


@pytest.mark.parametrize(
    ("out_of_traffic", "changed", "expected"),
    [
        (["host2"], {}, ["host2"]),
        (["host3", "host2"], {}, ["host2", "host3"]),
        (["host2", "host2"], {}, ["host2"]),
        (["host1", "host2", "host3"], {}, ["host1", "host2", "host3"]),
        ([], {"reactivate": False}, []),
        (["host2"], {"reactivate": False}, []),
        (["host2"], {"level": "hsm"}, []),
        ([], {"level": "hsm"}, []),
        ([], {}, "node_in_traffic"),
        ([], {"level": "token"}, "node_in_traffic"),
        (["host9"], {}, "option_invalid"),
        (["host2", "node2"], {}, "option_invalid"),
        (["host9"], {"reactivate": False}, "option_invalid"),
    ],
    ids=str,
)
def test_hosts_of_a_reactivation(
    out_of_traffic: list[str], changed: dict[str, t.Any], expected: list[str] | str
) -> None:
    """Only named nodes of the gate, in the order of the gate. Names are those of inventory hosts."""
    how = {"reactivate": True, "level": "sign", **changed}
    if isinstance(expected, list):
        assert reactivation_hosts(gate_nodes(), out_of_traffic, **how) == expected
        return
    with pytest.raises(UtrustError) as refused:
        reactivation_hosts(gate_nodes(), out_of_traffic, **how)
    assert refused.value.code == expected
