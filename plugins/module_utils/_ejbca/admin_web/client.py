# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GET requests to EJBCA's Admin Web of one node. Private to keyops.utrust.

One connection and one session serve a task, because each session is a login in the audit log of EJBCA.
A request that EJBCA may have received is not sent again, because every view of an inactive crypto token tries its PIN.
Nothing but GET is sent, and every URL is built here: the links of the pages are wrong for some aliases.
"""

from __future__ import annotations

import re
import time
import typing as t
import urllib.parse

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web import pages
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.public_key import (
    PublicKey,
    PublicKeyError,
    read_public_key,
)
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.tree import (
    Element,
    PageError,
    parse_page,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import Api, JsonClient, ProblemDetails

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint, HttpResponse, Peer

BASE: t.Final = "/ejbca/adminweb/"
LIST: t.Final = BASE + "cryptotoken/cryptotokens.xhtml"
TOKEN: t.Final = BASE + "cryptotoken/cryptotoken.xhtml"
DOWNLOAD: t.Final = BASE + "cryptotoken/cryptoTokenDownloads"
_COOKIE: t.Final = "JSESSIONID"
_HEADERS: t.Final = {"Accept": "text/html, application/xhtml+xml"}

Page = t.TypeVar("Page")


def _read_problem(response: HttpResponse) -> ProblemDetails:
    return ProblemDetails("ejbca_page_refused", f"HTTP {response.status}", {})


ADMIN_WEB: t.Final = Api(
    name="EJBCA's Admin Web",
    read_problem=_read_problem,
    repeatable=frozenset(),
    not_started=frozenset(),
    lost=frozenset(),
    retry_unsent=True,
    unreachable_code="ejbca_unreachable",
    unreachable_remedy="Check address and port of EJBCA",
    login_remedy="Check the client certificate of the reader and its role in EJBCA",
)


class AdminWeb:
    """Admin Web of one node. Methods raise UtrustError: `ejbca_unreachable`, `ejbca_page_refused`, `ejbca_page_unrecognized` and others."""

    def __init__(self, endpoint: Endpoint, *, retries: int = 3, sleep: t.Callable[[float], None] = time.sleep) -> None:
        self._client = JsonClient(endpoint, ADMIN_WEB, retries=retries, sleep=sleep)
        self._cookie: str | None = None
        self._renewed = False
        self._host_name: str | None = None
        self._first: Peer | None = None
        self._checked: Peer | None = None
        #: Whether this client has requested the list of crypto tokens, which can try the PIN of a crypto token.
        self.listed = False

    def close(self) -> None:
        self._client.close()

    @property
    def client(self) -> JsonClient:
        """The client with the connection of the task, for the health check of the same node."""
        return self._client

    @property
    def peer(self) -> Peer | None:
        """The server that responded."""
        return self._client.peer

    def home(self) -> pages.HomePage:
        page = self._page(BASE, pages.read_home)
        self._checked, self._host_name = self.peer, page.host_name
        return page

    def check_node(self, host_name: str | None) -> None:
        """Check that all connections since page 0 reached the same node, whose page 0 has this host name.

        A virtual address can lead a second connection to another node. Raises ApiError (`ejbca_identity_unknown`).
        """
        self._check_peer()
        if self.peer is not self._checked and self.home().host_name != host_name:
            raise _another_node("page 0 has another host name")

    def _check_peer(self) -> None:
        peer = self.peer
        self._first = self._first or peer
        if peer is not None and self._first is not None and peer[:2] != self._first[:2]:
            raise _another_node("the address or the TLS certificate is another")

    def list_tokens(self) -> tuple[pages.ListedToken, ...]:
        self.listed = True
        return self._page(LIST, pages.read_list)

    def token(self, token_id: int) -> pages.TokenPage:
        return self._page(
            f"{TOKEN}?cryptoTokenId={token_id}&ref=default", lambda page: pages.read_token(page, token_id)
        )

    def public_key(self, token_id: int, alias: str) -> PublicKey:
        """Return the facts of the public key of an exact alias."""
        path = f"{DOWNLOAD}?cryptoTokenId={token_id}&alias={urllib.parse.quote(alias, safe='')}"
        try:
            return self._read(path, limits.MAX_PUBLIC_KEY_BYTES, lambda response: read_public_key(response.body))
        except PublicKeyError as exc:
            raise ApiError(
                f"downloading a public key from EJBCA: the response is not a public key: {exc}. Check the version of EJBCA",
                code="public_key_invalid",
            ) from exc

    def _page(self, path: str, read: t.Callable[[Element], Page]) -> Page:
        try:
            return self._read(path, limits.MAX_PAGE_BYTES, lambda response: read(_parse(response)))
        except PageError as exc:
            raise ApiError(
                f"reading {path.partition('?')[0]} of EJBCA: the page was not recognized: {exc}. Nothing was concluded from the page. "
                "Check the client certificate of the reader, its role, and the version of EJBCA",
                code="ejbca_page_unrecognized",
            ) from exc

    def _read(self, path: str, limit: int, read: t.Callable[[HttpResponse], Page]) -> Page:
        """Return what `read` makes of a response. A session that expired is replaced once a task.

        Any other response that is not the expected page is final. EJBCA can have tried the PIN of a crypto token before it failed.
        """
        known = self._cookie
        response = self._get(path, limit)
        if known is not None and not self._renewed and _has_no_session(response):
            self._renew_session()
            response = self._get(path, limit)
        _check_status(path, response)
        return read(response)

    def _renew_session(self) -> None:
        """Begin a new session at page 0, which views no crypto token. Without a login there, no other page is requested again."""
        self._renewed, self._cookie = True, None
        self._client.close()
        checked, host_name = self._checked, self._host_name
        if self.home().host_name != host_name and checked is not None:
            raise _another_node("page 0 has another host name")

    def _get(self, path: str, limit: int) -> HttpResponse:
        cookie = {"Cookie": f"{_COOKIE}={self._cookie}"} if self._cookie is not None else {}
        response = self._client.exchange("GET", path, ok=None, headers={**_HEADERS, **cookie}, limit=limit)
        self._check_peer()
        self._cookie = _session(response) or self._cookie
        return response


def _has_no_session(response: HttpResponse) -> bool:
    """Whether the response replaces the page of a session that is unknown or not logged in. EJBCA viewed no crypto token then."""
    if response.status in (401, 403) or 300 <= response.status < 400:
        return True
    if response.status != 200:
        return False
    try:
        return pages.has_no_session(_parse(response))
    except PageError:
        return False


def _another_node(difference: str) -> ApiError:
    return ApiError(
        f"reading EJBCA's Admin Web: a second connection reached another node: {difference}. Nothing was concluded from the pages. "
        "Set utrust_ejbca_host to the address of the node itself",
        code="ejbca_identity_unknown",
    )


def _check_status(path: str, response: HttpResponse) -> None:
    if response.status == 200:
        return
    place = path.partition("?")[0]
    if 300 <= response.status < 400:
        raise ApiError(
            f"reading {place} of EJBCA: the response redirects to another page (HTTP {response.status}). The collection follows no redirect. "
            "Check that the address is that of the node itself, and that the reader logs in with a client certificate",
            code="ejbca_redirected",
            http_status=response.status,
        )
    raise ApiError(
        f"reading {place} of EJBCA: HTTP {response.status}. Check that EJBCA runs, and the role of the reader",
        code="ejbca_page_refused",
        http_status=response.status,
    )


def _session(response: HttpResponse) -> str | None:
    """Return the session that a response sets, or None. A value that a header cannot carry is ignored."""
    for line in response.headers.get_all("Set-Cookie", []):
        name, dummy, value = line.partition(";")[0].strip().partition("=")
        if name == _COOKIE and len(value) <= limits.MAX_COOKIE_BYTES and re.fullmatch(r"[!#-+\--:<-\[\]-~]+", value):
            return str(value)
    return None


def _parse(response: HttpResponse) -> Element:
    if response.headers.get_content_type() not in ("text/html", "application/xhtml+xml"):
        raise PageError(f"its media type is {response.headers.get_content_type()[:80]!a}")
    try:
        return parse_page(response.body.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise PageError("its text is not UTF-8") from exc
