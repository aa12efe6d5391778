# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operation utrust_cluster_claim and the claim of transport `rest`, with fakes."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _json_client
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.claim import (
    Claim,
    ClaimStatus,
    parse_status,
)
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import CLUSTER_CLAIM
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    PreflightError,
    ResponseLostError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_claim import (
    OPERATION,
    ClaimRequest,
    claim_cluster,
    release_claim,
)
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.factories import example
from tests.support.fakes import ENDPOINT, FakeAppliance, FakeConnection, make_problem, make_response

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

TOKEN, NEW = "a" * 22, "b" * 43
STATUS = parse_status(example("ClaimStatus"))
OTHER = Claim("key_sync by bob@controller2 (pid 7)", 60, "2026-11-23T12:00:00Z", "2026-11-23T12:01:00Z")
FREE = ClaimStatus(None, own=False)
REFUSED = ApiError("PUT: 409", code="cluster_claimed", http_status=409, claim=OTHER.to_dict())
CLAIM_PATH = "/api/v1/cluster/claim"


def request(wait: float = 10.0) -> tuple[ClaimRequest, list[float]]:
    slept: list[float] = []
    patience = WaitOptions(wait, 2.0, clock=lambda: sum(slept), sleep=slept.append)
    return ClaimRequest("node1", NEW, "key_sync by alice@controller1 (pid 4711)", 120, patience), slept


def claim(
    fake: FakeAppliance, *, wait: float = 10.0, has_token: bool = False, dry_run: bool = False
) -> tuple[dict[str, t.Any], list[str]]:
    lines: list[str] = []
    asked, dummy = request(wait)
    result = claim_cluster(fake.appliance, asked, has_token=has_token, dry_run=dry_run, progress=lines.append)
    return result, lines


def fake(**results: t.Any) -> FakeAppliance:
    return FakeAppliance(frozenset({CLUSTER_CLAIM}), **results)


def test_claim_of_free_cluster_is_taken() -> None:
    appliance = fake(take_claim=STATUS)
    result, lines = claim(appliance)
    assert (result["changed"], result["claim"], result["supported"]) == (
        True,
        STATUS.claim and STATUS.claim.to_dict(),
        True,
    )
    assert (appliance.calls, lines) == (["take_claim"], [])
    assert NEW not in json.dumps(result)


def test_claim_waits_until_other_run_ends() -> None:
    """People see who has the claim, once in half a minute."""
    appliance = fake(take_claim=[REFUSED, REFUSED, STATUS])
    result, lines = claim(appliance)
    assert result["changed"] is True
    assert lines == [f"node1: waiting at most 10 s: {OTHER.holder} has claimed the cluster until 2026-11-23T12:01:00Z"]


def test_claim_of_other_run_fails_after_the_wait() -> None:
    """The failure names the holder and the end of its claim."""
    with pytest.raises(UtrustError) as caught:
        claim(fake(take_claim=REFUSED), wait=5)
    assert caught.value.code == "cluster_claimed"
    assert f"{OTHER.holder} has claimed the cluster until 2026-11-23T12:01:00Z" in str(caught.value)
    assert "Nothing was changed after 4 s" in str(caught.value)
    assert caught.value.details["claim"] == OTHER.to_dict()


def test_claim_other_error_is_not_waited_for() -> None:
    with pytest.raises(ApiError) as caught:
        claim(fake(take_claim=ApiError("no majority", code="unavailable", http_status=503)))
    assert caught.value.code == "unavailable"


def test_claim_of_this_run_is_renewed_by_reading() -> None:
    appliance = fake(read_claim=STATUS)
    result, dummy = claim(appliance, has_token=True)
    assert (result["changed"], appliance.calls) == (False, ["read_claim"])


def test_claim_that_has_ended_is_taken_with_new_token() -> None:
    appliance = fake(read_claim=FREE, take_claim=STATUS)
    result, dummy = claim(appliance, has_token=True)
    assert (result["changed"], appliance.calls) == (True, ["read_claim", "take_claim"])


@pytest.mark.parametrize("has_token", [False, True])
def test_check_mode_only_reads(has_token: bool) -> None:
    appliance = fake(read_claim=FREE)
    result, dummy = claim(appliance, has_token=has_token, dry_run=True)
    assert (result["changed"], result["claim"], appliance.calls) == (True, None, ["read_claim"])


