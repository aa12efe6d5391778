# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan and the verdict of a key gate."""

from __future__ import annotations

import sys
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca import x509 as _x509
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import gate_plan, gate_verdict

KEY = {"fingerprint": "sha256:aa", "label": "signKey", "slot": 0, "id": "01"}


def proof(passed: bool | None, reached: str = "hsm") -> dict[str, t.Any]:
    row = {"fingerprint": "sha256:aa", "label": "signKey", "reached": reached, "passed": passed, "detail": "why"}
    return {"proof": [row], "passed": passed}


def test_gate_verdict_requires_all_nodes_by_default() -> None:
    """All nodes must pass, unless the operator sets a number of nodes."""
    proofs = {"node1": proof(True, "sign"), "node2": proof(False)}
    assert gate_verdict(proofs, level="sign")["passed"] is False
    opened = gate_verdict(proofs, level="sign", min_nodes=1)
    assert (opened["passed"], opened["nodes"], opened["needed"]) == (True, ["node1"], 1)


def test_gate_verdict_closed_names_nodes_of_each_key() -> None:
    """A closed gate names the nodes that reach the level, and the other nodes."""
    lines = gate_verdict({"node1": proof(True, "sign"), "node2": proof(False, "none")}, level="sign")["lines"]
    assert lines == [
        "signKey sha256:aa: on node1 (sign: why). Not on node2 (none: why)",
        "1 of 2 node(s) reach level sign, 2 must",
    ]


def test_gate_verdict_unread_node_closes_the_gate() -> None:
    """A node that was not read closes the gate, and its message is shown."""
    closed = gate_verdict({"node1": proof(True), "node2": {"failed": True, "msg": "no response"}}, level="hsm")
    assert (closed["passed"], "node2 was not read: no response" in closed["lines"]) == (False, True)


def test_gate_verdict_without_nodes_is_closed() -> None:
    """A gate without nodes is closed."""
    assert gate_verdict({}, level="sign")["passed"] is False


@pytest.mark.parametrize(
    ("states", "min_nodes", "passed"),
    [
        ((True, None), None, None),  # Check mode cannot decide.
        ((False, None), None, False),  # The result of node2 does not matter, because node1 fails.
        ((True, None), 1, True),
        ((False, None), 1, None),
    ],
)
def test_gate_verdict_check_mode_unknown(
    states: tuple[bool | None, ...], min_nodes: int | None, passed: bool | None
) -> None:
    """The verdict in check mode is unknown only if the result can still change."""
    proofs = {f"node{number}": proof(state) for number, state in enumerate(states)}
    assert gate_verdict(proofs, level="sign", min_nodes=min_nodes)["passed"] is passed


def test_gate_plan_finds_keys_on_the_source() -> None:
    """The plan finds keys by label, slot and key fingerprint, and reports unclear labels."""
    hsm_keys = [KEY, {**KEY, "slot": 1, "fingerprint": "sha256:bb"}, {**KEY, "label": "other"}]
    assert gate_plan([{"label": "signKey"}], hsm_keys)["unclear"] == ["signKey"]
    assert gate_plan([{"label": "signKey", "slot": "1", "ca": "CA"}], hsm_keys)["hsm_keys"] == [
        {"fingerprint": "sha256:bb", "label": "signKey", "slot": 1, "ca": "CA"}
    ]
    assert gate_plan([{"label": "signKey", "fingerprint": "sha256:cc"}, {"label": "none"}], hsm_keys)["unclear"] == [
        "signKey",
        "none",
    ]


def test_gate_plan_confirmation_for_node_and_key() -> None:
    """A manual confirmation applies to its node and its key only."""
    confirmation = {"node": "node2", "key": "signKey", "confirmed_by": "Ada", "reason": "tested in the Admin Web"}
    planned = gate_plan([{"label": "signKey"}], [KEY], [confirmation, {**confirmation, "key": "other"}])
    assert planned["manual_confirmations"] == {
        "node2": [{"key": "sha256:aa", "confirmed_by": "Ada", "reason": "tested in the Admin Web"}]
    }


def test_require_cryptography_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the missing Python package cryptography."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UtrustError, match="cryptography is missing") as refused:
        _x509.require_cryptography()
    assert refused.value.code == "python_library_missing"
