# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report: what it says of nodes, CAs and what happened before, and that nothing in it can break out of its page."""

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
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.history import history_of
from ansible_collections.keyops.utrust.plugins.plugin_utils._printable import escape_unprintable
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.factories import fingerprint
from tests.support.report import CAS, HOSTILE, KEYS, OCSP_KEY, SIGN_KEY, TIME, data, everything, labeled, page, told

if t.TYPE_CHECKING:
    from pathlib import Path


def outcomes(report: dict[str, t.Any], name: str) -> dict[str, str]:
    (ca,) = (one for one in report["cas"] if one["name"] == name)
    return {node: one["reason"] or one["outcome"] for node, one in ca["nodes"].items()}


# Nodes and verdict


def test_every_node_is_told_with_what_differs_from_the_source() -> None:
    nodes = {node["host"]: node for node in data()["nodes"]}
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
    ("nodes", "unread", "verdict"),
    [
        (["node1", "node2"], [], "in_sync"),
        (["node1", "node2"], ["node9"], "incomplete"),
        (["node1", "node2", "node5"], [], "incomplete"),
        (["node1", "node3", "node5"], ["node9"], "drift"),
    ],
)
def test_the_verdict_is_in_sync_only_where_every_member_was_compared(
    nodes: list[str], unread: list[str], verdict: str
) -> None:
    report = key_report({name: everything()[name] for name in nodes}, "node1", TIME, unreachable_nodes=unread)
    assert report["verdict"] == verdict
    assert [node["host"] for node in report["nodes"]] == nodes + unread
    page(report)


def test_the_same_cluster_makes_the_same_report_but_for_the_time() -> None:
    first, second = data(), key_report(everything(), "node1", "2027-01-01T00:00:00Z", cas=CAS)
    assert {**first, "time": ""} == {**second, "time": ""}
    assert page(first).replace("2026-11-23", "2027-01-01").replace("12:00:00", "00:00:00") == page(second)


def test_a_report_is_plain_data() -> None:
    assert json.loads(json.dumps(data(HOSTILE))) == data(HOSTILE)


@pytest.mark.parametrize("nodes", [{}, {"node2": told("node2")}, {"node1": {"failed": True}}], ids=str)
def test_without_the_sources_keys_there_is_no_report(nodes: dict[str, t.Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="node1"):
        key_report(nodes, "node1", TIME)


# CAs


def test_a_ca_would_fail_where_its_key_is_missing_replaced_unusable_or_its_hsm_is_not_operational() -> None:
    report = data()
    assert outcomes(report, "RootCA") == {
        **dict.fromkeys(("node1", "node2", "node3", "node4"), "holds_key"),
        "node5": "the node was not read",
    }
    assert outcomes(report, "IssuingCA")["node3"] == "another key has the label of its key"
    assert outcomes(report, "OCSP")["node3"] == "its key is missing"
    assert outcomes(report, "OCSP")["node4"] == "its key is there and cannot be used"
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
def test_a_ca_would_fail_on_a_node_whose_hsm_does_not_work(state: dict[str, str], reason: str) -> None:
    nodes = {"node1": told("node1", *KEYS), "node2": told("node2", *KEYS, **state)}
    assert outcomes(key_report(nodes, "node1", TIME, cas=CAS), "RootCA") == {"node1": "holds_key", "node2": reason}


def test_a_key_that_the_source_lacks_is_found_where_it_is() -> None:
    nodes = {"node1": told("node1"), "node2": told("node2", SIGN_KEY), "node3": told("node3")}
    for ca in ({"label": "signKey-2026"}, {"public_key_sha256": SIGN_KEY.fingerprint}):
        report = key_report(nodes, "node1", TIME, cas=[{"name": "CA", **ca}])
        assert report["cas"][0]["would_fail_on"] == ["node1", "node3"]


def test_where_one_label_stands_for_different_keys_nothing_is_guessed() -> None:
    twice = (SIGN_KEY, dc.replace(SIGN_KEY, id="03", fingerprint=fingerprint("second")))
    nodes = {"node1": told("node1", *twice), "node2": told("node2", *twice)}
    report = key_report(nodes, "node1", TIME, cas=[{"name": "CA", "label": "signKey-2026"}])
    assert set(outcomes(report, "CA").values()) == {
        "2 different keys have this label; name the slot, or the public_key_sha256 of the CA's key"
    }
    assert report["cas"][0]["would_fail_on"] == []
    named = key_report(nodes, "node1", TIME, cas=[{"name": "CA", "public_key_sha256": twice[1].fingerprint}])
    assert outcomes(named, "CA") == {"node1": "holds_key", "node2": "holds_key"}


def test_a_key_that_no_node_holds_fails_everywhere() -> None:
    report = data(cas=[{"name": "CA", "label": "typo"}, {"name": "CA2", "public_key_sha256": fingerprint("nobody")}])
    for ca in report["cas"]:
        assert ca["would_fail_on"] == ["node1", "node2", "node3", "node4"]


def test_the_slot_tells_two_keys_of_one_label_apart() -> None:
    elsewhere = dc.replace(OCSP_KEY, slot=2, fingerprint=fingerprint("elsewhere"))
    nodes = {"node1": told("node1", OCSP_KEY, elsewhere), "node2": told("node2", OCSP_KEY)}
    cas = [{"name": f"CA{slot}", "label": OCSP_KEY.label, "slot": slot} for slot in (1, 2)]
    assert [one["would_fail_on"] for one in key_report(nodes, "node1", TIME, cas=cas)["cas"]] == [[], ["node2"]]


# What happened before


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
    {**IMPORTED, "event": "predicted"},
    {"event": "node_read", "job": "j1", "outcome": "ok"},
]


