# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests of transport `rest`: which requests are sent, repeated, and never repeated."""

from __future__ import annotations

import io
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _json_client
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import (
    APPLIANCE_API,
    MAX_READ_ATTEMPTS,
    RestAppliance,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._http import (
    HttpResponse,
    NoResponseError,
    ResponseTooLargeError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest

from tests.support.factories import example, fingerprint, key
from tests.support.fakes import ENDPOINT, FakeConnection, make_problem, make_response

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

CUT = NoResponseError("ConnectionResetError: cut", sent=True)
REFUSED = NoResponseError("ConnectionRefusedError: refused", sent=False)
BUSY = make_problem(503, "unavailable", retry_after=2)
PACKAGE = schema.parse_package(example("Package"))
STAGED = schema.parse_import(example("ImportStaged"))
WAITING = schema.parse_restore(example("RestoreWaiting"))
PACKAGES, IMPORTS, RESTORES = "/api/v1/hsm/packages", "/api/v1/hsm/imports", "/api/v1/hsm/restores"


class Script(t.NamedTuple):
    """A client with a fake connection. Sleeps are recorded and not executed."""

    connection: FakeConnection
    client: JsonClient
    appliance: RestAppliance
    slept: list[float]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Script]:
    def make(*responses: HttpResponse | Exception, bearer_token: str | None = None) -> Script:
        connection, slept = FakeConnection(*responses), list[float]()
        monkeypatch.setattr(_json_client, "HttpsConnection", connection)
        client = JsonClient(ENDPOINT, APPLIANCE_API, bearer_token=bearer_token, retries=3, sleep=slept.append)
        return Script(connection, client, RestAppliance(client), slept)

    return make


Scripted = t.Callable[..., Script]


def check_lookup(script: Script, path: str) -> str:
    """Check that the last request finds the object of the first request by its Idempotency-Key."""
    key_sent = script.connection.requests[0].headers["Idempotency-Key"]
    assert script.connection.requests[-1][:2] == ("GET", f"{path}?idempotency_key={key_sent}")
    return key_sent


# Repeated requests


def test_get_without_response_is_repeated(script: Scripted) -> None:
    made = script(CUT, REFUSED, make_response(200, example("NodeOperational")))
    assert made.appliance.node().name == "node1"
    assert made.connection.sent == [("GET", "/api/v1/node")] * 3
    assert made.slept == [0.5, 1.0]


def test_get_without_any_response_raises_unreachable(script: Scripted) -> None:
    """The message names the request, the address, the number of attempts and a remedy."""
    made = script(*[REFUSED] * 4)
    with pytest.raises(UnreachableError) as caught:
        made.appliance.node()
    assert len(made.connection.requests) == 4
    assert caught.value.code == "node_unreachable"
    for words in ("GET /api/v1/node", "127.0.0.2:8443", "4 attempt(s)", "refused", "Check address"):
        assert words in str(caught.value)


@pytest.mark.parametrize(("status", "code"), [(429, "too_many_requests"), (503, "unavailable")])
def test_busy_node_is_retried_after_retry_after(script: Scripted, status: int, code: str) -> None:
    made = script(make_problem(status, code, retry_after=7), make_response(201, example("Package")))
    made.appliance.create_package("sha256:00")
    first, second = made.connection.requests
    assert first == second, "the repetition is the same request, with the same Idempotency-Key"
    assert made.slept == [7.0]


def test_retry_after_is_clamped(script: Scripted) -> None:
    made = script(make_problem(503, "unavailable", retry_after=86400), make_response(200, example("NodeOperational")))
    made.appliance.node()
    assert made.slept == [30.0]


def test_busy_node_raises_after_all_retries(script: Scripted) -> None:
    made = script(*[BUSY] * 4)
    with pytest.raises(ApiError) as caught:
        made.appliance.node()
    assert caught.value.details == {"code": "unavailable", "http_status": 503}
    assert made.slept == [2.0, 2.0, 2.0]


def test_upload_repeated_starts_at_first_byte(script: Scripted) -> None:
    made = script(BUSY, make_response(201, example("ImportStaged")))
    made.appliance.stage_import(io.BytesIO(b"package"), 7, fingerprint("package"))
    assert [request.body for request in made.connection.requests] == [b"package", b"package"]


def test_rejection_is_not_repeated(script: Scripted) -> None:
    made = script(make_problem(422, "pin_pad_not_configured", configured=["front-usb"]))
    with pytest.raises(ApiError) as caught:
        made.appliance.start_restore("rack-9", "node1")
    assert made.connection.sent == [("POST", RESTORES)]
    assert caught.value.details == {
        "code": "pin_pad_not_configured",
        "http_status": 422,
        "configured": ["front-usb"],
    }
    for words in (f"POST {RESTORES}", "127.0.0.2:8443", "HTTP 422", "why"):
        assert words in str(caught.value)


@pytest.mark.parametrize(("status", "code"), [(401, "unauthenticated"), (403, "forbidden")])
def test_login_rejected_names_webconf_page(script: Scripted, status: int, code: str) -> None:
    made = script(make_problem(status, code))
    with pytest.raises(ApiError, match="Webconf, page Access") as caught:
        made.appliance.node()
    assert caught.value.code == code


def test_delete_without_response_is_repeated(script: Scripted) -> None:
    """A second DELETE of the same object changes nothing."""
    made = script(CUT, make_problem(404, "not_found"))
    made.appliance.delete_package(PACKAGE)
    assert made.connection.sent == [("DELETE", f"{PACKAGES}/{PACKAGE.id}")] * 2


# Requests that are never repeated


def posts(made: Script) -> list[str]:
    return [path for method, path in made.connection.sent if method == "POST"]


class Creation(t.NamedTuple):
    """A POST that creates an object: the call, its path, and the list of such objects."""

    make: t.Callable[[RestAppliance], t.Any]
    path: str
    listed: str
    name: str

    def found(self) -> HttpResponse:
        return make_response(200, {self.listed: [example(self.name)]})

    def not_found(self) -> HttpResponse:
        return make_response(200, {self.listed: []})


CREATIONS = [
    Creation(lambda node: node.create_package("sha256:00"), PACKAGES, "packages", "Package"),
    Creation(lambda node: node.stage_import(io.BytesIO(b"x"), 1, "sha256:00"), IMPORTS, "imports", "ImportStaged"),
    Creation(lambda node: node.start_restore("front-usb", "node1"), RESTORES, "restores", "RestoreWaiting"),
]
creations = pytest.mark.parametrize("creation", CREATIONS, ids=["package", "import", "restore"])
UNCLEAR = [
    CUT,
    make_problem(500, "internal_error"),
    make_response(502, b"<html>"),
    make_response(200, b"<html>", media_type="text/html"),
]
unclear = pytest.mark.parametrize("lost", UNCLEAR, ids=["cut", "500", "502", "not JSON"])


@creations
@unclear
def test_post_with_lost_response_finds_created_object(script: Scripted, lost: t.Any, creation: Creation) -> None:
    made = script(lost, creation.found())
    assert creation.make(made.appliance).id == example(creation.name)["id"]
    assert posts(made) == [creation.path]
    check_lookup(made, creation.path)


@creations
def test_post_with_lost_response_without_object_raises(script: Scripted, creation: Creation) -> None:
    """The client does not send the POST again."""
    made = script(CUT, creation.not_found())
    with pytest.raises(ResponseLostError, match="created no object for this request, so nothing was changed") as caught:
        creation.make(made.appliance)
    assert caught.value.code == "response_lost"
    assert posts(made) == [creation.path]
    check_lookup(made, creation.path)


@creations
def test_post_with_failed_lookup_has_unknown_outcome(script: Scripted, creation: Creation) -> None:
    made = script(CUT, *[REFUSED] * 4)
    with pytest.raises(ResponseLostError) as caught:
        creation.make(made.appliance)
    assert caught.value.code == "outcome_unknown"
    assert posts(made) == [creation.path]


def test_post_not_sent_raises_unreachable(script: Scripted) -> None:
    """A request that did not leave this machine is not a lost response."""
    made = script(REFUSED)
    with pytest.raises(UnreachableError, match="Nothing was changed"):
        made.appliance.create_package("sha256:00")
    assert made.connection.sent == [("POST", PACKAGES)]


def test_each_post_has_another_idempotency_key(script: Scripted) -> None:
    made = script(*[make_response(201, example("Package"))] * 2)
    made.appliance.create_package("sha256:00")
    made.appliance.create_package("sha256:00")
    assert len({request.headers["Idempotency-Key"] for request in made.connection.requests}) == 2


@unclear
def test_apply_with_lost_response_reads_import(script: Scripted, lost: t.Any) -> None:
    made = script(lost, make_response(200, example("ImportApplied")))
    assert made.appliance.apply_import(STAGED, "sha256:00").state == "applied"
    assert made.connection.sent == [("POST", f"{IMPORTS}/{STAGED.id}/apply"), ("GET", f"{IMPORTS}/{STAGED.id}")]


def test_apply_sends_keys_digest_as_if_match(script: Scripted) -> None:
    made = script(make_response(200, example("ImportApplied")))
    made.appliance.apply_import(STAGED, "sha256:00")
    assert made.connection.requests[0].headers["If-Match"] == '"sha256:00"'


def test_apply_lost_with_staged_import_raises(script: Scripted) -> None:
    made = script(CUT, make_response(200, example("ImportStaged")))
    with pytest.raises(ResponseLostError, match="reports the import as staged") as caught:
        made.appliance.apply_import(STAGED, "sha256:00")
    assert caught.value.details == {"code": "response_lost", "import_state": "staged"}
    assert len(posts(made)) == 1


@pytest.mark.parametrize(("status", "code"), [(409, "import_in_progress"), (412, "keys_changed")])
def test_apply_rejected_raises_node_error(script: Scripted, status: int, code: str) -> None:
    made = script(make_problem(status, code))
    with pytest.raises(ApiError) as caught:
        made.appliance.apply_import(STAGED, "sha256:00")
    assert caught.value.code == code
    assert len(made.connection.requests) == 1


def test_download_interrupted_is_not_repeated(script: Scripted) -> None:
    """A repeated download would append to the same file."""
    made = script(CUT)
    output = io.BytesIO()
    with pytest.raises(UnreachableError):
        made.appliance.download_package(PACKAGE, output)
    assert made.connection.sent == [("GET", f"{PACKAGES}/{PACKAGE.id}/content")]


# Responses


def test_download_checks_size_and_digest(script: Scripted) -> None:
    package = schema.parse_package({**example("Package"), "size": 7, "sha256": fingerprint("package")})
    output = io.BytesIO()
    script(make_response(200, b"package")).appliance.download_package(package, output)
    assert output.getvalue() == b"package"
    for damaged in (b"pack", b"Package", b"package!", b""):
        with pytest.raises(ApiError, match="of 7 bytes or a wrong digest") as caught:
            script(make_response(200, damaged)).appliance.download_package(package, io.BytesIO())
        assert caught.value.code == "download_corrupt"


def test_download_to_full_disk_raises_not_written(script: Scripted) -> None:
    class Full(io.BytesIO):
        def write(self, dummy: t.Any) -> int:
            raise OSError(28, "No space left on device")

    made = script(make_response(200, b"package"))
    with pytest.raises(UtrustError, match="No space left on device") as caught:
        made.appliance.download_package(PACKAGE, Full())
    assert caught.value.code == "package_not_written"


@pytest.mark.parametrize(
    ("document", "media_type"),
    [(b"<html>Please log in</html>", "text/html"), (b"", "application/json"), (b"{", "application/json")],
)
def test_response_not_json_raises(script: Scripted, document: bytes, media_type: str) -> None:
    made = script(make_response(200, document, media_type=media_type))
    with pytest.raises(ApiError, match="is not JSON") as caught:
        made.appliance.node()
    assert caught.value.code == "response_not_json"
    assert "proxy or Webconf" in str(caught.value)


def test_response_too_large_raises(script: Scripted) -> None:
    made = script(ResponseTooLargeError("the response is larger than 5 bytes"))
    with pytest.raises(ApiError) as caught:
        made.appliance.node()
    assert caught.value.code == "response_too_large"


def test_bearer_token_is_sent_but_not_in_messages(script: Scripted) -> None:
    made = script(make_problem(401, "unauthenticated"), bearer_token="s3cr3t-token")
    with pytest.raises(ApiError) as caught:
        made.appliance.node()
    assert made.connection.requests[0].headers["Authorization"] == "Bearer s3cr3t-token"
    assert "s3cr3t-token" not in str(caught.value)
    assert "s3cr3t-token" not in str(caught.value.details)


# Pages of keys


def page(*hsm_keys: HsmKey, of: tuple[HsmKey, ...], next_cursor: str | None = None) -> HttpResponse:
    rows = [
        {name: value for name, value in hsm_key.to_dict().items() if name != "check_value_only"} for hsm_key in hsm_keys
    ]
    return make_response(200, {"hsm_keys": rows, "next_cursor": next_cursor, "keys_digest": keys_digest(of)})


A, B, C = key("a"), key("b"), key("c")


def test_list_keys_joins_all_pages(script: Scripted) -> None:
    made = script(
        page(A, of=(A, B, C), next_cursor="x y"), page(B, of=(A, B, C), next_cursor="z"), page(C, of=(A, B, C))
    )
    assert made.appliance.list_keys() == (A, B, C)
    path = "/api/v1/hsm/keys?limit=1000"
    assert [path for dummy, path in made.connection.sent] == [path, f"{path}&cursor=x+y", f"{path}&cursor=z"]


def test_list_keys_restarts_after_change(script: Scripted) -> None:
    made = script(page(A, of=(A, B), next_cursor="x"), page(C, of=(A, C)), page(A, C, of=(A, C)))
    assert made.appliance.list_keys() == (A, C)
    assert len(made.connection.requests) == 3


def test_list_keys_of_changing_node_raises(script: Scripted) -> None:
    made = script(*[page(A, of=(A, B), next_cursor="x"), page(C, of=(A, C))] * MAX_READ_ATTEMPTS)
    with pytest.raises(ApiError, match="generates no more keys") as caught:
        made.appliance.list_keys()
    assert caught.value.code == "keys_unstable"


def test_list_keys_with_wrong_digest_raises(script: Scripted) -> None:
    made = script(page(A, of=(A, B)))
    with pytest.raises(ApiError, match="Do not trust this list") as caught:
        made.appliance.list_keys()
    assert caught.value.code == "keys_digest_mismatch"


def test_list_keys_with_endless_pages_raises(script: Scripted) -> None:
    made = script(page(A, of=(A, B), next_cursor="x"), page(A, of=(A, B), next_cursor="x"))
    with pytest.raises(ApiError, match="the same cursor as the page before"):
        made.appliance.list_keys()
    made = script(page(of=(A,), next_cursor="x"))
    with pytest.raises(ApiError, match="the same cursor as the page before"):
        made.appliance.list_keys()


# Restores


def test_watch_restore_waits_at_least_one_second(script: Scripted) -> None:
    """Requests without a wait would overload the node."""
    made = script(*[make_response(200, example("RestoreWaiting"))] * 3)
    for wait in (20.0, 0.4, 0.0):
        made.appliance.watch_restore(WAITING, wait)
    path = f"{RESTORES}/{WAITING.id}"
    assert [path for dummy, path in made.connection.sent] == [
        f"{path}?wait=20&sequence=3",
        f"{path}?wait=1&sequence=3",
        f"{path}?wait=1&sequence=3",
    ]


def test_running_restore_of_another_client_is_found(script: Scripted) -> None:
    made = script(make_response(200, example("RestoreList")), make_response(200, {"restores": []}))
    found = made.appliance.running_restore()
    assert found is not None
    assert found.id == example("RestoreWaiting")["id"]
    assert made.appliance.running_restore() is None
    assert made.connection.sent == [("GET", f"{RESTORES}?state=running")] * 2