def test_check_mode_reports_claim_of_other_run() -> None:
    with pytest.raises(PreflightError) as caught:
        claim(fake(read_claim=ClaimStatus(OTHER, own=False)), dry_run=True)
    [problem] = caught.value.details["problems"]
    assert (problem["code"], problem["node"]) == ("cluster_claimed", "node1")
    assert OTHER.holder in problem["text"]


def test_release_ends_the_claim() -> None:
    assert release_claim(fake(release_claim=None).appliance, dry_run=False)["changed"] is True
    assert release_claim(fake().appliance, dry_run=True)["changed"] is False


def test_release_of_ended_claim_is_not_an_error() -> None:
    assert release_claim(fake(release_claim=REFUSED).appliance, dry_run=False)["changed"] is False


@pytest.mark.parametrize(("option", "value"), [("ttl", 9), ("ttl", 121), ("claim_wait", -1.0), ("claim_wait", 1e9)])
def test_claim_option_out_of_range_fails(option: str, value: float) -> None:
    params = {"ttl": 120, "claim_wait": 150.0, "new_claim": NEW, "holder": "h", "expect_node": "node1", "host": "n"}
    with pytest.raises(UtrustError) as caught:
        ClaimRequest.from_params({**params, option: value})
    assert caught.value.code == "option_invalid"


def test_release_without_claim_contacts_no_node() -> None:
    params = {"state": "absent", "cluster_claim": None}
    result = OPERATION.run(Invocation(params, False, lambda dummy: None, None))
    assert result == {"changed": False, "claim": None, "supported": True}


# Transport


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., FakeConnection]:
    def make(*responses: HttpResponse | Exception) -> FakeConnection:
        prepared = FakeConnection(*responses)
        monkeypatch.setattr(_json_client, "HttpsConnection", prepared)
        return prepared

    return make


def opened(token: str | None = TOKEN) -> t.Any:
    return TRANSPORTS["rest"](ENDPOINT, {"bearer_token": None, "retries": 0, "cluster_claim": token})


def test_every_request_carries_the_token(connection: t.Callable[..., FakeConnection]) -> None:
    """The header of a new claim replaces the token of a claim that has ended."""
    made = connection(
        make_response(200, example("NodeOperational")),
        make_response(200, example("ClaimFree")),
        make_response(200, example("ClaimStatus")),
        make_response(200, example("ClaimFree")),
    )
    appliance = opened()
    appliance.node()
    assert appliance.read_claim() == FREE
    assert appliance.take_claim(NEW, "holder", 60) == STATUS
    appliance.release_claim()
    assert [sent.headers["Cluster-Claim"] for sent in made.requests] == [TOKEN, TOKEN, NEW, TOKEN]
    assert made.sent[1:] == [("GET", CLAIM_PATH), ("PUT", CLAIM_PATH), ("DELETE", CLAIM_PATH)]
    assert json.loads(made.requests[2].body or b"") == {"holder": "holder", "ttl": 60}


def test_client_without_claim_sends_no_header(connection: t.Callable[..., FakeConnection]) -> None:
    made = connection(make_response(200, example("NodeOperational")))
    opened(None).node()
    assert "Cluster-Claim" not in made.requests[0].headers


def test_rejection_names_holder_and_end(connection: t.Callable[..., FakeConnection]) -> None:
    """The text of the node is free text, so the client shows the members of the claim."""
    connection(make_problem(409, "cluster_claimed", claim={**OTHER.to_dict(), "holder": "\x1b[2Kme"}))
    with pytest.raises(ApiError) as caught:
        opened().start_restore("front-usb", "node1")
    assert caught.value.code == "cluster_claimed"
    assert r"\x1b[2Kme has claimed the cluster until 2026-11-23T12:01:00Z" in str(caught.value)


@pytest.mark.parametrize("claim", [None, {}, {"holder": 7}, "text"])
def test_rejection_with_invalid_claim_keeps_its_code(claim: t.Any) -> None:
    problem = schema.parse_problem(make_problem(409, "cluster_claimed", claim=claim))
    assert (problem.code, problem.details) == ("cluster_claimed", {})


@pytest.mark.parametrize(
    "document",
    [
        example("ClaimFree"),
        {**example("ClaimStatus"), "own": False},
        {"claim": {}, "own": True},
        {**example("ClaimStatus"), "own": 1},
        [],
    ],
)
def test_accepted_claim_must_be_the_own_claim(connection: t.Callable[..., FakeConnection], document: t.Any) -> None:
    connection(make_response(200, document))
    with pytest.raises((ApiError, ResponseLostError)) as caught:
        opened().take_claim(NEW, "holder", 60)
    assert caught.value.code == "response_invalid"
