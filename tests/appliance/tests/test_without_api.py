# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes whose appliance API is off: Webconf, PIN pads and EJBCA remain, as on real appliances."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from utrust_appliance.control import Control
from utrust_appliance.testing import Api, cluster

from tests.support.webconf_person import WebconfPerson

if t.TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(3, restored=2, no_api=True, ejbca=True, key_mix={"ec-p256": 1}, keys=3) as running:
        yield running


def host(control: Control, node: str) -> dict[str, t.Any]:
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    return t.cast("dict[str, t.Any]", inventory["utrust"]["hosts"][node])


@pytest.mark.parametrize("client", ["operator", "guest", None])
def test_api_that_is_off_is_an_unknown_path(control: Control, client: str | None) -> None:
    """Nothing depends on a login, and no response has the form of the API."""
    for method, path in (("GET", "/node"), ("PUT", "/cluster/claim"), ("POST", "/hsm/packages"), ("GET", "")):
        response = Api(control, "node1", client=client)(method, path)
        assert response.status == 404
        assert b"Not Found" in response.data


def test_inventory_has_the_declared_facts(control: Control) -> None:
    first, third = host(control, "node1"), host(control, "node3")
    assert (first["utrust_transport"], first["utrust_page_map"]) == ("assisted", "b")
    assert first["utrust_ejbca_port"]
    assert third["utrust_declared"]["hsm_serial"] == "UT000003"
    assert {**third["utrust_declared"], "hsm_serial": "UT000001"} == first["utrust_declared"]
    assert (
        first["utrust_declared"] | {"mbk_name": "KEYOPS", "mbk_required": 2, "mbk_total": 3} == first["utrust_declared"]
    )


def test_person_synchronizes_keys_at_webconf(control: Control) -> None:
    control.generate_key("node1", "signKey-2027")
    person = WebconfPerson(control)
    confirmed = person.act("node1", "package_downloaded")
    assert confirmed["sha256"].startswith("sha256:")
    assert int(confirmed["size"]) > 0

    assert person.act("node2", "package_uploaded")["sha256"] == confirmed["sha256"]
    assert control.node("node1")["keys_digest"] == control.node("node2")["keys_digest"]


def test_person_restores_a_node_at_webconf(control: Control) -> None:
    confirmed = WebconfPerson(control).act("node3", "hsm_restored")
    assert confirmed["hsm_serial"] == "UT000003"
    assert control.node("node3")["state"] == "operational"
    assert control.node("node3")["keys_digest"] == control.node("node1")["keys_digest"]


def test_api_can_be_turned_on_and_off(control: Control) -> None:
    """The switch works for one node or all nodes, and the inventory follows."""
    assert control.set_api(True, node="node2") == ["node1", "node3"]
    assert Api(control, "node2")("GET", "/node").status == 200
    assert "utrust_transport" not in host(control, "node2")
    assert not control.node("node1")["api"]
    assert control.set_api(True) == []
    assert Api(control, "node1")("GET", "/node").status == 200
    control.down()
    assert Control.up(control.folder, no_api=True).pid
    assert Api(control, "node1")("GET", "/node").status == 404
    assert host(control, "node2")["utrust_transport"] == "assisted"
    control.down()
    assert Control.up(control.folder).pid
    assert Api(control, "node1")("GET", "/node").status == 404


def test_declared_facts_follow_the_profile(control: Control) -> None:
    control.set_profile("effect=replacing", "restart=node")
    assert host(control, "node1")["utrust_declared"]["import_effect"] == "replacing"
    assert host(control, "node1")["utrust_declared"]["restart"] == "node"
    control.set_profile()
    assert host(control, "node1")["utrust_declared"]["restart"] == "nothing"
