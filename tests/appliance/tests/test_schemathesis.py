# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Schemathesis searches for responses that violate the contract."""

from __future__ import annotations

import hashlib
import re
import secrets
import typing as t
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    missing_required_header,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
    use_after_free,
)
from utrust_appliance.testing import Api, cluster
from utrust_appliance.web.checks import as_content_digest
from utrust_appliance.web.claim_api import TOKEN

from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

CONTRACT = Path(__file__).resolve().parents[3] / "docs/api/appliance-v1.yaml"
DIGEST = re.compile(r"sha-256=:[A-Za-z0-9+/]{43}=:")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    missing_required_header,
    unsupported_method,
    ignored_auth,
    use_after_free,
]
EXAMPLES = 20
POSITIVE = CHECKS[:5]
schema = schemathesis.openapi.from_path(CONTRACT)


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, keys=3, claim_second=0.01) as running:
        before = running.keys("node1")
        yield running
        # After all requests, node1 has the same keys, no internal error and no file of an upload.
        assert running.keys("node1") == before
        assert "Traceback" not in (running.folder / "log").read_text(encoding="utf-8")
        assert not list(running.folder.glob("nodes/*/imports/*.part"))


@pytest.fixture(autouse=True)
def free(control: Control) -> None:
    """Wait until the claims of earlier tests have ended."""
    wait_for(lambda: Api(control, "node1")("GET", "/cluster/claim").data["claim"] is None)


def without_ended_claim(case: t.Any) -> None:
    """Remove valid tokens of claims, because each of them would stop the request with claim_ended."""
    of_object = case.operation.method.upper() in ("POST", "DELETE") and not case.operation.path.endswith("/claim")
    if of_object and TOKEN.fullmatch(str(case.headers.get("Cluster-Claim", ""))):
        del case.headers["Cluster-Claim"]


