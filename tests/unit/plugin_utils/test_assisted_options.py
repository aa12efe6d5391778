# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of nodes whose keys are those of their EJBCA view."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils import _assisted

Facts = dict[str, t.Any]
EJBCA: t.Final = {"host": "192.0.2.2", "client_cert": "reader.pem"}


def host(name: str, **more: t.Any) -> Facts:
    facts = {
        "inventory_hostname": name,
        "utrust_source": "node1",
        "utrust_host": f"{name}.example",
        "utrust_transport": "assisted",
        "utrust_declared": {"cluster_id": "rack", "hsm_serial": name},
        "utrust_ejbca_reader_client_cert": "reader.pem",
    }
    return {**facts, **more}


HOSTS: t.Final[dict[str, Facts]] = {
    "node1": host("node1", utrust_source=""),
    "node2": host("node2", utrust_node="two", utrust_port=8443),
    "other": host("other", utrust_source="node9"),
    "bastion": host("bastion", utrust_declared=""),
}


def test_members_are_the_declared_hosts_of_one_source() -> None:
    assert _assisted.declared_members("node1", HOSTS) == [
        {"node": "node1", "address": "node1.example", "port": 443},
        {"node": "two", "address": "node2.example", "port": 8443},
    ]


def test_options_have_the_reader_and_the_members() -> None:
    options = _assisted.with_assisted({"transport": "assisted"}, HOSTS["node2"], HOSTS)["assisted"]
    assert options["ejbca"]["client_cert"] == "reader.pem"
    assert [member["node"] for member in options["members"]] == ["node1", "two"]


def test_complete_transport_gets_no_options() -> None:
    assert _assisted.with_assisted({"transport": "rest"}, HOSTS["node2"], HOSTS) == {"transport": "rest"}
    assert _assisted.with_assisted({}, HOSTS["node2"], HOSTS) == {}


def test_host_is_found_by_the_name_of_its_node() -> None:
    assert _assisted.host_of_node({"expect_node": "two", "host": "192.0.2.2"}, HOSTS) == HOSTS["node2"]
    assert _assisted.host_of_node({"expect_node": "node7"}, HOSTS) is None


def test_host_of_another_cluster_with_the_same_node_name() -> None:
    """The EJBCA of the other cluster must never be read for this node."""
    hosts = {"far": host("far", utrust_source="far", utrust_node="node1"), **HOSTS}
    assert _assisted.host_of_node({"expect_node": "node1", "host": "node1.example"}, hosts) == HOSTS["node1"]
    assert _assisted.host_of_node({"expect_node": "node1", "host": "far.example", "port": "443"}, hosts) == hosts["far"]
    assert _assisted.host_of_node({"expect_node": "node1", "host": "192.0.2.7"}, hosts) is None


@pytest.mark.parametrize(
    "options", [{"transport": "assisted", "host": "a"}, {"nodes": [{"transport": "rest"}, {"transport": "webconf"}]}]
)
def test_task_on_another_machine_is_refused(options: Facts) -> None:
    with pytest.raises(UtrustError) as caught:
        _assisted.check_controller(options)
    assert caught.value.code == "transport_needs_controller"
    _assisted.check_controller({"transport": "rest", "nodes": None})


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"failed": True, "code": "token_activation_failing"}, ["marked"]),
        ({"confirmations": [{"step": "hsm_restored"}]}, ["unmarked"]),
        ({"failed": True, "code": "restore_not_verified", "confirmations": [{"step": "hsm_restored"}]}, []),
        ({"confirmations": [{"step": "package_uploaded"}]}, []),
    ],
)
def test_view_is_read_again_only_after_a_restore(
    monkeypatch: pytest.MonkeyPatch, result: Facts, expected: list[str]
) -> None:
    """Each view of a crypto token that fails tries its PIN again."""
    done: list[str] = []
    monkeypatch.setattr(_assisted, "mark_failing", lambda ejbca: done.append("marked"))
    monkeypatch.setattr(_assisted, "unmark_failing", lambda ejbca: done.append("unmarked"))
    _assisted.mark_view({"assisted": {"ejbca": EJBCA}}, result)
    assert done == expected
    _assisted.mark_view({"assisted": None}, result)
    assert done == expected
