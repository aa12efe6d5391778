# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a gate opens: pure functions, without a node."""

from __future__ import annotations

import sys
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca import x509 as _x509
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.gate import plan, verdict

KEY = {"fingerprint": "sha256:aa", "label": "signKey", "slot": 0, "id": "01"}


def proof(passed: bool | None, reached: str = "hsm") -> dict[str, t.Any]:
    row = {"fingerprint": "sha256:aa", "label": "signKey", "reached": reached, "passed": passed, "detail": "why"}
    return {"proof": [row], "passed": passed}


def test_all_nodes_must_pass_unless_a_number_is_given() -> None:
    proofs = {"node1": proof(True, "sign"), "node2": proof(False)}
    assert verdict(proofs, level="sign")["passed"] is False
    opened = verdict(proofs, level="sign", min_nodes=1)
    assert (opened["passed"], opened["nodes"], opened["needed"]) == (True, ["node1"], 1)


def test_closed_gate_names_the_key_where_it_is_and_where_it_is_not() -> None:
    lines = verdict({"node1": proof(True, "sign"), "node2": proof(False, "none")}, level="sign")["lines"]
    assert lines == [
        "signKey sha256:aa: on node1 (sign: why); not on node2 (none: why)",
        "1 of 2 node(s) reach level sign, 2 must",
    ]


def test_node_that_was_not_read_closes_the_gate_with_its_message() -> None:
    closed = verdict({"node1": proof(True), "node2": {"failed": True, "msg": "no answer"}}, level="hsm")
    assert (closed["passed"], "node2 was not read: no answer" in closed["lines"]) == (False, True)


def test_gate_without_nodes_is_closed() -> None:
    assert verdict({}, level="sign")["passed"] is False


@pytest.mark.parametrize(
    ("states", "min_nodes", "passed"),
    [
        ((True, None), None, None),  # check mode: nobody can know
        ((False, None), None, False),  # whatever node2 turns out to be, node1 fails
        ((True, None), 1, True),
        ((False, None), 1, None),
    ],
)
def test_check_mode_says_unknown_only_where_it_is(
    states: tuple[bool | None, ...], min_nodes: int | None, passed: bool | None
) -> None:
    proofs = {f"node{number}": proof(state) for number, state in enumerate(states)}
    assert verdict(proofs, level="sign", min_nodes=min_nodes)["passed"] is passed


def test_keys_are_found_by_label_slot_and_fingerprint() -> None:
    held = [KEY, {**KEY, "slot": 1, "fingerprint": "sha256:bb"}, {**KEY, "label": "other"}]
    assert plan([{"label": "signKey"}], held)["unclear"] == ["signKey"]
    assert plan([{"label": "signKey", "slot": "1", "ca": "CA"}], held)["hsm_keys"] == [
        {"fingerprint": "sha256:bb", "label": "signKey", "slot": 1, "ca": "CA"}
    ]
    assert plan([{"label": "signKey", "fingerprint": "sha256:cc"}, {"label": "none"}], held)["unclear"] == [
        "signKey",
        "none",
    ]


def test_manual_confirmation_goes_to_its_node_and_key_only() -> None:
    word = {"node": "node2", "key": "signKey", "confirmed_by": "Ada", "reason": "tested in the Admin Web"}
    planned = plan([{"label": "signKey"}], [KEY], [word, {**word, "key": "other"}])
    assert planned["manual_confirmations"] == {
        "node2": [{"key": "sha256:aa", "confirmed_by": "Ada", "reason": "tested in the Admin Web"}]
    }


def test_machine_without_the_library_cryptography_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UtrustError, match="cryptography is missing") as refused:
        _x509.require_cryptography()
    assert refused.value.code == "python_library_missing"
