# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data of the key report: nodes, verdict and CAs."""

from __future__ import annotations

import dataclasses as dc
import json
import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keyops.utrust.plugins.action.utrust_key_report import SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import Authority
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.ca_impact import cas_on_nodes
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.html import render
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.table import format_table
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import fingerprint, key
from tests.support.readings import cluster_reading
from tests.support.report import (
    CAS,
    HOSTILE,
    KEYS,
    OCSP_KEY,
    ROOT_KEY,
    SIGN_KEY,
    all_readings,
    report_data,
    report_of,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey


def outcomes(report: dict[str, t.Any], name: str) -> dict[str, str]:
    (ca,) = (ca for ca in report["cas"] if ca["name"] == name)
    return {node: result["reason"] or result["outcome"] for node, result in ca["nodes"].items()}


# Nodes and verdict


def test_report_names_the_differences_of_each_node() -> None:
    """The report has each node with its differences from the source."""
    nodes = {node["host"]: node for node in report_data()["nodes"]}
    assert {host: node["in_sync"] for host, node in nodes.items()} == {
        "node1": True,
        "node2": True,
        "node3": False,
        "node4": False,
        "node5": None,
        "node6": False,
    }
    assert {host: node["differs"] for host, node in nodes.items() if node["differs"]} == {
        "node3": ["hsm_firmware"],
        "node4": ["mbk"],
    }
    assert nodes["node5"]["problem"] == "GET /api/v1/node at 127.0.0.6:8443: no connection"
    assert nodes["node4"]["mbk"]["check_value"] != nodes["node1"]["mbk"]["check_value"]


@pytest.mark.parametrize(
    ("nodes", "not_read", "verdict"),
    [
        (["node1", "node2"], [], "in_sync"),
        (["node1", "node2"], ["node9"], "incomplete"),
        (["node1", "node2", "node5"], [], "incomplete"),
        (["node1", "node3", "node5"], ["node9"], "drift"),
        (["node1", "node6"], [], "drift"),
    ],
)
def test_report_verdict_requires_every_member(nodes: list[str], not_read: list[str], verdict: str) -> None:
    """The verdict is in sync only if each member was compared."""
    report = report_of(all_readings(nodes=nodes, not_read=not_read))
    assert report["verdict"] == verdict
    assert [node["host"] for node in report["nodes"]] == nodes + not_read
    assert [node["problem"] for node in report["nodes"][len(nodes) :]] == [
        "the joined member was not part of this run" for dummy in not_read
    ]
    render(report)


def test_report_shows_moved_and_duplicate_keys() -> None:
    """A key in another slot and a copy are not missing or extra."""
    (drift,) = (entry for entry in report_data()["matrix"]["drift"] if entry["node"] == "node6")
    assert [(pair["source_key"]["slot"], pair["target_key"]["slot"]) for pair in drift["moved"]] == [(0, 3)]
    assert [each["label"] for each in drift["duplicate"]] == ["copy"]
    assert (drift["missing"], drift["extra"], drift["mismatched"]) == ([], [], [])


def test_report_is_reproducible_except_for_the_time() -> None:
    """The same cluster gives the same report, except for the time."""
    first, second = report_data(), report_data(time="2027-01-01T00:00:00Z")
    assert {**first, "time": ""} == {**second, "time": ""}
    assert render(first).replace("2026-11-23", "2027-01-01").replace("12:00:00", "00:00:00") == render(second)


def test_report_is_json_data() -> None:
    """The report survives a JSON round trip."""
    assert json.loads(json.dumps(report_data(HOSTILE))) == report_data(HOSTILE)


def test_report_without_keys_of_the_source() -> None:
    """A report requires the keys of the source."""
    with pytest.raises(UtrustError, match="node1") as caught:
        report_of(dc.replace(all_readings(), hsm_keys=None))
    assert caught.value.code == "source_unknown"


# CAs


def test_report_ca_would_fail_with_reason() -> None:
    """A CA would fail if its key is missing, replaced or unusable."""
    report = report_data()
    assert outcomes(report, "RootCA") == {
        **dict.fromkeys(("node1", "node2", "node3", "node4"), "holds_key"),
        "node6": "the key is in slot 3",
        "node5": "GET /api/v1/node at 127.0.0.6:8443: no connection",
    }
    assert outcomes(report, "IssuingCA")["node3"] == "another key has the label of the key"
    assert outcomes(report, "OCSP")["node3"] == "the key is missing"
    assert outcomes(report, "OCSP")["node4"] == "the key is unusable"
    assert [ca["would_fail_on"] for ca in report["cas"]] == [["node6"], ["node3"], ["node3", "node4"]]
    assert [ca["label"] for ca in report["cas"]] == ["rootKey-2024", "signKey-2026", "ocspKey-2026"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"hsm_state": "factory_reset"}, "the HSM is in the state Factory Reset Mode"),
        ({"hsm_state": "alarm"}, "the HSM is in the state alarm"),
        ({"driver": "stopped"}, "the HSM driver is stopped"),
    ],
    ids=str,
)
def test_report_ca_would_fail_without_operational_hsm(state: dict[str, str], reason: str) -> None:
    """A CA would fail on a node whose HSM is not operational."""
    reading = cluster_reading({"node1": KEYS, "node2": KEYS}, changes={"node2": state})
    assert outcomes(report_of(reading, cas=CAS), "RootCA") == {"node1": "holds_key", "node2": reason}


