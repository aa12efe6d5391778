# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page of the key report. No label can change the page."""

from __future__ import annotations

import base64
import copy
import dataclasses as dc
import hashlib
import html.parser
import re
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.history import read_history
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.html import CELLS, render
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.audit import FAILED, IMPORTED, STARTED, audit_file
from tests.support.factories import fingerprint
from tests.support.readings import cluster_reading
from tests.support.report import HOSTILE, KEYS, NODES, labeled, report_data, report_of
from tests.support.views import cluster_view, reading, view_key, view_token

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
    hostile, tame = Parsed(render(report_data(HOSTILE))), Parsed(render(report_data(harmless(len(HOSTILE)))))
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
    one = cluster_reading({"node1": [], "node2": labeled(labels)})
    two = cluster_reading({"node1": [], "node2": labeled(harmless(len(labels)))})
    hostile = Parsed(render(report_of(one)))
    assert shape(hostile) == shape(Parsed(render(report_of(two))))
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
            "state",
            "hsm_state",
            "driver",
            "connection",
            "differs",
        )
        return f"{value}<evil>\"'&" if isinstance(value, str) and where not in (*unchanged, *NODES) else value

    report = report_data(history=read_history(str(audit_file(tmp_path, STARTED, IMPORTED, FAILED))))
    parsed = Parsed(render(poisoned(copy.deepcopy(report))))
    assert "evil" not in {tag for tag, dummy in parsed.elements}
    assert set(shape(parsed)) == set(shape(Parsed(render(report))))
    assert parsed.text.count("<evil>") > 50


def test_page_policy_allows_its_own_style_and_script() -> None:
    """The policy of the page allows its own style and script only."""
    parsed = Parsed(render(report_data(HOSTILE)))
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
    parsed = Parsed(render(report_data()))
    assert attributes(parsed, "src") == []
    assert attributes(parsed, "href") == ["data:,"]
    assert attributes(parsed, "style") == []
    assert not [name for dummy, given in parsed.elements for name in given if name.startswith("on")]
    assert not re.search(r"@import|url\(|https?://(?!www\.gnu\.org/licenses)", "".join(parsed.raw.values()))


def test_page_cells_have_signs_and_words() -> None:
    """The meaning of a cell does not depend on its color."""
    text = render(report_data())
    cells = re.findall(r'<td class="(\w+)"><span class="sign" aria-hidden="true">(.)</span> ([\w ]+)', text)
    assert {word for word, *dummy in cells} == set(CELLS) - {"extra"}
    assert len({sign for sign, dummy in CELLS.values()}) == len(CELLS)
    assert all(words.strip() for *dummy, words in cells)


def test_page_ids_are_unique_and_referenced() -> None:
    """Each id is unique, and each reference has a target."""
    parsed = Parsed(render(report_data()))
    ids = attributes(parsed, "id")
    assert len(ids) == len(set(ids))
    referred = {
        target for name in ("for", "aria-labelledby") for value in attributes(parsed, name) for target in value.split()
    }
    assert referred <= set(ids)


def test_page_limits_the_list_of_missing_keys() -> None:
    """The list of missing keys is limited."""
    many = [HsmKey(0, f"key{number:04}", "01", "ec", 256, "P-256", fingerprint(str(number))) for number in range(300)]
    page = render(report_of(cluster_reading({"node1": many, "node2": []})))
    assert "and 280 more, listed in the table below" in Parsed(page).text


def test_page_nodes_in_sync_share_a_column() -> None:
    """Many nodes in sync share one column."""
    nodes = {f"node{number}": KEYS for number in range(1, 30)}
    parsed = Parsed(render(report_of(cluster_reading({**nodes, "late": []}))))
    assert "node1 (source) and 28 in sync" in parsed.text


def test_page_shows_where_moved_and_duplicate_keys_are() -> None:
    text = Parsed(render(report_data())).text
    assert "1 moved (the same key has another slot, label or id) rootKey-2024 slot 0" in text
    assert "on the source, rootKey-2024 slot 3, id 01 on this node" in text
    assert "1 duplicate (the node holds a key of the source once more) copy slot 0" in text


def test_page_shows_aliases_of_views_as_text() -> None:
    """No alias, name or text of EJBCA changes the elements of the page. The heading has the scope."""
    plain = view_page(["plain"] * len(HOSTILE))
    hostile = view_page(HOSTILE)
    assert [tag for tag, dummy in hostile.elements] == [tag for tag, dummy in plain.elements]
    assert "EJBCA view: keys as EJBCA of each node shows them, scope: ejbca" in hostile.text
    assert "not shown" in hostile.text
    assert "<script>alert(1)</script>" in hostile.text


def test_page_without_views_does_not_mention_them() -> None:
    assert "scope: ejbca" not in Parsed(render(report_data())).text


def view_page(texts: t.Sequence[str]) -> Parsed:
    """Return the page of two nodes whose EJBCA shows these texts everywhere. The second node does not show the keys."""
    printable = [escape_unprintable(text) for text in texts]
    names = [f"{number}{text}" for number, text in enumerate(printable)]
    keys = [view_key(name, algorithm=text, specification=text) for name, text in zip(names, printable, strict=True)]
    problem = ViewProblem("key_listing_failed", printable[0])
    tokens = [
        view_token(*keys, name=printable[0], type=printable[0], reference=printable[0]),
        view_token(number=8, name=printable[1], keys=None, problem=problem),
    ]
    view = cluster_view(
        node1=reading("node1", *tokens, host_name=printable[0]),
        node2=reading("node2", view_token(name=printable[0]), tokens[1], host_name=printable[1] + "2"),
    )
    source = cluster_reading({"node1": KEYS, "node2": KEYS})
    return Parsed(render(report_of(dc.replace(source, view=view))))