def test_history_tells_what_came_to_which_node_by_whom_latest_first(tmp_path: Path) -> None:
    history = history_of(str(audit_file(tmp_path, STARTED, *OTHERS, IMPORTED, FAILED)))
    assert (history["problem"], history["ignored_members"]) == (None, 0)
    assert [tuple(event.values())[1:] for event in history["events"]] == [
        ("node3", "guided restore", "failed", "card_locked", "", ""),
        ("node2", "synchronized", "done", "1 added, 0 replaced, verified", "alice", "key_sync.yml"),
    ]


def test_a_long_history_is_cut_and_says_so(tmp_path: Path) -> None:
    history = history_of(str(audit_file(tmp_path, *[IMPORTED] * 7)), length=5)
    assert (len(history["events"]), history["ignored_members"]) == (5, 2)


def test_an_audit_file_that_is_missing_torn_or_altered_spoils_no_report(tmp_path: Path) -> None:
    missing = data(audit_file=str(tmp_path / "none"))
    assert "cannot be read: No such file" in missing["history"]["problem"]
    assert "cannot be read: No such file" in page(missing)

    whole = audit_file(tmp_path, STARTED, IMPORTED)
    content = whole.read_bytes()
    whole.write_bytes(content + b'{"torn')
    assert (history_of(str(whole))["problem"], len(history_of(str(whole))["events"])) == (None, 1)

    whole.write_bytes(content.replace(b"alice", b"mallory"))
    altered = history_of(str(whole))
    assert "line 1 of the audit file is not as it was written" in altered["problem"]
    assert [event["requester"] for event in altered["events"]] == [""]

    whole.write_bytes(b"\xff\xfe\nnonsense\n[]\n7\n")
    assert "line 1" in history_of(str(whole))["problem"]


def test_records_of_another_shape_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    odd = {"event": "keys_imported", "outcome": "changed", "job": 7, "result": "text", "codes": "text", "host": ["x"]}
    strange = {**odd, "event": "job_started", "requester": "text", "playbook": None}
    (event,) = history_of(str(audit_file(tmp_path, strange, odd)))["events"]
    assert (event["detail"], event["requester"]) == ("", "")


# The page


class Parsed(html.parser.HTMLParser):
    """Elements with their attributes, texts, and elements that were not closed in order."""

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
        assert len(attrs) == len(dict(attrs)), f"an attribute twice in <{tag}>"
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


def test_labels_of_an_attacker_are_text_and_change_nothing_in_the_page() -> None:
    hostile, tame = Parsed(page(data(HOSTILE))), Parsed(page(data(harmless(len(HOSTILE)))))
    # Rows are sorted by label, and all of these rows have the same elements.
    assert sorted(shape(hostile)) == sorted(shape(tame))
    assert hostile.raw == tame.raw
    assert "<script>alert(1)</script>" in hostile.text
    assert "{{ 7 * 7 }}{% raw %}" in hostile.text
    assert r"\u202egnihton\x1b[2J\n" in hostile.text
    assert r"&lt;b&gt;\ud800" in hostile.text


