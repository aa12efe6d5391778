# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several clusters in one process."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from utrust_appliance import process
from utrust_appliance.cli import main
from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import Api, cluster, resource_usage

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLUSTERS, NODES, KEYS = 3, 2, 20


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(clusters=CLUSTERS, nodes=NODES, restored=2, keys=KEYS, faults=True) as running:
        yield running


def test_clusters_every_node_has_own_keys(control: Control) -> None:
    """Every node of every cluster responds and has its own keys."""
    fingerprints: set[str] = set()
    addresses: set[str] = set()
    serials: set[str] = set()
    for one in control.clusters():
        for node in one.status()["nodes"]:
            assert (node["state"], node["key_count"]) == ("operational", KEYS)
            assert Api(one, node["node"])("GET", "/node").data["name"] == node["node"]
            addresses.add(node["address"])
            serials.add(node["serial"])
        strong = [key["fingerprint"] for key in one.keys("node1") if key["fingerprint"].startswith("sha256:")]
        assert not fingerprints & set(strong)
        fingerprints |= set(strong)
        assert one.sign("node1", "signKey-2025", b"m") == one.sign("node2", "signKey-2025", b"m")
    assert len(serials) == CLUSTERS * NODES
    assert addresses >= {"127.0.1.2", "127.0.3.3"}


def test_clusters_are_independent(control: Control) -> None:
    """A change in one cluster does not affect other clusters."""
    first, second, dummy = control.clusters()
    first.fault("alarm", node="node1")
    first.generate_key("node2", "ofTheFirst")
    assert (first.node("node1")["state"], second.node("node1")["state"]) == ("alarm", "operational")
    assert (first.node("node2")["key_count"], second.node("node2")["key_count"]) == (KEYS + 1, KEYS)
    first.clear_faults()
    package = Api(first, "node2").package()
    assert Api(second, "node1")("POST", "/hsm/imports", package).code == "mbk_mismatch"


def test_clusters_inventory_has_group_each(control: Control) -> None:
    """The common inventory has one group for each cluster."""
    groups = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))["utrust"]["children"]
    assert list(groups) == ["cluster01", "cluster02", "cluster03"]
    group, node = groups["cluster02"], control.clusters()[1].node("node2")
    assert group["vars"] == {"utrust_source": "cluster02-node1"}
    host = group["hosts"]["cluster02-node2"]
    assert (host["utrust_node"], host["utrust_host"], host["utrust_port"]) == ("node2", node["address"], node["port"])
    assert host["utrust_client_cert"] == str(control.folder / "cluster02/clients/operator.pem")


def test_clusters_commands_select_scope(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands apply to all clusters or to one cluster."""
    assert main(["status", "--dir", str(control.folder)]) == 0
    assert "keyops-03" in capsys.readouterr().out
    assert main(["status", "--json", "--dir", str(control.folder)]) == 0
    assert list(json.loads(capsys.readouterr().out)["clusters"]) == ["cluster01", "cluster02", "cluster03"]
    assert main(["key", "list", "--node", "node1", "--dir", str(control.folder / "cluster03")]) == 0
    assert "signKey-2025" in capsys.readouterr().out
    with pytest.raises(OperationError, match="contains 3 clusters"):
        control.keys("node1")
    for purge in (False, True):
        with pytest.raises(OperationError, match=r"Stop or remove .* as a whole"):
            control.clusters()[0].down(purge=purge)


def test_clusters_continue_after_restart(control: Control) -> None:
    """All clusters continue after a restart."""
    before = [one.status() for one in control.clusters()]
    assert control.down()
    assert control.clusters() == []
    for wrong in ({"clusters": 2}, {"nodes": 5}, {"clusters": CLUSTERS, "fault_port": 0}):
        with pytest.raises(OperationError):
            Control.up(control.folder, **wrong)
    Control.up(control.folder, faults=True)
    for old, new in zip(before, [one.status() for one in control.clusters()], strict=True):
        assert new["nodes"] == old["nodes"]


def test_clusters_33_with_1000_keys_need_less_than_2_gib() -> None:
    """33 clusters with 1,000 keys need less than 2 GiB. `make bench` measures the time."""
    with cluster(clusters=33, nodes=3, keys=1000) as control:
        assert 0 < resource_usage(control)[1] < 2 * 1024**3
        assert {one.node("node1")["key_count"] for one in control.clusters()} == {1000}


def test_clusters_option_on_single_cluster_rejected(tmp_path: Path) -> None:
    """--clusters is rejected for a folder with a single cluster."""
    folder = tmp_path / "d"
    control = Control.up(folder, nodes=1, keys=1)
    try:
        control.down()
        with pytest.raises(OperationError, match="a single cluster"):
            Control.up(folder, clusters=2)
    finally:
        process.stop(folder)
        process.purge(folder)