def test_report_ca_key_is_missing_on_the_source() -> None:
    """The report finds the key of a CA also on other nodes than the source."""
    reading = cluster_reading({"node1": [], "node2": [SIGN_KEY], "node3": []})
    for ca in ({"label": "signKey-2026"}, {"public_key_sha256": SIGN_KEY.fingerprint}):
        report = report_of(reading, cas=[{"name": "CA", **ca}])
        assert report["cas"][0]["would_fail_on"] == ["node1", "node3"]


def test_report_ca_ambiguous_label_is_unknown() -> None:
    """The report does not guess if different keys have the label."""
    twice = (SIGN_KEY, dc.replace(SIGN_KEY, id="03", fingerprint=fingerprint("second")))
    reading = cluster_reading({"node1": twice, "node2": twice})
    report = report_of(reading, cas=[{"name": "CA", "label": "signKey-2026"}])
    assert set(outcomes(report, "CA").values()) == {
        "2 different keys have this label. Set slot or public_key_sha256 of the CA"
    }
    assert report["cas"][0]["would_fail_on"] == []
    named = report_of(reading, cas=[{"name": "CA", "public_key_sha256": twice[1].fingerprint}])
    assert outcomes(named, "CA") == {"node1": "holds_key", "node2": "holds_key"}


def test_report_ca_key_is_missing_on_every_node() -> None:
    """A CA would fail on each node if no node holds its key."""
    report = report_data(
        cas=[{"name": "CA", "label": "typo"}, {"name": "CA2", "public_key_sha256": fingerprint("nobody")}]
    )
    for ca in report["cas"]:
        assert ca["would_fail_on"] == ["node1", "node2", "node3", "node4", "node6"]


def test_report_ca_slot_distinguishes_keys() -> None:
    """The slot distinguishes two keys with the same label."""
    elsewhere = dc.replace(OCSP_KEY, slot=2, fingerprint=fingerprint("elsewhere"))
    reading = cluster_reading({"node1": [OCSP_KEY, elsewhere], "node2": [OCSP_KEY]})
    cas = [{"name": f"CA{slot}", "label": OCSP_KEY.label, "slot": slot} for slot in (1, 2)]
    assert [ca["would_fail_on"] for ca in report_of(reading, cas=cas)["cas"]] == [[], ["node2"]]


def test_report_ca_key_has_moved() -> None:
    """A crypto token uses one slot, so a CA would fail where its key is in another slot. The report names that slot."""
    reading = cluster_reading({"node1": [ROOT_KEY], "node2": [dc.replace(ROOT_KEY, slot=3)]})
    cas = [
        {"name": "any", "public_key_sha256": ROOT_KEY.fingerprint},
        {"name": "slot", "label": ROOT_KEY.label, "slot": 0},
    ]
    for ca in report_of(reading, cas=cas)["cas"]:
        assert ca["nodes"]["node2"]["reason"] == "the key is in slot 3"


ROWS = st.lists(st.builds(key, st.sampled_from(["a", "b"]), slot=st.integers(0, 1), usable=st.booleans()), max_size=4)


