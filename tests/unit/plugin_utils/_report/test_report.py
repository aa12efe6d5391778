# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data of the key report: nodes, verdict and CAs."""

from __future__ import annotations

import dataclasses as dc
import json
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.filter.key_report import key_report

from tests.support.factories import fingerprint
from tests.support.report import (
    CAS,
    HOSTILE,
    KEYS,
    OCSP_KEY,
    SIGN_KEY,
    TIME,
    all_results,
    hsm_info_result,
    render_page,
    report_data,
)


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
    }
    assert {host: node["differs"] for host, node in nodes.items() if node["differs"]} == {
        "node3": ["hsm_firmware"],
        "node4": ["mbk"],
    }
    assert nodes["node5"]["problem"] == "GET /api/v1/node at 127.0.0.6:8443: no connection"
    assert nodes["node4"]["mbk"]["check_value"] != nodes["node1"]["mbk"]["check_value"]


@pytest.mark.parametrize(
    ("nodes", "unreachable", "verdict"),
    [
        (["node1", "node2"], [], "in_sync"),
        (["node1", "node2"], ["node9"], "incomplete"),
        (["node1", "node2", "node5"], [], "incomplete"),
        (["node1", "node3", "node5"], ["node9"], "drift"),
    ],
)
def test_report_verdict_requires_every_member(nodes: list[str], unreachable: list[str], verdict: str) -> None:
    """The verdict is in sync only if each member was compared."""
    report = key_report({name: all_results()[name] for name in nodes}, "node1", TIME, unreachable_nodes=unreachable)
    assert report["verdict"] == verdict
    assert [node["host"] for node in report["nodes"]] == nodes + unreachable
    render_page(report)


def test_report_is_reproducible_except_for_the_time() -> None:
    """The same cluster gives the same report, except for the time."""
    first, second = report_data(), key_report(all_results(), "node1", "2027-01-01T00:00:00Z", cas=CAS)
    assert {**first, "time": ""} == {**second, "time": ""}
    assert render_page(first).replace("2026-11-23", "2027-01-01").replace("12:00:00", "00:00:00") == render_page(second)


def test_report_is_json_data() -> None:
    """The report survives a JSON round trip."""
    assert json.loads(json.dumps(report_data(HOSTILE))) == report_data(HOSTILE)


@pytest.mark.parametrize("nodes", [{}, {"node2": hsm_info_result("node2")}, {"node1": {"failed": True}}], ids=str)
def test_report_without_keys_of_the_source(nodes: dict[str, t.Any]) -> None:
    """The filter fails without the keys of the source."""
    with pytest.raises(AnsibleFilterError, match="node1"):
        key_report(nodes, "node1", TIME)


# CAs


def test_report_ca_would_fail_with_reason() -> None:
    """A CA would fail if its key is missing, replaced or unusable."""
    report = report_data()
    assert outcomes(report, "RootCA") == {
        **dict.fromkeys(("node1", "node2", "node3", "node4"), "holds_key"),
        "node5": "the node was not read",
    }
    assert outcomes(report, "IssuingCA")["node3"] == "another key has the label of the key"
    assert outcomes(report, "OCSP")["node3"] == "the key is missing"
    assert outcomes(report, "OCSP")["node4"] == "the key is unusable"
    assert [ca["would_fail_on"] for ca in report["cas"]] == [[], ["node3"], ["node3", "node4"]]
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
    nodes = {"node1": hsm_info_result("node1", *KEYS), "node2": hsm_info_result("node2", *KEYS, **state)}
    assert outcomes(key_report(nodes, "node1", TIME, cas=CAS), "RootCA") == {"node1": "holds_key", "node2": reason}


def test_report_ca_key_is_missing_on_the_source() -> None:
    """The report finds the key of a CA also on other nodes than the source."""
    nodes = {
        "node1": hsm_info_result("node1"),
        "node2": hsm_info_result("node2", SIGN_KEY),
        "node3": hsm_info_result("node3"),
    }
    for ca in ({"label": "signKey-2026"}, {"public_key_sha256": SIGN_KEY.fingerprint}):
        report = key_report(nodes, "node1", TIME, cas=[{"name": "CA", **ca}])
        assert report["cas"][0]["would_fail_on"] == ["node1", "node3"]


def test_report_ca_ambiguous_label_is_unknown() -> None:
    """The report does not guess if different keys have the label."""
    twice = (SIGN_KEY, dc.replace(SIGN_KEY, id="03", fingerprint=fingerprint("second")))
    nodes = {"node1": hsm_info_result("node1", *twice), "node2": hsm_info_result("node2", *twice)}
    report = key_report(nodes, "node1", TIME, cas=[{"name": "CA", "label": "signKey-2026"}])
    assert set(outcomes(report, "CA").values()) == {
        "2 different keys have this label. Set slot or public_key_sha256 of the CA"
    }
    assert report["cas"][0]["would_fail_on"] == []
    named = key_report(nodes, "node1", TIME, cas=[{"name": "CA", "public_key_sha256": twice[1].fingerprint}])
    assert outcomes(named, "CA") == {"node1": "holds_key", "node2": "holds_key"}


def test_report_ca_key_is_missing_on_every_node() -> None:
    """A CA would fail on each node if no node holds its key."""
    report = report_data(
        cas=[{"name": "CA", "label": "typo"}, {"name": "CA2", "public_key_sha256": fingerprint("nobody")}]
    )
    for ca in report["cas"]:
        assert ca["would_fail_on"] == ["node1", "node2", "node3", "node4"]


def test_report_ca_slot_distinguishes_keys() -> None:
    """The slot distinguishes two keys with the same label."""
    elsewhere = dc.replace(OCSP_KEY, slot=2, fingerprint=fingerprint("elsewhere"))
    nodes = {"node1": hsm_info_result("node1", OCSP_KEY, elsewhere), "node2": hsm_info_result("node2", OCSP_KEY)}
    cas = [{"name": f"CA{slot}", "label": OCSP_KEY.label, "slot": slot} for slot in (1, 2)]
    assert [ca["would_fail_on"] for ca in key_report(nodes, "node1", TIME, cas=cas)["cas"]] == [[], ["node2"]]
