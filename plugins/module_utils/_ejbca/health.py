# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health check of EJBCA: of its CAs, and as a test signature with one key. Private to keyops.utrust.

The plain health check fails if a CA misses a key in its crypto token, in every version.
From version 8.2 on, parameters let EJBCA sign with one key of one crypto token on this node. Earlier versions ignore the parameters and report success,
so a success counts only if the same request for a key that cannot exist fails.
EJBCA verifies with the public key beside the private key, so a success does not show that the key is the key of the source.
"""

from __future__ import annotations

import typing as t
import urllib.parse

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.tree import PageError, page_texts
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LONG_TEXT, MAX_PROBLEM_BYTES
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse
    from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient

HEALTH: t.Final = "/ejbca/publicweb/healthcheck/ejbcahealth"
HEALTHY: t.Final = "ALLOK"
#: Newer versions keep an entry for each different request for ever, so the alias never changes.
CONTROL_ALIAS: t.Final = "keyops-control-no-such-key"
_NO_CHECKS: t.Final = "ca=none&ocsp=false&publishers=false"
#: Checks that EJBCA always makes. Their errors do not concern the key.
_OTHER_CHECKS: t.Final = ("MAINT:", "DB:", "MEM:", "AL:")
_FIRST_VERSION, _FIRST_VERSION_WITH_TRAFFIC = (8, 2), (9,)

Result = t.Literal["can_sign", "cannot_sign", "unknown"]


class SignatureTest(t.NamedTuple):
    """The result of a test signature. `reason` is for people."""

    result: Result
    reason: str


def plain_health(client: JsonClient) -> str | None:
    """Return the error of the health check, or None if EJBCA reports success. Raises UtrustError if no response arrives."""
    response = client.exchange("GET", HEALTH, ok=None)
    text = _Health(response.status, tuple(_texts(response))).line
    if response.status == 200 and text == HEALTHY:
        return None
    return text or f"HTTP {response.status}"


def refusal(version: str | None, *, without_traffic: bool) -> str | None:
    """Return why a test signature is not allowed on this node, or None.

    Before version 9, requests at the same time share one response, so a load balancer can receive the failure that the test needs.
    """
    numbers = tuple(int(part) for part in version.split(".")) if version is not None else None
    if numbers is not None and numbers < _FIRST_VERSION:
        return f"EJBCA {version} cannot test a key by its health check. Version 8.2 or later is needed"
    if not without_traffic and (numbers is None or numbers < _FIRST_VERSION_WITH_TRAFFIC):
        shown = f"EJBCA {version}" if version is not None else "an EJBCA of an unknown version"
        return f"{shown} can report a failing test to a load balancer. Take the node out of traffic, then set without_traffic"
    return None


class SignatureTester:
    """Tests keys of one node, one request after another. A load balancer that asks at the same time can get our response, so a success counts twice."""

    def __init__(self, client: JsonClient, check_node: t.Callable[[], None] = lambda: None) -> None:
        """`check_node` raises UtrustError if another node than that of the view can have responded."""
        self._client, self._check_node = client, check_node
        self._success: _Health | None = None
        self._controls: dict[str, str | None] = {}

    def test(self, token: str, alias: str) -> SignatureTest:
        """Let EJBCA sign with the key of an exact alias in a crypto token. Every doubt gives `unknown`."""
        try:
            reason = self._why_not_applicable(token)
            found = SignatureTest("unknown", reason) if reason is not None else self._sign(token, alias)
            self._check_node()
            return found
        except UtrustError as exc:
            return SignatureTest("unknown", str(exc))

    def _why_not_applicable(self, token: str) -> str | None:
        """Return why the health check cannot test keys of a crypto token, or None. Each crypto token has one control, which must fail."""
        if token not in self._controls:
            self._controls[token] = self._control(token)
        return self._controls[token]

    def _control(self, token: str) -> str | None:
        if self._success is None:
            found = self._get(_NO_CHECKS)
            if found.status != 200 or found.concerns_node:
                return f"the health check fails without a key: HTTP {found.status} {found.line}"
            self._success = found
        control = self._get(_query(token, CONTROL_ALIAS))
        if control == self._success:
            return (
                "the health check reports success for a key that does not exist, so this EJBCA ignores the parameters"
            )
        if not control.reports_failed_key(token, CONTROL_ALIAS):
            return f"the health check does not report a failed test of a key that does not exist: HTTP {control.status} {control.line}"
        return None

    def _sign(self, token: str, alias: str) -> SignatureTest:
        for dummy_attempt in range(2):
            found = self._get(_query(token, alias))
            if found.reports_failed_key(token, alias):
                return SignatureTest("cannot_sign", found.line)
            if found != self._success:
                return SignatureTest(
                    "unknown", f"the health check reports something else: HTTP {found.status} {found.line}"
                )
        return SignatureTest(
            "can_sign", "EJBCA of this node signed with the key twice, and the test of a key that does not exist failed"
        )

    def _get(self, query: str) -> _Health:
        response = self._client.exchange("GET", f"{HEALTH}?{query}", ok=None, limit=MAX_PROBLEM_BYTES)
        return _Health(response.status, tuple(_texts(response)))


class _Health(t.NamedTuple):
    """A response of the health check: its status, and its lines."""

    status: int
    lines: tuple[str, ...]

    @property
    def line(self) -> str:
        """The response as one line for people."""
        return escape_unprintable(" ".join(" ".join(self.lines).split()))[:MAX_LONG_TEXT]

    @property
    def concerns_node(self) -> bool:
        """Whether a check of the node failed that does not concern a key."""
        return any(word in line for line in self.lines for word in _OTHER_CHECKS)

    def reports_failed_key(self, token: str, alias: str) -> bool:
        """Whether the response reports that the test of exactly this key failed, and nothing else about the node."""
        expected = f"Test key failed for token={token} key={alias}".strip()
        named = any(line.removeprefix("TOKEN: ") == expected for line in self.lines)
        return named and not self.concerns_node


def _query(token: str, alias: str) -> str:
    """Return the parameters for one key. Of several keys of one crypto token, EJBCA tests only the last."""
    token, alias = urllib.parse.quote(token, safe=""), urllib.parse.quote(alias, safe="")
    return f"{_NO_CHECKS}&token1={token}&key1={alias}"


def _texts(response: HttpResponse) -> list[str]:
    """Return the lines of a response. A failure can be an error page of the server."""
    text = response.body.decode("utf-8", "replace")
    parts = [text]
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        try:
            parts = page_texts(text)
        except PageError as exc:
            parts = [str(exc)]
    lines = [line.strip() for part in parts for line in part.splitlines()]
    return [line for line in lines if line]