@given(ROWS, ROWS)
def test_report_ca_outcome_follows_from_the_keys(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    """The keys of a node are restored from the difference: the CA works if and only if a usable row has its key."""
    reading = cluster_reading({"node1": ours, "node2": theirs})
    for slot in (0, 1):
        ca = {"name": "CA", "public_key_sha256": key("a").fingerprint, "slot": slot}
        (row,) = cas_on_nodes([ca], reading)
        for name, hsm_keys in (("node1", ours), ("node2", theirs)):
            works = any(one.fingerprint == key("a").fingerprint and one.slot == slot and one.usable for one in hsm_keys)
            assert (name not in row["would_fail_on"]) == works


# Unknown facts, and keys of every type

ED25519 = key("ed", type="eddsa", size=256, curve="Ed25519")
ML_DSA = key("", type="ml-dsa", size=None, curve="ML-DSA-65", fingerprint=fingerprint("ml-dsa"))
FUTURE = key("future", type="frobnicate-9", size=None, curve=None)
NAMELESS = key("", slot=2, type="rsa", size=None, curve=None, fingerprint="unknown")
UNKNOWN_FACTS = {
    "appliance_version": None,
    "hsm_firmware": None,
    "fips": None,
    "clock": None,
    "keys_digest": None,
    "key_count": None,
    "unusable_key_count": None,
}


def test_report_shows_keys_of_every_type() -> None:
    """Types without a size, keys without a label, and unknown key fingerprints have a row like every other key."""
    reading = cluster_reading({"node1": (ED25519, ML_DSA, FUTURE, NAMELESS), "node2": (ED25519, FUTURE, NAMELESS)})
    report = report_of(reading)
    rows = {(row["slot"], row["type"]): row for row in report["matrix"]["rows"]}
    assert {kind for dummy, kind in rows} == {"eddsa", "ml-dsa", "frobnicate-9", "rsa"}
    assert rows[0, "ml-dsa"]["nodes"] == {"node2": "missing"}
    assert rows[2, "rsa"]["nodes"] == {"node2": "unknown"}
    table = "\n".join(format_table(report["matrix"]))
    for words in ("Ed25519", "ML-DSA-65", "FROBNICATE-9", "(no label)", "  unknown  ", "UNKNOWN: node2: 1 key(s)"):
        assert words in table
    page = render(report)
    assert page.count("(no label)") >= 2
    assert "have an unknown key fingerprint" in page


def test_report_source_with_unknown_fingerprint_is_not_drift() -> None:
    """The source does not differ from itself. Another node with the same row is unknown, and neither equal nor different."""
    report = report_of(cluster_reading({"node1": (NAMELESS,), "node2": (NAMELESS,)}))
    assert {node["host"]: node["in_sync"] for node in report["nodes"]} == {"node1": True, "node2": None}
    assert (report["verdict"], report["matrix"]["drift"]) == ("incomplete", [])
    assert [unknown["node"] for unknown in report["matrix"]["unknown"]] == ["node2"]


def test_report_of_unknown_facts_says_unknown() -> None:
    """An unknown fact differs from no other fact, and the page shows it as unknown."""
    reading = cluster_reading({"node1": (ED25519,), "node2": (ED25519,)}, changes={"node2": UNKNOWN_FACTS})
    report = report_of(reading)
    assert report["nodes"][1]["differs"] == []
    page = render(report)
    assert page.count("<td>unknown</td>") == 3
    assert "number unknown" in page
    assert "None" not in page


def test_ca_with_unknown_fingerprint_is_unknown() -> None:
    """Two keys with an unknown key fingerprint are never known to be equal."""
    reading = cluster_reading({"node1": (NAMELESS,), "node2": (NAMELESS,)})
    (ca,) = cas_on_nodes([{"name": "CA", "slot": 2, "label": ""}], reading)
    assert {result["outcome"] for result in ca["nodes"].values()} == {"unknown"}


def test_report_accepts_the_result_of_ejbca_ca_info() -> None:
    """The documentation of the option `cas` gives RV(authorities) to the report, also with a CA that has no certificate."""
    found = [
        Authority("A", "CN=A", "sha256:a", "2031-01-01T00:00:00Z", False),
        Authority("B", "", None, None, None, "?"),
    ]
    checked = ArgumentSpecValidator({"cas": SPEC["cas"]}).validate({"cas": [each._asdict() for each in found]})
    assert checked.error_messages == []


def test_ca_without_a_known_key_is_unknown() -> None:
    """EJBCA lists a CA that has no certificate yet. Nobody knows whether it would fail on a node."""
    [ca] = cas_on_nodes([{"name": "B", "public_key_sha256": None}], cluster_reading({"node1": KEYS, "node2": KEYS}))
    assert {each["outcome"] for each in ca["nodes"].values()} == {"unknown"}
    assert ca["would_fail_on"] == []
