# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a change needs a commissioning record, and what a plan has of it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Limits
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning import record_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.task import (
    Host,
    canary_problems,
    check_record,
)

from tests.support.commissioning import facts_of, record, write_keys
from tests.support.factories import key, node

if t.TYPE_CHECKING:
    from pathlib import Path

KEYS = (key("old"), key("new"))
OPTIONS = {"host": "node1.example", "port": 443, "tls_fingerprint": ["ab" * 32], "ejbca": None}


def reading(**changes: t.Any) -> ClusterReading:
    target = NodeReading("node2", "node2", node(KEYS[0], name="node2"), compare(KEYS, KEYS[:1]))
    return ClusterReading(NodeReading("node1", "node1", node(*KEYS, **changes)), (target,), KEYS)


def hosts(transport: str, **variables: t.Any) -> dict[str, Host]:
    options = {**OPTIONS, "transport": transport}
    return {name: Host({**options, "host": f"{name}.example"}, variables) for name in ("node1", "node2")}


def check(found: dict[str, Host], *, on_bastion: bool = False, **changes: t.Any) -> list[str]:
    result = check_record(reading(**changes), found, Limits(1, 1.0), on_bastion=on_bastion)
    return [problem.code for problem in result.problems]


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Variables with a record of both nodes, without EJBCA and without accounts."""
    more = {"ejbca": None, "page_map": None, "accounts": dict.fromkeys(facts_of("x")["accounts"])}
    nodes = {name: facts_of(name, **more) for name in ("node1", "node2")}
    path = tmp_path / "record.json"
    record_file.write(str(path), record(nodes=nodes))
    dummy, public = write_keys(tmp_path)
    return {"utrust_commissioning_record": str(path), "utrust_commissioning_public_key": public}


@pytest.mark.parametrize(("transport", "codes"), [("rest", []), ("assisted", ["commissioning_missing"])])
@pytest.mark.parametrize("path", [{}, {"utrust_commissioning_record": " "}], ids=["not set", "blank"])
def test_record_is_required_without_a_complete_list(transport: str, codes: list[str], path: dict[str, str]) -> None:
    assert check(hosts(transport, **path)) == codes


def test_unchanged_nodes_have_no_problem(variables: dict[str, str]) -> None:
    assert check(hosts("rest", **variables)) == []


def test_record_belongs_to_the_controller(variables: dict[str, str]) -> None:
    assert check(hosts("rest", **variables), on_bastion=True) == ["readiness_needs_controller"]


def test_changed_serial_number_is_stale(variables: dict[str, str]) -> None:
    assert check(hosts("rest", **variables), hsm_serial="UT9") == ["commissioning_stale"]


def test_mbk_of_an_hsm_that_is_restored_next_is_not_compared(variables: dict[str, str]) -> None:
    assert check(hosts("rest", **variables), hsm_state="factory_reset", mbk=None) == []
    assert check(hosts("rest", **variables), mbk=None) == ["commissioning_stale"]


@pytest.mark.parametrize(
    ("transport", "reason", "count"),
    [("rest", None, 0), ("assisted", None, 1), ("assisted", " ", 1), ("assisted", " old drift ", 0)],
)
def test_reason_replaces_the_canary_key(transport: str, reason: str | None, count: int) -> None:
    assert len(canary_problems(reading(), hosts(transport), record(), reason)) == count