#: What begins or ends something in HTML, in an attribute or in a template; letters alone hardly ever make such a thing.
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
def test_any_label_is_text(labels: list[str], always: str) -> None:
    labels = [label + always for label in labels]
    one = {"node1": told("node1"), "node2": told("node2", *labeled(labels))}
    two = {"node1": told("node1"), "node2": told("node2", *labeled(harmless(len(labels))))}
    hostile = Parsed(page(key_report(one, "node1", TIME)))
    assert shape(hostile) == shape(Parsed(page(key_report(two, "node1", TIME))))
    assert all(" ".join(escape_unprintable(label).split()) in hostile.text for label in labels)


def test_whatever_a_node_or_an_operator_can_name_is_escaped(tmp_path: Path) -> None:
    """Every text of the report at once becomes markup, and none of it gets into the page as markup."""

    def poisoned(value: t.Any, where: str = "") -> t.Any:
        if isinstance(value, dict):
            return {name: poisoned(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [poisoned(one, where) for one in value]
        kept = (
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
        return f"{value}<evil>\"'&" if isinstance(value, str) and where not in (*kept, *everything()) else value

    report = data(audit_file=str(audit_file(tmp_path, STARTED, IMPORTED, FAILED)))
    parsed = Parsed(page(poisoned(copy.deepcopy(report))))
    assert "evil" not in {tag for tag, dummy in parsed.elements}
    assert set(shape(parsed)) == set(shape(Parsed(page(report))))
    assert parsed.text.count("<evil>") > 50


def test_the_page_allows_its_own_style_and_script_and_nothing_else() -> None:
    parsed = Parsed(page(data(HOSTILE)))
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


def test_the_page_names_no_other_resource() -> None:
    parsed = Parsed(page(data()))
    assert attributes(parsed, "src") == []
    assert attributes(parsed, "href") == ["data:,"]
    assert attributes(parsed, "style") == []
    assert not [name for dummy, given in parsed.elements for name in given if name.startswith("on")]
    assert not re.search(r"@import|url\(|https?://(?!www\.gnu\.org/licenses)", "".join(parsed.raw.values()))


def test_no_cell_tells_its_meaning_by_colour_alone() -> None:
    text = page(data())
    cells = re.findall(r'<td class="(\w+)"><span class="sign" aria-hidden="true">(.)</span> ([\w ]+)', text)
    assert {"present", "missing", "mismatched", "unusable", "absent", "unknown"} <= {word for word, *dummy in cells}
    assert len({sign for word, sign, dummy in cells}) >= 6
    assert all(words.strip() for *dummy, words in cells)


def test_ids_are_unique_and_every_reference_finds_one() -> None:
    parsed = Parsed(page(data()))
    ids = attributes(parsed, "id")
    assert len(ids) == len(set(ids))
    referred = {
        one for name in ("for", "aria-labelledby") for value in attributes(parsed, name) for one in value.split()
    }
    assert referred <= set(ids)


def test_a_node_without_keys_does_not_fill_the_page_with_them() -> None:
    many = [HsmKey(0, f"key{number:04}", "01", "ec", 256, "P-256", fingerprint(str(number))) for number in range(300)]
    nodes = {"node1": told("node1", *many), "node2": told("node2")}
    assert "and 280 more, which the table below names" in Parsed(page(key_report(nodes, "node1", TIME))).text


def test_many_nodes_that_hold_the_same_share_a_column() -> None:
    nodes = {f"node{number}": told(f"node{number}", *KEYS) for number in range(1, 30)}
    nodes["late"] = told("late")
    parsed = Parsed(page(key_report(nodes, "node1", TIME)))
    assert "node1 (source) and 28 that hold the same" in parsed.text


def test_a_template_that_is_wrong_is_an_error_that_says_so() -> None:
    for template in ("{% for %}", "{{ report.nothing_like_that }}"):
        with pytest.raises(AnsibleFilterError, match="the template cannot be used"):
            key_report_page(data(), template=template, style="", script="")