def with_fitting_digest(case: t.Any) -> None:
    """Set the correct digest, because a wrong digest would stop every upload at the first check."""
    if case.operation.label != "POST /api/v1/hsm/imports" or not DIGEST.fullmatch(
        str(case.headers.get("Content-Digest", ""))
    ):
        return
    body = case.body if isinstance(case.body, bytes) else str(case.body).encode()
    case.headers["Content-Digest"] = as_content_digest(hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("name", ["node1", "node2"])
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_every_response_matches_contract(case: t.Any, control: Control, name: str) -> None:
    """Every response matches the contract."""
    with_fitting_digest(case)
    without_ended_claim(case)
    case.call_and_validate(
        base_url=control.node(name)["url"],
        headers={"Authorization": f"Bearer {control.token}"},
        verify=str(control.ca_file),
        checks=CHECKS,
    )


class Walk:
    """Calls operations of the contract with existing objects, and checks each response as above.

    The link feature of Schemathesis depends on earlier responses, which Hypothesis reports as flaky.
    """

    def __init__(self, control: Control, name: str) -> None:
        self._url = control.node(name)["url"]
        self._token, self._ca = control.token, str(control.ca_file)

    def __call__(self, label: str, expected: int, **parts: t.Any) -> t.Any:
        method, path = label.split()
        headers = {"Authorization": f"Bearer {self._token}", **parts.pop("headers", {})}
        if method == "POST":
            headers["Idempotency-Key"] = secrets.token_hex(16)
        place = path if path.startswith("/cluster") else f"/hsm{path}"
        case = schema[f"/api/v1{place}"][method].Case(headers=headers, **parts)
        response = case.call(base_url=self._url, verify=self._ca)
        assert response.status_code == expected, response.text
        case.validate_response(response, checks=POSITIVE, headers=headers)
        return response


def test_package_responses_match_contract(control: Control) -> None:
    """Responses about existing packages and imports match the contract."""
    walk = Walk(control, "node1")
    kind = {"media_type": "application/json", "body": {}}
    package = {"package_id": walk("POST /packages", 201, **kind).json()["id"]}
    walk("GET /packages", 200)
    walk("GET /packages/{package_id}", 200, path_parameters=package)
    content = walk("GET /packages/{package_id}/content", 200, path_parameters=package).content
    for dummy in range(2):
        walk("DELETE /packages/{package_id}", 200, path_parameters=package)
    walk("GET /packages/{package_id}", 200, path_parameters=package)
    walk("GET /packages/{package_id}/content", 409, path_parameters=package)
    walk("GET /packages", 200)
    digest = {"Content-Digest": as_content_digest(hashlib.sha256(content).hexdigest())}
    upload = {"media_type": "application/octet-stream", "body": content, "headers": digest}
    staged = walk("POST /imports", 201, **upload).json()
    place = {"path_parameters": {"import_id": staged["id"]}}
    walk("GET /imports", 200)
    walk("GET /imports/{import_id}", 200, **place)
    json_body = {**place, "media_type": "application/json"}
    walk("POST /imports/{import_id}/apply", 400, **json_body, body={})
    walk("POST /imports/{import_id}/apply", 409, **json_body, body={"expect_keys_digest": f"sha256:{'0' * 64}"})
    walk("POST /imports/{import_id}/apply", 200, **json_body, body={"expect_keys_digest": staged["keys_digest"]})
    walk("GET /imports/{import_id}", 200, **place)
    walk("DELETE /imports/{import_id}", 200, **place)
    other = {"path_parameters": {"import_id": walk("POST /imports", 201, **upload).json()["id"]}}
    for dummy in range(2):
        walk("DELETE /imports/{import_id}", 200, **other)
    walk("GET /imports", 200)
    tag = walk("GET /keys", 200).headers["etag"][0]
    walk("GET /keys", 304, headers={"If-None-Match": tag})


def test_claim_responses_match_contract(control: Control) -> None:
    """Responses about a claim, and about objects of a claimed cluster, match the contract."""
    walk, claim = Walk(control, "node1"), "/cluster/claim"
    own, other = ({"headers": {"Cluster-Claim": token * 24}} for token in "ab")
    body = {"media_type": "application/json", "body": {"holder": "walk", "ttl": 120}}
    package = {"media_type": "application/json", "body": {}}
    walk(f"GET {claim}", 200)
    walk(f"PUT {claim}", 200, **own, **body)
    walk(f"PUT {claim}", 409, **other, **body)
    walk(f"DELETE {claim}", 409, **other)
    walk(f"GET {claim}", 200, **own)
    walk(f"GET {claim}", 200)
    walk("POST /packages", 409, **package)
    walk("POST /packages", 409, **other, **package)
    made = {"path_parameters": {"package_id": walk("POST /packages", 201, **own, **package).json()["id"]}}
    walk("DELETE /packages/{package_id}", 409, **made)
    walk(f"DELETE {claim}", 200, **own)
    assert walk("GET /packages/{package_id}", 200, **made).json()["problem"]["code"] == "claim_ended"
    walk("POST /packages", 409, **own, **package)
    walk(f"DELETE {claim}", 200, **own)


def test_restore_responses_match_contract(control: Control) -> None:
    """Responses about an existing restore match the contract."""
    walk = Walk(control, "node2")
    if control.node("node2")["running"]:
        control.cancel_at_pin_pad("node2")  # earlier tests can leave a restore
    walk("GET /restore-preview", 200, query={"pin_pad": "front-usb", "source": "node1"})
    start = {"media_type": "application/json", "body": {"pin_pad": "front-usb", "source": "node1"}}
    first = {"path_parameters": {"restore_id": walk("POST /restores", 201, **start).json()["id"]}}
    walk("POST /restores", 409, **start)
    walk("DELETE /restores/{restore_id}", 200, **first)
    second = {"path_parameters": {"restore_id": walk("POST /restores", 201, **start).json()["id"]}}
    control.insert_card("node2", "KEYOPS-1")
    walk("GET /restores/{restore_id}", 200, **second)
    control.enter_pin("node2", "wrong")
    walk("GET /restores", 200, query={"state": "running"})
    control.enter_pin("node2", control.pin_of("KEYOPS-1"))
    control.present_card("node2", "KEYOPS-2")
    while control.node("node2")["running"]:
        walk("GET /restores/{restore_id}", 200, **second)
    walk("GET /restores/{restore_id}", 200, **second)
    walk("DELETE /restores/{restore_id}", 200, **second)
    walk("GET /restores", 200)
