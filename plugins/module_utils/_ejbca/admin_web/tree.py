# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The elements of an HTML page as a tree. Private to keyops.utrust.

Only the standard parser is used. The tree keeps every text as it is on the page, because a blank can belong to the alias of a key.
"""

from __future__ import annotations

import html.parser
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_PAGE_DEPTH

#: Elements without content. They have no end tag.
_EMPTY: t.Final = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)


class PageError(Exception):
    """The page is not what its reader expects. The text is the reason."""


class Element:
    """An element of a page. `children` has elements and texts in their order."""

    def __init__(self, tag: str, attributes: t.Mapping[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Element | str] = []

    @property
    def elements(self) -> list[Element]:
        """The child elements."""
        return [child for child in self.children if isinstance(child, Element)]

    @property
    def text(self) -> str:
        """The exact text of the element and of all elements below it."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def walk(self) -> t.Iterator[Element]:
        """Yield all elements below this element in the order of the page."""
        stack = self.elements[::-1]
        while stack:
            element = stack.pop()
            yield element
            stack += element.elements[::-1]

    def find_all(self, *tags: str, css: str | None = None) -> list[Element]:
        """Return the elements below this element that have one of the tags, and the class `css` if it is set."""
        return [e for e in self.walk() if e.tag in tags and (css is None or css in e.classes)]

    def by_id(self, name: str, *tags: str) -> Element | None:
        """Return the element with an id and one of the tags. Raises PageError if there are several."""
        found = [e for e in self.walk() if e.attributes.get("id") == name and (not tags or e.tag in tags)]
        if len(found) > 1:
            raise PageError(f"{len(found)} elements have the id {name}")
        return found[0] if found else None


class _Builder(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.complete = False
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A second attribute with the same name is ignored, as in a browser.
        element = Element(tag, {name: value or "" for name, value in reversed(attrs)})
        self._open[-1].children.append(element)
        if tag not in _EMPTY:
            if len(self._open) >= MAX_PAGE_DEPTH:
                raise PageError(f"more than {MAX_PAGE_DEPTH} elements are nested")
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        self.complete = self.complete or tag == "html"
        for place in range(len(self._open) - 1, 0, -1):
            if self._open[place].tag == tag:
                del self._open[place:]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse_page(text: str) -> Element:
    """Return the root of a page. Raises PageError if the page is cut off or nested too deeply."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    if not builder.complete:
        raise PageError("the page is cut off: its end is missing")
    return builder.root


def page_texts(text: str) -> list[str]:
    """Return the texts between the tags of any HTML, for example of an error page. The page may be cut off. Raises PageError."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    return [child for e in (builder.root, *builder.root.walk()) for child in e.children if isinstance(child, str)]
