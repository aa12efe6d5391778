# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests of transport `rest`: which requests are sent, repeated, and never repeated."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _json_client
from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import jobs
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import APPLIANCE_API, RestAppliance
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import NoResponseError, ResponseTooLargeError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LIST_READS
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.factories import example, fingerprint, key
from tests.support.fakes import ENDPOINT, KEY_OF_REQUEST, FakeConnection, make_problem, make_response

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

CUT = NoResponseError("ConnectionResetError: cut", sent=True)
REFUSED = NoResponseError("ConnectionRefusedError: refused", sent=False)
BUSY = make_problem(503, "unavailable", retry_after=2)
PACKAGE = jobs.parse_package(example("Package"))
STAGED = jobs.parse_import(example("ImportStaged"))
WAITING = jobs.parse_restore(example("RestoreWaiting"))
PACKAGES, IMPORTS, RESTORES = "/api/v1/hsm/packages", "/api/v1/hsm/imports", "/api/v1/hsm/restores"


class Script(t.NamedTuple):
    """A client with a fake connection. Sleeps are recorded and not executed.

    `looked` holds the sleeps between two lookups after a lost response. Without patience there is one lookup.
    """

    connection: FakeConnection
    client: JsonClient
    appliance: RestAppliance
    slept: list[float]
    looked: list[float]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Script]:
    def make(*responses: HttpResponse | Exception, bearer_token: str | None = None, patience: float = 0.0) -> Script:
        connection, slept, looked = FakeConnection(*responses), list[float](), list[float]()
        monkeypatch.setattr(_json_client, "HttpsConnection", connection)
        client = JsonClient(
            ENDPOINT,
            APPLIANCE_API,
            bearer_token=bearer_token,
            retries=3,
            sleep=slept.append,
            clock=lambda: sum(slept),
        )
        wait_options = WaitOptions(patience, clock=lambda: sum(looked), sleep=looked.append)
        return Script(connection, client, RestAppliance(client, wait_options), slept, looked)

    return make


Scripted = t.Callable[..., Script]


def check_lookup(script: Script, path: str) -> str:
    """Check that the second request finds the object of the first request by its Idempotency-Key."""
    key_sent = script.connection.requests[0].headers["Idempotency-Key"]
    assert script.connection.requests[1][:2] == ("GET", f"{path}?idempotency_key={key_sent}")
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
    assert made.slept == [60.0]


def test_busy_node_raises_after_all_retries(script: Scripted) -> None:
    made = script(*[BUSY] * 4)
    with pytest.raises(ApiError) as caught:
        made.appliance.node()
    assert caught.value.details == {"code": "unavailable", "http_status": 503}
    assert made.slept == [2.0, 2.0, 2.0]


def test_upload_repeated_starts_at_first_byte(script: Scripted) -> None:
    made = script(BUSY, make_response(201, example("ImportStaged")))
    made.appliance.stage_import(io.BytesIO(b"package"), 7, fingerprint("package"), None)
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


def test_delete_that_may_have_arrived_counts_as_lost(script: Scripted) -> None:
    """The first attempt was sent and lost. That the others were not sent does not prove that nothing changed."""
    made = script(CUT, *[REFUSED] * 3)
    with pytest.raises(ResponseLostError) as caught:
        made.appliance.delete_package(PACKAGE)
    assert "nothing" not in str(caught.value)
    made = script(*[REFUSED] * 4)
    with pytest.raises(UnreachableError, match="The request changed nothing"):
        made.appliance.delete_package(PACKAGE)


# Requests that are never repeated


def posts(made: Script) -> list[str]:
    return [path for method, path in made.connection.sent if method == "POST"]


class Creation(t.NamedTuple):
    """A POST that creates an object: the call, its path, and the list of such objects."""

    make: t.Callable[[RestAppliance], t.Any]
    path: str
    listed: str
    name: str

    def found(self) -> list[HttpResponse]:
        """Return the list and the object. The entry of the list is shorter than the object."""
        document = example(self.name)
        entry = {"id": document["id"], "idempotency_key": KEY_OF_REQUEST}
        return [make_response(200, {self.listed: [entry]}), make_response(200, document)]

    def not_found(self) -> HttpResponse:
        return make_response(200, {self.listed: []})


