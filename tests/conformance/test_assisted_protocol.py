# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The transport `assisted` against the appliance simulator without an API: what the protocol promises, by people and EJBCA views."""

from __future__ import annotations

import io
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest
from utrust_appliance.testing import cluster

from tests.support.assisted import CLUSTER, ActingPeople, api_requests, assisted_node
from tests.support.playbook import methods
from tests.support.webconf_person import WebconfPerson

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """Two nodes with the same keys, and a third node in Factory Reset Mode."""
    with cluster(nodes=3, restored=2, **CLUSTER) as running:
        running.ejbca("node1", "deactivate")
        yield running


@pytest.fixture
def people(control: Control) -> ActingPeople:
    return ActingPeople(WebconfPerson(control))


def test_transport_implements_protocol(control: Control) -> None:
    names = [name for name in vars(Appliance) if not name.startswith("_") and callable(getattr(Appliance, name))]
    with assisted_node(control, "node1") as node:
        assert [name for name in names if not callable(getattr(node, name, None))] == []


def test_reading_sends_only_get_to_ejbca(control: Control) -> None:
    control.clear_log()
    with assisted_node(control, "node1") as appliance:
        node = appliance.node()
        hsm_keys = appliance.list_keys()
    assert methods(control) == {"GET"}
    assert api_requests(control) == []
    assert node.keys_digest == keys_digest(hsm_keys)
    assert node.key_count == len(hsm_keys)
    in_hsm = {(key["slot"], key["label"], key["fingerprint"]) for key in control.keys("node1")}
    assert {(key.slot, key.label, key.fingerprint) for key in hsm_keys} <= in_hsm


def test_members_are_the_declared_hosts(control: Control) -> None:
    with assisted_node(control, "node2") as appliance:
        node = appliance.node()
    assert [(member.node, member.up) for member in node.members] == [("node1", True), ("node2", True), ("node3", True)]
    assert node.name == "node2"
    assert node.hsm_serial == control.node("node2")["serial"]


def test_node_in_factory_reset_mode_has_unknown_keys(control: Control) -> None:
    with assisted_node(control, "node3") as appliance:
        node = appliance.node()
        assert (node.hsm_state, node.keys_digest) == ("unknown", None)
        with pytest.raises(UtrustError):
            appliance.list_keys()


def test_package_and_upload_bring_the_keys(control: Control, people: ActingPeople) -> None:
    control.generate_key("node1", "signKey-2027")
    control.ejbca("node1", "deactivate")
    with assisted_node(control, "node1", people) as source, assisted_node(control, "node2", people) as target:
        before = target.node().keys_digest
        package = source.create_package(source.node().keys_digest)
        assert (package.elsewhere, package.source) == (True, "node1")
        uploaded = target.stage_import(io.BytesIO(), package.size or 0, package.sha256 or "", before)
        assert uploaded.state == "applied"
        assert target.read_import(uploaded) == uploaded
        assert target.discard_import(uploaded) is False
        assert target.node().keys_digest == source.node().keys_digest != before
    assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"]


def test_restore_of_people_brings_the_keys(control: Control, people: ActingPeople) -> None:
    with assisted_node(control, "node1") as source, assisted_node(control, "node3", people) as joining:
        preview = joining.preview_restore("front-usb", "node1")
        assert (preview.hsm_serial, preview.cards_required, preview.cards_total) == ("UT000003", 2, 3)
        restore = joining.start_restore("front-usb", "node1")
        assert restore.finished
        assert joining.watch_restore(restore, 1.0) == restore
        assert joining.running_restore() is None
        assert joining.node().keys_digest == source.node().keys_digest
    control.factory_reset("node3")
