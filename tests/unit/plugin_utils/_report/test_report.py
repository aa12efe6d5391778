# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key report: nodes, CAs, history, and a page that no label can change."""

from __future__ import annotations

import base64
import copy
import dataclasses as dc
import hashlib
import html.parser
import json
import re
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.filter.key_report import key_report
from ansible_collections.keyops.utrust.plugins.filter.key_report_page import key_report_page
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.history import read_history
from ansible_collections.keyops.utrust.plugins.plugin_utils._printable import escape_unprintable
from hypothesis import given, settings
from hypothesis import strategies as st

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
    labeled,
    render_page,
    report_data,
)

if t.TYPE_CHECKING:
    from pathlib import Path


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


# History


def audit_file(folder: Path, *records: dict[str, t.Any]) -> Path:
    path, head, lines = folder / "audit.jsonl", chain.Head(), []
    for record in records:
        line, head = chain.append_record(record, head)
        lines.append(line + b"\n")
    path.write_bytes(b"".join(lines))
    return path


STARTED: dict[str, t.Any] = {
    "event": "job_started",
    "job": "j1",
    "playbook": "key_sync.yml",
    "requester": {"name": "alice"},
}
IMPORTED: dict[str, t.Any] = {
    "event": "keys_imported",
    "job": "j1",
    "time": "2026-11-23T11:00:00.000+00:00",
    "host": "node2",
    "outcome": "changed",
    "result": {"added": [{"label": "a"}], "replaced": [], "verified": True},
}
FAILED: dict[str, t.Any] = {
    "event": "hsm_restored",
    "job": "j2",
    "time": "2026-11-23T11:30:00.000+00:00",
    "host": "node3",
    "outcome": "failed",
    "codes": ["card_locked"],
}
OTHERS: list[dict[str, t.Any]] = [
    {**IMPORTED, "outcome": "ok"},
    {**IMPORTED, "event": "check_mode_result"},
    {"event": "node_read", "job": "j1", "outcome": "ok"},
]


def test_read_history_latest_event_first(tmp_path: Path) -> None:
    """The history names node, operation and requester, latest event first."""
    history = read_history(str(audit_file(tmp_path, STARTED, *OTHERS, IMPORTED, FAILED)))
    assert (history["problem"], history["omitted"]) == (None, 0)
    assert [tuple(event.values())[1:] for event in history["events"]] == [
        ("node3", "guided restore", "failed", "card_locked", "", ""),
        ("node2", "key synchronization", "done", "1 added, 0 replaced, verified", "alice", "key_sync.yml"),
    ]


def test_read_history_counts_omitted_events(tmp_path: Path) -> None:
    """A long history is cut, and the omitted events are counted."""
    history = read_history(str(audit_file(tmp_path, *[IMPORTED] * 7)), length=5)
    assert (len(history["events"]), history["omitted"]) == (5, 2)


def test_report_with_missing_or_broken_audit_file(tmp_path: Path) -> None:
    """A missing or broken audit file does not prevent the report."""
    missing = report_data(audit_file=str(tmp_path / "none"))
    assert "cannot be read: No such file" in missing["history"]["problem"]
    assert "cannot be read: No such file" in render_page(missing)

    whole = audit_file(tmp_path, STARTED, IMPORTED)
    content = whole.read_bytes()
    whole.write_bytes(content + b'{"torn')
    assert (read_history(str(whole))["problem"], len(read_history(str(whole))["events"])) == (None, 1)

    whole.write_bytes(content.replace(b"alice", b"mallory"))
    changed = read_history(str(whole))
    assert "line 1 of the audit file is broken" in changed["problem"]
    assert [event["requester"] for event in changed["events"]] == [""]

    whole.write_bytes(b"\xff\xfe\nnonsense\n[]\n7\n")
    assert "line 1" in read_history(str(whole))["problem"]


def test_read_history_unexpected_records(tmp_path: Path) -> None:
    """Records with unexpected content are shown as far as possible."""
    unexpected = {
        "event": "keys_imported",
        "outcome": "changed",
        "job": 7,
        "result": "text",
        "codes": "text",
        "host": ["x"],
    }
    other_start = {**unexpected, "event": "job_started", "requester": "text", "playbook": None}
    (event,) = read_history(str(audit_file(tmp_path, other_start, unexpected)))["events"]
    assert (event["detail"], event["requester"]) == ("", "")


# The page


