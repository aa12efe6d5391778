# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health check as a test signature: a success counts only with a failed control, and every doubt is unknown."""

from __future__ import annotations

import html
import typing as t
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _json_client
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca import health
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import ADMIN_WEB
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.health import (
    CONTROL_ALIAS,
    SignatureTest,
    SignatureTester,
    plain_health,
    refusal,
)
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import NoResponseError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient

from tests.support.fakes import ENDPOINT, FakeConnection, make_response

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

#: Returns a response for token and alias, both None in a request without checks, and for the number of the request.
Rule = t.Callable[[str | None, str | None, int], t.Any]


def plain(text: str, status: int = 200) -> HttpResponse:
    return make_response(status, text.encode(), media_type="text/plain")


def error_page(text: str, status: int = 500) -> HttpResponse:
    """Return the error page of an application server."""
    page = f"<html><head><title>Error</title></head><body>{html.escape(text)}</body></html>"
    return make_response(status, page.encode(), media_type="text/html")


def failed(token: str | None, alias: str | None) -> str:
    return f"TOKEN: Test key failed for token={token} key={alias}"


class FakeHealth(FakeConnection):
    """EJBCA 8.2 with some keys. A rule can replace a response."""

    def __init__(
        self, *aliases: str, rule: Rule = lambda *dummy: None, page: t.Callable[..., HttpResponse] = error_page
    ) -> None:
        super().__init__()
        self._aliases, self._rule, self._page = aliases, rule, page

    def request(self, method: str, path: str, **more: t.Any) -> HttpResponse:
        query = parse_qs(urlsplit(path).query)
        assert (method, query["ca"], query["ocsp"], query["publishers"]) == ("GET", ["none"], ["false"], ["false"])
        assert len(query) in (3, 5)
        token, alias = (query.get(name, [None])[0] for name in ("token1", "key1"))
        response = self._rule(token, alias, len(self.requests) + 1)
        if response is None:
            exists = alias is None or alias in self._aliases
            response = plain("ALLOK\n") if exists else self._page(failed(token, alias))
        self._responses = [response]
        return super().request(method, path, **more)

    @property
    def aliases(self) -> list[str | None]:
        return [parse_qs(urlsplit(request.path).query).get("key1", [None])[0] for request in self.requests]


def make_tester(fake: FakeConnection, monkeypatch: pytest.MonkeyPatch) -> SignatureTester:
    monkeypatch.setattr(_json_client, "HttpsConnection", fake)
    return SignatureTester(JsonClient(ENDPOINT, ADMIN_WEB, sleep=lambda dummy: None))


def sign(fake: FakeConnection, monkeypatch: pytest.MonkeyPatch, token: str = "T", alias: str = "ca") -> SignatureTest:
    return make_tester(fake, monkeypatch).test(token, alias)


def test_signature_is_confirmed_twice_after_the_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """A monitor that asks at the same time can share its response with us once."""
    fake = FakeHealth("ca")
    assert sign(fake, monkeypatch).result == "can_sign"
    assert fake.aliases == [None, CONTROL_ALIAS, "ca", "ca"]


