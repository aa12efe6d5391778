# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Behavior profiles: selection, storage, and conformance with the contract."""

from __future__ import annotations

import typing as t
from pathlib import Path

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest
import yaml
from utrust_appliance import cli
from utrust_appliance.behavior import ASPECTS, PROFILES, Behavior
from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import Api, cluster

from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=2, key_mix={"ec-p256": 1}, faults=True, restart_time=0.2) as control:
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


def test_profile_list_has_every_profile_and_aspect(capsys: pytest.CaptureFixture[str]) -> None:
    """`profile list` describes every profile and aspect."""
    assert cli.main(["profile", "list"]) == 0
    listed = capsys.readouterr().out
    for name, (meaning, dummy) in PROFILES.items():
        assert name in listed
        assert meaning in listed
    for aspect, values in ASPECTS.items():
        for value, meaning in values.items():
            assert f"{aspect}={value}" in listed
            assert meaning in listed


def test_profile_documented() -> None:
    """Every profile is documented."""
    text = (Path(__file__).resolve().parents[3] / "docs/import-behavior.md").read_text(encoding="utf-8")
    assert [name for name in PROFILES if f"`{name}`" not in text] == []
    assert [
        f"{aspect}={value}" for aspect in ASPECTS for value in ASPECTS[aspect] if f"`{aspect}={value}`" not in text
    ] == []


def test_profile_combination_last_value_wins() -> None:
    """Profiles can be combined, and the last value wins."""
    behavior = Behavior.of(["worst-case", "vendor-page", "restart=nothing"])
    assert (behavior.effect, behavior.atomic, behavior.restart) == ("additive", "key_by_key", "nothing")


@pytest.mark.parametrize(
    ("name", "words"),
    [("vendor", "vendor-page"), ("effect=merging", "additive"), ("color=red", "profile list"), ("", "contract")],
)
def test_profile_unknown_rejected_with_valid_names(name: str, words: str) -> None:
    """An unknown profile is rejected with a list of valid names."""
    with pytest.raises(OperationError, match=words):
        Behavior.of([name])


def test_profile_kept_until_changed() -> None:
    """A cluster keeps its profile until another profile is set."""
    with cluster(nodes=1, keys=1, profile=["vendor-page", "restart=node"]) as control:
        node = Api(control, "node1")
        assert node("GET", "/node").data["capabilities"] == ["key_list", "restore_job", "cluster_claim"]
        for options, profile in (
            ({}, ["vendor-page", "restart=node"]),
            ({"profile": ["mirror"]}, ["mirror"]),
            ({}, ["mirror"]),
        ):
            control.down()
            Control.up(control.folder, **options)
            assert control.status()["profile"] == profile
        control.down()
        with pytest.raises(OperationError, match="does not exist"):
            Control.up(control.folder, profile=["unheard-of"])


@pytest.mark.parametrize("profile", [*PROFILES, "announces=no"])
def test_node_reports_behavior_of_contract(control: Control, profile: str) -> None:
    """A node reports its behavior with the values of the contract."""
    control.set_profile(profile)
    node = Api(control, "node1")("GET", "/node").data
    fits("Node", node)
    reported = set(node["import_behavior"].values())
    assert (reported == {"unknown"}) == (Behavior.of([profile]).announces == "no")