class Parsed(html.parser.HTMLParser):
    """The elements of a page with their attributes and texts. Fails if elements are not closed in order."""

    VOID = {"meta", "link", "input", "br", "img", "hr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"duplicate attribute in <{tag}>"
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.raw[self.open[-1]] = self.raw.get(self.open[-1], "") + data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def attributes(parsed: Parsed, name: str) -> list[str]:
    return [value or "" for dummy, given in parsed.elements for key, value in given.items() if key == name]


def shape(parsed: Parsed) -> list[tuple[str, tuple[str, ...]]]:
    return [(tag, tuple(given)) for tag, given in parsed.elements]


def harmless(count: int) -> list[str]:
    return [f"label{number}" for number in range(count)]


def test_page_shows_hostile_labels_as_text() -> None:
    """Labels of an attacker are text and do not change the page."""
    hostile, tame = Parsed(render_page(report_data(HOSTILE))), Parsed(render_page(report_data(harmless(len(HOSTILE)))))
    # Rows are sorted by label, and all rows have the same elements.
    assert sorted(shape(hostile)) == sorted(shape(tame))
    assert hostile.raw == tame.raw
    assert "<script>alert(1)</script>" in hostile.text
    assert "{{ 7 * 7 }}{% raw %}" in hostile.text
    assert r"\u202egnihton\x1b[2J\n" in hostile.text
    assert r"&lt;b&gt;\ud800" in hostile.text


#: Texts that begin or end something in HTML, in an attribute or in a template.
MARKUP = (
    "<b>",
    "</td>",
    "<!--",
    "-->",
    "<x y='",
    '">',
    "' z=1 ",
    "</script>",
    "<",
    ">",
    "&lt;",
    "{{",
    "%}",
    "\u202e",
    "a ",
)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.sampled_from(MARKUP), max_size=4).map("".join), min_size=1, max_size=3, unique=True),
    st.sampled_from(MARKUP[:8]),
)
def test_page_shows_any_label_as_text(labels: list[str], always: str) -> None:
    """Each label is text and does not change the page."""
    labels = [label + always for label in labels]
    one = {"node1": hsm_info_result("node1"), "node2": hsm_info_result("node2", *labeled(labels))}
    two = {"node1": hsm_info_result("node1"), "node2": hsm_info_result("node2", *labeled(harmless(len(labels))))}
    hostile = Parsed(render_page(key_report(one, "node1", TIME)))
    assert shape(hostile) == shape(Parsed(render_page(key_report(two, "node1", TIME))))
    assert all(" ".join(escape_unprintable(label).split()) in hostile.text for label in labels)


def test_page_escapes_every_text(tmp_path: Path) -> None:
    """Each text of the report contains markup, and the page shows the markup as text."""

    def poisoned(value: t.Any, where: str = "") -> t.Any:
        if isinstance(value, dict):
            return {name: poisoned(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [poisoned(item, where) for item in value]
        unchanged = (
            "verdict",
            "outcome",
            "source",
            "host",
            "node",
            "in_sync_nodes",
            "nodes",
            "fingerprint",
            "hsm_state",
            "driver",
            "connection",
            "differs",
        )
        return f"{value}<evil>\"'&" if isinstance(value, str) and where not in (*unchanged, *all_results()) else value

    report = report_data(audit_file=str(audit_file(tmp_path, STARTED, IMPORTED, FAILED)))
    parsed = Parsed(render_page(poisoned(copy.deepcopy(report))))
    assert "evil" not in {tag for tag, dummy in parsed.elements}
    assert set(shape(parsed)) == set(shape(Parsed(render_page(report))))
    assert parsed.text.count("<evil>") > 50


def test_page_policy_allows_its_own_style_and_script() -> None:
    """The policy of the page allows its own style and script only."""
    parsed = Parsed(render_page(report_data(HOSTILE)))
    (policy,) = (given["content"] for dummy, given in parsed.elements if given.get("http-equiv"))
    allowed = {
        element: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for element, text in parsed.raw.items()
    }
    assert (policy or "").split("; ") == [
        "default-src 'none'",
        f"style-src {allowed['style']}",
        f"script-src {allowed['script']}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_page_uses_no_other_resource() -> None:
    """The page loads no other resource."""
    parsed = Parsed(render_page(report_data()))
    assert attributes(parsed, "src") == []
    assert attributes(parsed, "href") == ["data:,"]
    assert attributes(parsed, "style") == []
    assert not [name for dummy, given in parsed.elements for name in given if name.startswith("on")]
    assert not re.search(r"@import|url\(|https?://(?!www\.gnu\.org/licenses)", "".join(parsed.raw.values()))


def test_page_cells_have_signs_and_words() -> None:
    """The meaning of a cell does not depend on its color."""
    text = render_page(report_data())
    cells = re.findall(r'<td class="(\w+)"><span class="sign" aria-hidden="true">(.)</span> ([\w ]+)', text)
    assert {"present", "missing", "mismatched", "unusable", "absent", "unknown"} <= {word for word, *dummy in cells}
    assert len({sign for word, sign, dummy in cells}) >= 6
    assert all(words.strip() for *dummy, words in cells)


def test_page_ids_are_unique_and_referenced() -> None:
    """Each id is unique, and each reference has a target."""
    parsed = Parsed(render_page(report_data()))
    ids = attributes(parsed, "id")
    assert len(ids) == len(set(ids))
    referred = {
        target for name in ("for", "aria-labelledby") for value in attributes(parsed, name) for target in value.split()
    }
    assert referred <= set(ids)


def test_page_limits_the_list_of_missing_keys() -> None:
    """The list of missing keys is limited."""
    many = [HsmKey(0, f"key{number:04}", "01", "ec", 256, "P-256", fingerprint(str(number))) for number in range(300)]
    nodes = {"node1": hsm_info_result("node1", *many), "node2": hsm_info_result("node2")}
    assert "and 280 more, listed in the table below" in Parsed(render_page(key_report(nodes, "node1", TIME))).text


def test_page_nodes_in_sync_share_a_column() -> None:
    """Many nodes in sync share one column."""
    nodes = {f"node{number}": hsm_info_result(f"node{number}", *KEYS) for number in range(1, 30)}
    nodes["late"] = hsm_info_result("late")
    parsed = Parsed(render_page(key_report(nodes, "node1", TIME)))
    assert "node1 (source) and 28 in sync" in parsed.text


def test_page_invalid_template() -> None:
    """An invalid template raises an error."""
    for template in ("{% for %}", "{{ report.nothing_like_that }}"):
        with pytest.raises(AnsibleFilterError, match="the template is invalid"):
            key_report_page(report_data(), template=template, style="", script="")
