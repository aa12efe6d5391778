# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that leave out functions, like a bridge in front of a real appliance (docs/api/bridges.md)."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest
import yaml
from utrust_appliance.testing import Api, Response, cluster
from utrust_appliance.web.checks import NAME

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

CONTRACT = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8")
)
DIGEST = f"sha256:{'0' * 64}"
RESTORE = {"pin_pad": "front-usb", "source": "node1"}


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=2, keys=2, key_mix={"ec-p256": 1}, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    yield running
    running.clear_faults()
    running.set_profile()


def fits(schema: str, document: t.Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    whole = {"$ref": f"#/components/schemas/{schema}", "components": CONTRACT["components"]}
    jsonschema.Draft202012Validator(whole, format_checker=checker).validate(document)


def require_not_supported(response: Response) -> None:
    fits("Problem", response.data)
    assert (response.status, response.code) == (501, "not_supported")


def test_node_without_key_list_reports_null(control: Control) -> None:
    """A node without `key_list` reports null for digests and counts, and rejects expected digests."""
    control.set_profile("key_list=no")
    api = Api(control, "node1")
    node = api("GET", "/node").data
    fits("Node", node)
    assert "key_list" not in node["capabilities"]
    assert [node[name] for name in ("keys_digest", "key_count", "unusable_key_count")] == [None] * 3
    assert {slot["key_count"] for slot in node["slots"]} == {None}
    require_not_supported(api("GET", "/hsm/keys"))
    assert api("POST", "/hsm/packages", {"expect_keys_digest": DIGEST}).code == "invalid_request"
    assert api("POST", f"/hsm/imports?expect_keys_digest={DIGEST}", b"no package").code == "invalid_request"
    package = api("POST", "/hsm/packages", {}).data
    assert (package["key_count"], package["keys_digest"]) == (None, None)
    assert package["mbk"]["name"] == "KEYOPS"
    preview = Api(control, "node3")("GET", "/hsm/restore-preview?pin_pad=front-usb&source=node1").data
    fits("RestorePreview", preview)
    assert preview["source"] == {"node": "node1", "key_count": None, "keys_digest": None}
    control.set_profile()
    assert api("GET", "/node").data["key_count"] == len(control.keys("node1"))


def test_node_with_opaque_packages_reports_null(control: Control) -> None:
    """A node that cannot read packages reports their size and digest only, and no rows."""
    control.set_profile("packages=opaque")
    source, target = Api(control, "node1"), Api(control, "node2")
    package = source("POST", "/hsm/packages", {}).data
    facts = ("source", "cluster_id", "mbk", "key_count", "keys_digest")
    assert [package[name] for name in facts] == [None] * 5
    content = source("GET", f"/hsm/packages/{package['id']}/content").data
    assert len(content) == package["size"]
    staged = target("POST", "/hsm/imports", content).data
    assert staged["rows"] is None
    assert [staged["package"][name] for name in facts] == [None] * 5
    assert staged["keys_digest"] == control.node("node2")["keys_digest"]
    for one in target("GET", "/hsm/imports").data["imports"]:
        assert one["package"]["source"] is None
    assert source("GET", "/node").data["mbk"]["name"] == "KEYOPS"


def test_bridge_transfers_keys_with_upload_only(control: Control) -> None:
    """A bridge-like node reports what it leaves out, and an upload still brings the keys."""
    control.generate_key("node1", "over-a-bridge")
    control.set_profile("bridge")
    source, target = Api(control, "node1"), Api(control, "node2")
    node = target("GET", "/node").data
    fits("Node", node)
    assert node["capabilities"] == []
    assert set(node["import_behavior"].values()) == {"unknown"}
    object_id = "0" * 32
    for response in (
        target("GET", "/hsm/keys"),
        target("GET", "/cluster/claim"),
        target("GET", "/hsm/pin-pads"),
        target("GET", "/hsm/restores"),
        target("GET", f"/hsm/restores/{object_id}"),
        target("DELETE", f"/hsm/restores/{object_id}"),
        target("POST", "/hsm/restores", RESTORE),
        target("GET", "/hsm/restore-preview?pin_pad=front-usb&source=node1"),
        target("POST", f"/hsm/imports/{object_id}/apply", {"expect_keys_digest": None}),
    ):
        require_not_supported(response)
    applied = target("POST", "/hsm/imports", source.package())
    assert (applied.status, applied.data["state"], applied.data["rows"]) == (201, "applied", None)
    assert control.keys("node2") == control.keys("node1")


def test_not_supported_checked_after_login(control: Control) -> None:
    """A request without a login is rejected before the capability is checked."""
    control.set_profile("bridge")
    assert Api(control, "node1", client=None)("GET", "/hsm/keys").code == "unauthenticated"
    control.set_profile("commit=upload")
    require_not_supported(Api(control, "node1")("POST", f"/hsm/imports/{'0' * 32}/apply", {}))


def test_node_reports_family_and_alarm_code(control: Control) -> None:
    """A node reports the family of its HSM, and the kind of an alarm."""
    api = Api(control, "node1")
    hsm = api("GET", "/node").data["hsm"]
    assert (hsm["family"], hsm["alarm_code"], hsm["alarm"]) == ("u_trust_anchor", None, None)
    control.fault("alarm", node="node1", reason="tamper sensor")
    alarm = api("GET", "/node").data
    fits("Node", alarm)
    assert (alarm["hsm"]["state"], alarm["hsm"]["alarm_code"]) == ("alarm", "other")
    control.clear_faults()
    control.fault("alarm", node="node3", reason="external_erase")
    erased = Api(control, "node3")("GET", "/node").data["hsm"]
    assert (erased["state"], erased["alarm_code"]) == ("alarm", "external_erase")


NAMES = [
    "node1",
    "Node 1",
    "n",
    "0 .",
    "rack 2, left",
    "a" * 64,
    "a" * 65,
    "a b.c_d-e",
    "",
    " a",
    "a ",
    "-a",
    "a-",
    "a\n",
    "ä",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_follow_contract(name: str) -> None:
    """Names can contain blanks, but not at their ends, as in the schema `Name`."""
    schema = CONTRACT["components"]["schemas"]["Name"]
    valid = schema["minLength"] <= len(name) <= schema["maxLength"] and re.fullmatch(schema["pattern"][1:-1], name)
    assert bool(NAME.fullmatch(name)) == bool(valid)


def test_name_with_blank_accepted_in_requests(control: Control) -> None:
    """A name with a blank is a valid name, so the node searches for it."""
    api = Api(control, "node3")
    assert api("GET", "/hsm/restore-preview?pin_pad=front%20usb&source=node1").code == "pin_pad_not_configured"
    assert api("GET", "/hsm/restore-preview?pin_pad=front-usb&source=node%201").code == "source_not_a_member"
    assert api("GET", "/hsm/restore-preview?pin_pad=%20usb&source=node1").code == "invalid_request"
