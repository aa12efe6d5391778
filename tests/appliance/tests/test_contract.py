# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The simulator implements the contract docs/api/appliance-v1.yaml. Its consistency: tests/unit/test_contract.py."""

from __future__ import annotations

from pathlib import Path

import yaml
from utrust_appliance.claims import RETRY_AFTER
from utrust_appliance.cluster import Options
from utrust_appliance.errors import CODES, JOB_TITLES, ApiError
from utrust_appliance.jobs.turns import PATIENCE
from utrust_appliance.store import JOB_CHANGES, LIST_OBJECTS, RETENTION_SECONDS
from utrust_appliance.web import claim_api, node_api, package_api, restore_api

CONTRACT = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8")
)
METHODS = ("get", "post", "put", "patch", "delete")


def test_contract_codes_match_simulator() -> None:
    """Every code has an example with the status and title of the simulator."""
    examples = [
        *CONTRACT["components"]["schemas"]["Problem"]["examples"],
        *(one["value"] for name, one in CONTRACT["components"]["examples"].items() if name.startswith("problem_")),
    ]
    assert {one["code"]: (one["status"], one["title"]) for one in examples} == CODES


def test_contract_job_problems_match_simulator() -> None:
    """The simulator has every reason for the end of a job, with the titles of the examples."""
    schema = CONTRACT["components"]["schemas"]["JobProblem"]["oneOf"][0]
    assert set(schema["properties"]["code"]["enum"]) == set(JOB_TITLES)
    values = [one["value"] for one in CONTRACT["components"]["examples"].values()]
    problems = [value["problem"] for value in values if value.get("problem")]
    assert len(problems) > 4
    assert {one["code"]: one["title"] for one in problems}.items() <= JOB_TITLES.items()


def test_contract_limits_match_simulator() -> None:
    """The limits of the simulator are the limits of the contract."""
    limits = CONTRACT["x-limits"]
    expected = (limits["list_objects"], limits["job_changes"], limits["retention_seconds"])
    assert expected == (LIST_OBJECTS, JOB_CHANGES, RETENTION_SECONDS)
    assert limits["listing_seconds"] > PATIENCE
    assert (limits["claim_ttl_min"], limits["claim_ttl_max"]) == claim_api.TTL
    assert limits["text"] == claim_api.MAX_HOLDER
    assert Options().request_time == limits["request_seconds"]
    assert int(RETRY_AFTER) <= limits["retry_after_seconds"]


def test_contract_required_headers_match_simulator() -> None:
    """An error has the headers that the contract requires for its response."""
    headers = CONTRACT["components"]["headers"]
    checked = set()
    for response in CONTRACT["components"]["responses"].values():
        required = {
            name
            for name, one in response.get("headers", {}).items()
            if headers[one["$ref"].rpartition("/")[2]]["required"]
        }
        for example in response["content"]["application/problem+json"]["examples"].values():
            code = example["$ref"].rpartition("/problem_")[2]
            assert required <= set(ApiError(code, "detail").headers), code
            checked |= required
    assert checked == {"Retry-After", "WWW-Authenticate"}


def test_contract_operations_match_simulator() -> None:
    """The simulator implements exactly the operations of the contract."""
    expected = {
        (method.upper(), path) for path, item in CONTRACT["paths"].items() for method in METHODS if method in item
    }
    routes = [*node_api.ROUTES, *claim_api.ROUTES, *restore_api.ROUTES, *package_api.ROUTES]
    assert {(method, f"/api/v1{path}") for method, path, dummy in routes} == expected