def test_signature_tests_have_one_control_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alias of the control is fixed, because newer versions keep an entry for each different request."""
    fake = FakeHealth("a", "b")
    one = make_tester(fake, monkeypatch)
    assert [one.test("T", "a").result, one.test("T", "b").result, one.test("U", "a").result] == ["can_sign"] * 3
    assert fake.aliases == [None, CONTROL_ALIAS, "a", "a", "b", "b", CONTROL_ALIAS, "a", "a"]
    assert health.CONTROL_ALIAS == "keyops-control-no-such-key"


@pytest.mark.parametrize("page", [error_page, lambda text: plain(text, 500), plain])
def test_key_that_cannot_sign_is_named(monkeypatch: pytest.MonkeyPatch, page: t.Callable[..., HttpResponse]) -> None:
    """EJBCA can send the failure as an error page, as text, or with status 200."""
    found = sign(FakeHealth(page=page), monkeypatch)
    assert found.result == "cannot_sign"
    assert "key=ca" in found.reason


AWKWARD = ["a b", "a+b", "a&key1=x", "<b>&amp;\"'", "\u00fc", "%20", "/?#=;", " ca"]


@pytest.mark.parametrize("alias", AWKWARD)
def test_signature_test_names_exactly_one_key(monkeypatch: pytest.MonkeyPatch, alias: str) -> None:
    fake = FakeHealth(alias)
    assert sign(fake, monkeypatch, f"Token {alias}", alias).result == "can_sign"
    assert fake.aliases == [None, CONTROL_ALIAS, alias, alias]
    assert sign(FakeHealth(), monkeypatch, f"Token {alias}", alias).result == "cannot_sign"


def of_key(response: t.Any) -> Rule:
    return lambda dummy_token, alias, dummy_count: response if alias == "ca" else None


def of_second(response: t.Any) -> Rule:
    return lambda dummy_token, alias, count: response if alias == "ca" and count == 4 else None


def of_control(response: t.Any) -> Rule:
    return lambda dummy_token, alias, dummy_count: response if alias == CONTROL_ALIAS else None


def of_everything(response: t.Any) -> Rule:
    return lambda *dummy: response


@pytest.mark.parametrize(
    "rule",
    [
        of_everything(plain("ALLOK")),
        of_everything(plain("MAINT: service\n")),
        of_everything(plain("MAINT: service", 500)),
        of_everything(plain("out of service")),
        of_everything(error_page("Unauthorized", 401)),
        of_everything(error_page("Forbidden", 403)),
        of_everything(error_page("", 404)),
        of_everything(error_page("Bad Gateway", 502)),
        of_everything(plain("", 302)),
        of_everything(NoResponseError("timed out", sent=True)),
        of_control(error_page("java.lang.NullPointerException")),
        of_control(error_page("TOKEN: T unknown")),
        of_control(error_page("out of service")),
        of_control(error_page(failed("T", CONTROL_ALIAS + "2"))),
        of_control(error_page(failed("Other", CONTROL_ALIAS))),
        of_control(error_page(f"DB: Error\n{failed('T', CONTROL_ALIAS)}")),
        of_control(NoResponseError("reset", sent=True)),
        of_key(error_page("MAINT: service")),
        of_key(error_page("DB: Error creating connection to database")),
        of_key(error_page("MEM: Error Virtual Memory is about to run out")),
        of_key(error_page("AL: audit log")),
        of_key(error_page("out of service")),
        of_key(error_page("CA: Error CA Token is disconnected, CA Name : X")),
        of_key(error_page(failed("T", "ca2"))),
        of_key(error_page(failed("T", CONTROL_ALIAS))),
        of_key(error_page(f"MAINT: x\n{failed('T', 'ca')}")),
        of_key(plain("OK")),
        of_key(plain("ALLOK", 503)),
        of_key(NoResponseError("reset", sent=True)),
        of_second(error_page("MAINT: service")),
        of_second(error_page(failed("T", CONTROL_ALIAS))),
    ],
)
def test_every_doubt_is_unknown(monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    """Versions before 8.2 ignore the parameters. A node without a signature also has other reasons to fail."""
    found = sign(FakeHealth("ca", rule=rule), monkeypatch)
    assert found.result == "unknown"
    assert found.reason


def test_older_version_is_not_asked_for_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A success of the control shows that the parameters are ignored."""
    fake = FakeHealth(rule=of_everything(plain("ALLOK")))
    assert "ignores the parameters" in sign(fake, monkeypatch).reason
    assert fake.aliases == [None, CONTROL_ALIAS]


def test_failure_of_second_test_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sign(FakeHealth("ca", rule=of_second(error_page(failed("T", "ca")))), monkeypatch)
    assert found.result == "cannot_sign"


def test_customized_success_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator can configure another text than ALLOK."""

    def rule(dummy_token: str | None, alias: str | None, dummy_count: int) -> HttpResponse | None:
        return plain("all is well") if alias != CONTROL_ALIAS else None

    assert sign(FakeHealth(rule=rule), monkeypatch).result == "can_sign"


@pytest.mark.parametrize(
    ("version", "without_traffic", "refused"),
    [
        ("7.4.3", True, True),
        ("8.1.9", True, True),
        ("8.2", False, True),
        ("8.2.0.1", True, False),
        ("8.10.0", False, True),
        ("9.0.0", False, False),
        ("10.1", False, False),
        (None, False, True),
        (None, True, False),
    ],
)
def test_signature_test_is_refused_by_version(version: str | None, without_traffic: bool, refused: bool) -> None:
    assert (refusal(version, without_traffic=without_traffic) is not None) == refused


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (plain("ALLOK\n"), None),
        (make_response(200, b"ALLOK\n", media_type="text/html"), None),
        (plain("ALLOK", 500), "ALLOK"),
        (plain("", 503), "HTTP 503"),
        (error_page("CA: Error CA Token is disconnected, CA Name : IssuingCA"), "CA Name : IssuingCA"),
        (plain("DB: \x1b[2J"), "DB: \\x1b[2J"),
    ],
)
def test_plain_health_returns_the_error(
    monkeypatch: pytest.MonkeyPatch, response: HttpResponse, expected: str | None
) -> None:
    monkeypatch.setattr(_json_client, "HttpsConnection", FakeConnection(response))
    found = plain_health(JsonClient(ENDPOINT, ADMIN_WEB))
    assert found == expected or (expected is not None and found is not None and expected in found)
