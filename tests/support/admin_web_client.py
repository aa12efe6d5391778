# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A browser for the simulated Admin Web of EJBCA: one connection, one cookie, and pages as trees of elements."""

from __future__ import annotations

import http.client
import ssl
import typing as t
from html.parser import HTMLParser
from urllib.parse import quote, urlencode, urlsplit
from xml.etree.ElementTree import Element, SubElement

if t.TYPE_CHECKING:
    from utrust_appliance.control import Control

ROOT = "/ejbca/adminweb/"
LIST, TOKEN_PAGE = "cryptotoken/cryptotokens.xhtml", "cryptotoken/cryptotoken.xhtml"
VOID = frozenset({"input", "img", "br", "hr", "meta", "link"})


class _Tree(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("page")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = SubElement(self._open[-1], tag, {name: value or "" for name, value in attrs})
        if tag not in VOID:
            self._open.append(made)

    def handle_endtag(self, tag: str) -> None:
        while tag not in VOID and len(self._open) > 1:
            if self._open.pop().tag == tag:
                break

    def handle_data(self, data: str) -> None:
        last = self._open[-1]
        if len(last):
            last[-1].tail = (last[-1].tail or "") + data
        else:
            last.text = (last.text or "") + data


def text_of(element: Element) -> str:
    return "".join(element.itertext())


class Page:
    """A response of the Admin Web."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes, path: str) -> None:
        self.status, self.headers, self.body, self.path = status, headers, body, path
        self.text = body.decode("utf-8", "replace")
        tree = _Tree()
        tree.feed(self.text)
        self.root = tree.root

    def by_id(self, name: str) -> Element | None:
        return next((one for one in self.root.iter() if one.get("id") == name), None)

    @property
    def title(self) -> str:
        found = self.root.find(".//h1")
        return text_of(found).strip() if found is not None else ""

    @property
    def cause(self) -> str:
        found = self.root.find(".//h2")
        return text_of(found).strip() if found is not None else ""

    @property
    def messages(self) -> list[tuple[str, str]]:
        block = self.by_id("messages")
        return [(one.get("class", ""), text_of(one).strip()) for one in (block.iter("li") if block is not None else ())]

    def cells(self, form: str) -> list[list[Element]]:
        """The cells of the grid table of a form, without its head."""
        place = self.by_id(form)
        grid = (
            next((one for one in place.iter("table") if one.get("class") == "grid"), None)
            if place is not None
            else None
        )
        return [list(row.findall("td")) for row in grid.iterfind("tbody/tr")] if grid is not None else []

    def heads(self, form: str) -> list[str]:
        place = self.by_id(form)
        return [text_of(one) for one in place.iter("th")] if place is not None else []

    @property
    def key_ids(self) -> dict[str, str]:
        """Alias -> text of the cell with the SubjectKeyID."""
        return {text_of(row[1]): text_of(row[4]) for row in self.cells("currentCryptoTokenAliasesForm")}

    def key_row(self, alias: str) -> list[Element]:
        return next(row for row in self.cells("currentCryptoTokenAliasesForm") if text_of(row[1]) == alias)

    def checked(self, name: str) -> bool:
        box = self.by_id(f"currentCryptoTokenForm:{name}")
        assert box is not None
        return box.get("checked") == "checked"

    def buttons(self, place: Element | None = None) -> list[str]:
        return [
            one.get("value", "")
            for one in (self.root if place is None else place).iter("input")
            if one.get("type") == "submit" and not one.get("disabled")
        ]

    def fields(self, form: str) -> dict[str, str]:
        """The hidden fields of a form."""
        place = self.by_id(form)
        assert place is not None
        return {one.get("name", ""): one.get("value", "") for one in place.iter("input") if one.get("type") == "hidden"}


class Browser:
    """`Browser(control, "node1")(LIST)` returns a page. The client is a name in `D/clients`, or None for no certificate."""

    def __init__(
        self,
        control: Control,
        node: str,
        client: str | None = "ejbca-reader",
        *,
        late: bool = True,
        timeout: float = 30.0,
    ) -> None:
        self._place = urlsplit(control.ejbca(node, "status")["url"])
        self.tls = ssl.create_default_context(cafile=str(control.ca_file))
        self.tls.post_handshake_auth = late
        if client:
            self.tls.load_cert_chain(*control.client(client))
        self._timeout = timeout
        self.cookie: str | None = None
        self._connection = self._new()

    def __del__(self) -> None:
        self._connection.close()

    def _new(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            str(self._place.hostname), self._place.port, timeout=self._timeout, context=self.tls
        )

    def connect(self) -> None:
        """Continue the session on a new connection."""
        self._connection.close()
        self._connection = self._new()

    def __call__(self, path: str, *, method: str = "GET", body: str | None = None, root: str = ROOT) -> Page:
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, root + path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if sent := response.headers["Set-Cookie"]:
            self.cookie = sent.partition(";")[0]
        return Page(response.status, response.headers, content, path)

    def token(self, number: int) -> Page:
        return self(f"{TOKEN_PAGE}?cryptoTokenId={number}&ref=default")

    def download(self, number: int, alias: str) -> Page:
        return self(f"cryptotoken/cryptoTokenDownloads?cryptoTokenId={number}&alias={quote(alias, safe='')}")

    def press(self, page: Page, form: str, button: Element, **fields: str) -> Page:
        """Send a form as a browser does after a click on the button."""
        sent = {**page.fields(form), button.get("name", ""): button.get("value", ""), **fields}
        return self(page.path.partition("?")[0], method="POST", body=urlencode(sent))

    def health(self, query: str = "") -> Page:
        return self(f"healthcheck/ejbcahealth{query}", root="/ejbca/publicweb/")