@pytest.mark.parametrize(("profile", "written"), [(["commit=apply"], 0), (["commit=upload"], 0), (["key-by-key"], 2)])
def test_failed_import_rows_show_written_keys(control: Control, profile: list[str], written: int) -> None:
    """The rows of a failed import show the written keys."""
    control.set_profile(*profile)
    control.generate_key("node1", f"{profile[0]}-key", count=3)
    control.fault("import_failure", node="node2", after=2)
    target, content = Api(control, "node2"), Api(control, "node1").package()
    response = target("POST", "/hsm/imports", content)
    if profile == ["commit=apply"]:
        response = target.apply(response.data)
    assert response.status == (200 if profile == ["commit=apply"] else 201)
    failed = response.data
    fits("Import", failed)
    assert (failed["state"], failed["problem"]["code"]) == ("failed", "import_failed")
    assert target("GET", f"/hsm/imports/{failed['id']}").data == failed
    listed = target("GET", "/hsm/imports").data
    fits("ImportList", listed)
    assert listed["imports"][0] == {name: value for name, value in failed.items() if name != "rows"}
    done = [row["label"] for row in failed["rows"] if row["action"] == "add" and row["outcome"] == "done"]
    labels = {key["label"] for key in control.keys("node2")}
    assert len(done) == written
    assert {label for label in labels if label.startswith(profile[0])} == set(done)
    assert target("DELETE", f"/hsm/imports/{failed['id']}").data == failed
    control.factory_reset("node2")
    control.restore("node2")


@pytest.mark.parametrize("commit", ["apply", "upload"])
def test_import_with_cards_matches_contract(control: Control, commit: str) -> None:
    """An import with cards matches the contract at every step."""
    control.set_profile("cards=required", f"commit={commit}")
    control.generate_key("node1", f"card-{commit}")
    target, content = Api(control, "node2"), Api(control, "node1").package()

    def started() -> dict[str, t.Any]:
        data = target("POST", "/hsm/imports", content).data
        return t.cast("dict[str, t.Any]", target.apply(data).data if commit == "apply" else data)

    waiting = started()
    place = f"/hsm/imports/{waiting['id']}"
    fits("Import", waiting)
    assert (waiting["state"], waiting["prompt"]["text"]) == ("waiting_for_card", "Insert MBK card 1 of 2")
    assert target("GET", "/node").data["running"] == {"kind": "import", "id": waiting["id"]}
    assert target("POST", "/hsm/imports", content).code == "import_in_progress"
    control.insert_card("node2", "KEYOPS-1")
    control.enter_pin("node2", "000000000")
    fits("Import", wrong := target("GET", place).data)
    assert wrong["notice"]["code"] == "wrong_pin"
    canceled = target("DELETE", place)
    fits("Import", canceled.data)
    assert (canceled.status, canceled.data["state"]) == (200, "canceled")
    assert canceled.data["problem"]["code"] == "canceled_by_request"
    assert target("GET", place).data == canceled.data
    again = started()
    for card in ("KEYOPS-1", "KEYOPS-2"):
        if control.pin_pad("node2")["card"] is None:
            control.insert_card("node2", card)
        control.enter_pin("node2", control.pin_of(card))
    wait_for(lambda: target("GET", "/node").data["running"] is None)
    fits("Import", ended := target("GET", f"/hsm/imports/{again['id']}").data)
    assert ended["state"] == "applied"
    assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"]


def test_binding_mbk_accepts_other_cluster(control: Control) -> None:
    """With binding=mbk, a node accepts a package of another cluster."""
    control.fault("package_cluster")
    content = Api(control, "node1").package()
    target = Api(control, "node2")
    assert target("POST", "/hsm/imports", content).code == "cluster_mismatch"
    control.set_profile("binding=mbk")
    assert target("POST", "/hsm/imports", content).status == 201


def test_pins_travel_activates_slot(control: Control) -> None:
    """With pins=replicated, an import activates a slot, and with pins=not_replicated it does not."""
    control.set_slot("node1", 1, activation="manual", activated=True)
    for pins, usable in (("replicated", True), ("not_replicated", False)):
        control.set_profile("users=replicated", f"pins={pins}")
        control.set_slot("node2", 1, activation="auto", activated=True)
        control.generate_key("node1", f"pin-{pins}", slot=1)
        target = Api(control, "node2")
        target.apply(target("POST", "/hsm/imports", Api(control, "node1").package()).data)
        arrived = [key for key in control.keys("node2") if key["label"] == f"pin-{pins}"]
        assert [key["usable"] for key in arrived] == [usable]