CREATIONS = [
    Creation(lambda node: node.create_package("sha256:00"), PACKAGES, "packages", "Package"),
    Creation(
        lambda node: node.stage_import(io.BytesIO(b"x"), 1, "sha256:00", None), IMPORTS, "imports", "ImportStaged"
    ),
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
    made = script(lost, *creation.found())
    made_id = example(creation.name)["id"]
    assert creation.make(made.appliance).id == made_id
    assert posts(made) == [creation.path]
    check_lookup(made, creation.path)
    assert made.connection.sent[-1] == ("GET", f"{creation.path}/{made_id}")


@creations
def test_post_with_lost_response_is_looked_for_again(script: Scripted, creation: Creation) -> None:
    """A slow node lists the object late. The delays grow, and a reading that fails does not end the search."""
    made = script(CUT, creation.not_found(), *[CUT] * 4, creation.not_found(), *creation.found(), patience=60.0)
    assert creation.make(made.appliance).id == example(creation.name)["id"]
    assert posts(made) == [creation.path]
    assert made.looked == [0.5, 1.0, 2.0]


@creations
def test_post_with_lost_response_ignores_other_objects(script: Scripted, creation: Creation) -> None:
    """A node that ignores the filter lists the object of another client, which must not be taken for the own object."""
    document = example(creation.name)
    other = make_response(200, {creation.listed: [{"id": document["id"], "idempotency_key": "of-another-client"}]})
    with pytest.raises(ResponseLostError, match="did not list an object for this request"):
        creation.make(script(CUT, other).appliance)


@creations
def test_post_in_progress_is_retried_after_retry_after(script: Scripted, creation: Creation) -> None:
    """The same request with the same key waits until the first request has ended."""
    made = script(
        make_problem(409, "request_in_progress", retry_after=3),
        make_problem(409, "request_in_progress"),
        make_response(201, example(creation.name)),
    )
    creation.make(made.appliance)
    assert made.slept == [3.0, 1.0]
    assert len({request.headers["Idempotency-Key"] for request in made.connection.requests}) == 1


@creations
def test_post_that_stays_in_progress_is_looked_for(script: Scripted, creation: Creation) -> None:
    """The node still receives or checks the first request, so nobody can say that nothing was changed."""
    made = script(*[make_problem(409, "request_in_progress")] * 4, *creation.found())
    creation.make(made.appliance)
    assert len(posts(made)) == 4


@creations
@pytest.mark.parametrize(("status", "code"), [(503, "unavailable"), (429, "too_many_requests")])
def test_lost_post_is_looked_for_while_the_node_restarts(
    script: Scripted, creation: Creation, status: int, code: str
) -> None:
    made = script(CUT, *[make_problem(status, code)] * 4, *creation.found(), patience=20.0)
    creation.make(made.appliance)
    assert made.looked == [0.5]


def test_retries_of_one_call_have_a_deadline(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repetition begins after MAX_RETRY_TIME, however many are allowed."""
    monkeypatch.setattr(limits, "MAX_RETRY_TIME", 100.0)
    made = script(*[make_problem(503, "unavailable", retry_after=40)] * 4)
    with pytest.raises(ApiError, match="unavailable"):
        made.appliance.node()
    assert made.slept == [40.0, 40.0]


def test_upload_sends_expected_keys_digest(script: Scripted) -> None:
    """A node without key_list gets no digest, because it would reject the request."""
    digest = fingerprint("keys")
    made = script(*[make_response(201, example("ImportStaged"))] * 2)
    made.appliance.stage_import(io.BytesIO(b"x"), 1, digest, digest)
    made.appliance.stage_import(io.BytesIO(b"x"), 1, digest, None)
    encoded = digest.replace(":", "%3A")
    assert posts(made) == [f"{IMPORTS}?expect_keys_digest={encoded}", IMPORTS]


def test_create_package_without_digest_sends_empty_object(script: Scripted) -> None:
    made = script(*[make_response(201, example("PackagePreparing"))] * 2)
    assert made.appliance.create_package(None).state == "preparing"
    made.appliance.create_package("sha256:00")
    bodies = [json.loads(request.body or b"") for request in made.connection.requests]
    assert bodies == [{}, {"expect_keys_digest": "sha256:00"}]


@pytest.mark.parametrize(("name", "state"), [("RestoreSucceeded", "succeeded"), ("RestoreCanceled", "canceled")])
def test_cancel_of_an_ended_restore_returns_its_state(script: Scripted, name: str, state: str) -> None:
    made = script(make_response(200, example(name)))
    assert made.appliance.cancel_restore(WAITING.id).state == state


def test_post_with_response_of_a_proxy_is_looked_for(script: Scripted) -> None:
    """A rejection without a problem document can be of a proxy that has sent the request to the node."""
    made = script(make_response(404, b"<html>", media_type="text/html"), *CREATIONS[0].found())
    assert made.appliance.create_package("sha256:00").id == example("Package")["id"]


@creations
def test_post_with_lost_response_without_object_raises(script: Scripted, creation: Creation) -> None:
    """The client does not send the POST again, and does not report that nothing was changed."""
    made = script(CUT, *[creation.not_found()] * 6, patience=20.0)
    with pytest.raises(ResponseLostError, match="did not list an object for this request within 20 s") as caught:
        creation.make(made.appliance)
    assert caught.value.code == "response_lost"
    assert "nothing was changed" not in str(caught.value)
    assert posts(made) == [creation.path]
    assert made.looked == [0.5, 1.0, 2.0, 4.0, 8.0]
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
    with pytest.raises(UnreachableError, match="The request changed nothing"):
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


def test_apply_sends_expected_keys_digest(script: Scripted) -> None:
    made = script(make_response(200, example("ImportApplied")))
    made.appliance.apply_import(STAGED, "sha256:00")
    assert json.loads(made.connection.requests[0].body or b"") == {"expect_keys_digest": "sha256:00"}


def test_apply_lost_with_staged_import_raises(script: Scripted) -> None:
    made = script(CUT, *[make_response(200, example("ImportStaged"))] * 3, patience=3.0)
    with pytest.raises(ResponseLostError, match="reports the import as staged") as caught:
        made.appliance.apply_import(STAGED, "sha256:00")
    assert caught.value.details == {"code": "response_lost", "import_state": "staged"}
    assert len(posts(made)) == 1


@pytest.mark.parametrize(("status", "code"), [(409, "import_in_progress"), (409, "keys_changed")])
def test_apply_rejected_raises_node_error(script: Scripted, status: int, code: str) -> None:
    made = script(make_problem(status, code))
    with pytest.raises(ApiError) as caught:
        made.appliance.apply_import(STAGED, "sha256:00")
    assert caught.value.code == code
    assert len(made.connection.requests) == 1


def test_download_without_a_byte_is_repeated(script: Scripted) -> None:
    """A kept connection that the node has closed, or a lost response, wrote nothing."""
    package = jobs.parse_package({**example("Package"), "size": 7, "sha256": fingerprint("package")})
    made = script(CUT, REFUSED, make_response(200, b"package"))
    output = io.BytesIO()
    made.appliance.download_package(package, output)
    assert output.getvalue() == b"package"
    assert made.connection.sent == [("GET", f"{PACKAGES}/{PACKAGE.id}/content")] * 3


def test_download_interrupted_is_not_repeated(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeated download would append to the same file."""
    made = script(make_response(200, b"pack"))

    def cut_after_some_bytes(*args: t.Any, output: t.Callable[[bytes], object], **kwargs: t.Any) -> HttpResponse:
        FakeConnection.request(made.connection, *args, output=output, **kwargs)
        raise CUT

    monkeypatch.setattr(made.connection, "request", cut_after_some_bytes)
    with pytest.raises(UnreachableError):
        made.appliance.download_package(PACKAGE, io.BytesIO())
    assert made.connection.sent == [("GET", f"{PACKAGES}/{PACKAGE.id}/content")]


# Responses


def test_download_checks_size_and_digest(script: Scripted) -> None:
    package = jobs.parse_package({**example("Package"), "size": 7, "sha256": fingerprint("package")})
    output = io.BytesIO()
    script(make_response(200, b"package")).appliance.download_package(package, output)
    assert output.getvalue() == b"package"
    for damaged in (b"pack", b"Package", b"package!", b""):
        with pytest.raises(ApiError, match="7 bytes or a wrong digest") as caught:
            script(make_response(200, damaged)).appliance.download_package(package, io.BytesIO())
        assert caught.value.code == "download_corrupt"


RIGHT = "sha-256=:" + base64.b64encode(hashlib.sha256(b"package").digest()).decode() + ":"
WRONG = "sha-256=:" + base64.b64encode(hashlib.sha256(b"other").digest()).decode() + ":"


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (RIGHT, True),
        ("sha-512=:AAAA:", True),
        (f"sha-512=:AAAA:, {RIGHT}", True),
        (f"{RIGHT},sha-512=:AAAA:", True),
        (f" {RIGHT};x=1 , md5=:AA==:", True),
        (f"{WRONG}, {RIGHT}", True),
        (WRONG, False),
        (f"sha-512=:AAAA:, {WRONG}", False),
        (f"{RIGHT}, {WRONG}", False),
        ("sha-256=AAAA", False),
    ],
)
def test_download_reads_a_digest_with_several_algorithms(script: Scripted, header: str, accepted: bool) -> None:
    """RFC 9530 allows several algorithms in the header. The last digest of an algorithm counts."""
    package = jobs.parse_package({**example("Package"), "size": 7, "sha256": fingerprint("package")})
    made = script(make_response(200, b"package", **{"Content-Digest": header}))
    if accepted:
        made.appliance.download_package(package, io.BytesIO())
    else:
        with pytest.raises(ApiError, match="wrong digest"):
            made.appliance.download_package(package, io.BytesIO())


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
        page(A, of=(A, B, C), next_cursor="x=y"), page(B, of=(A, B, C), next_cursor="z"), page(C, of=(A, B, C))
    )
    assert made.appliance.list_keys() == (A, B, C)
    path = "/api/v1/hsm/keys?limit=1000"
    assert [path for dummy, path in made.connection.sent] == [path, f"{path}&cursor=x%3Dy", f"{path}&cursor=z"]


