# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which EJBCA views a run reads, from the variables of a host."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils import _ejbca_view

from tests.support.views import cluster_view, reading, unread, view_token

HOST = {"inventory_hostname": "node2", "utrust_host": "192.0.2.2"}
READER = {"utrust_ejbca_reader_client_cert": "/c.pem", "utrust_ejbca_reader_client_key": "/c.key"}
EJBCA = {"host": "192.0.2.2", "client_cert": "/c.pem", "client_key": "/c.key"}


@pytest.fixture(autouse=True)
def not_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ejbca_view, "find_run_directory", lambda dummy: None)


@pytest.mark.parametrize("value", [None, "", " ", True, "true", "yes", 1])
def test_view_options_have_the_reader(value: t.Any) -> None:
    """The operator account never reads a view."""
    operator = {"utrust_ejbca_operator_client_cert": "/other.pem"}
    assert _ejbca_view.view_options({**HOST, **READER, **operator, "utrust_ejbca_view": value}) == {"ejbca": EJBCA}
    assert _ejbca_view.view_options({**HOST, **operator, "utrust_ejbca_view": value}) == {}


@pytest.mark.parametrize("value", [False, "false", "no", "off", 0, "nein"])
def test_view_options_leave_out_a_node(value: t.Any) -> None:
    """A text that is not a boolean spends no PIN try."""
    assert _ejbca_view.view_options({**HOST, **READER, "utrust_ejbca_view": value}) == {"ejbca_unread": "left_out"}


def test_failing_node_is_marked_for_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> None:
    """Only the node with the crypto token that cannot be activated is marked, by host and port."""
    monkeypatch.setattr(_ejbca_view, "find_run_directory", lambda dummy: tmp_path)
    monkeypatch.setattr(_ejbca_view, "open_run_directory", lambda dummy: type("Directory", (), {"path": tmp_path}))
    nodes = [{"inventory_host": host, "ejbca": {**EJBCA, "host": host}} for host in ("node1", "node2")]
    nodes.append({"inventory_host": "node3"})
    failing = unread("token_activation_failing")
    view = cluster_view(node1=reading("node1", view_token()), node2=failing, node3=failing)

    _ejbca_view.mark_failing_nodes(view, nodes)

    assert [_ejbca_view.is_failing({**EJBCA, "host": host}) for host in ("node1", "node2", "node3")] == [
        False,
        True,
        False,
    ]
    assert not _ejbca_view.is_failing({**EJBCA, "host": "node2", "port": 8443})
    assert _ejbca_view.is_failing({**EJBCA, "host": "NODE2"})
    options = _ejbca_view.view_options({**HOST, **READER, "utrust_ejbca_host": "node2"})
    assert options["ejbca_unread"] == "activation_failing"
