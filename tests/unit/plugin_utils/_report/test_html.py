# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page of the key report. No label can change the page."""

from __future__ import annotations

import base64
import copy
import hashlib
import html.parser
import re
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.filter.key_report import key_report
from ansible_collections.keyops.utrust.plugins.filter.key_report_page import key_report_page
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.plugin_utils._printable import escape_unprintable
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.audit import FAILED, IMPORTED, STARTED, audit_file
from tests.support.factories import fingerprint
from tests.support.report import HOSTILE, KEYS, TIME, all_results, hsm_info_result, labeled, render_page, report_data

if t.TYPE_CHECKING:
    from pathlib import Path


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