def test_list_keys_restarts_after_change(script: Scripted) -> None:
    made = script(page(A, of=(A, B), next_cursor="x"), page(C, of=(A, C)), page(A, C, of=(A, C)))
    assert made.appliance.list_keys() == (A, C)
    assert len(made.connection.requests) == 3


def test_list_keys_of_changing_node_raises(script: Scripted) -> None:
    made = script(*[page(A, of=(A, B), next_cursor="x"), page(C, of=(A, C))] * MAX_LIST_READS)
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


@pytest.mark.parametrize("limit", [("MAX_KEYS", 2), ("MAX_PAGES", 3), ("MAX_LIST_TIME", -1.0)])
def test_list_keys_with_too_many_pages_raises(
    script: Scripted, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, float]
) -> None:
    monkeypatch.setattr(limits, *limit)
    made = script(*[page(A, of=(A,), next_cursor=f"page{number}") for number in range(9)])
    with pytest.raises(ApiError, match="and more pages") as caught:
        made.appliance.list_keys()
    assert caught.value.code == "response_too_large"
    assert len(made.connection.requests) <= 3


# Restores


def test_cancel_with_lost_response_reads_the_restore(script: Scripted) -> None:
    made = script(make_response(200, b"<html>"), make_response(200, example("RestoreCanceled")))
    assert made.appliance.cancel_restore(WAITING.id).state == "canceled"
    made = script(make_response(200, b"<html>"), make_response(200, example("RestoreWaiting")))
    with pytest.raises(ResponseLostError, match="the restore is still running"):
        made.appliance.cancel_restore(WAITING.id)


@pytest.mark.parametrize(
    ("response", "discarded"),
    [
        (make_response(200, {"state": "canceled"}), True),
        (make_response(200, {"state": "discarded"}), True),
        (make_response(200, {"state": "applied"}), False),
        (make_problem(404, "not_found"), False),
        (make_problem(409, "import_in_progress"), False),
    ],
    ids=["canceled", "discarded", "applied", "404", "409"],
)
def test_discard_returns_whether_import_cannot_commit(
    script: Scripted, response: HttpResponse, discarded: bool
) -> None:
    assert script(response).appliance.discard_import(STAGED) is discarded


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
