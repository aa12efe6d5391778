# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract docs/api/appliance-v1.yaml is consistent, and the simulator implements it."""

from __future__ import annotations

import typing as t
from pathlib import Path

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest
import yaml
from utrust_appliance.errors import CODES
from utrust_appliance.web import node_api, package_api, restore_api

CONTRACT = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8")
)
METHODS = ("get", "post", "put", "patch", "delete")


def follow(value: t.Any) -> t.Any:
    while isinstance(value, dict) and "$ref" in value and value["$ref"].startswith("#/"):
        found = CONTRACT
        for part in value["$ref"][2:].split("/"):
            found = found[part]
        value = found
    return value


def media_with_examples() -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    for path, item in CONTRACT["paths"].items():
        for method in (name for name in METHODS if name in item):
            operation = item[method]
            bodies = {f"{status}": follow(response) for status, response in operation["responses"].items()}
            if "requestBody" in operation:
                bodies["request"] = operation["requestBody"]
            for name, body in bodies.items():
                for kind, media in body.get("content", {}).items():
                    yield f"{method} {path} {name} {kind}", media
    for name, response in CONTRACT["components"]["responses"].items():
        for kind, media in response.get("content", {}).items():
            yield f"{name} {kind}", media


@pytest.mark.parametrize(
    ("place", "media"), [pytest.param(place, media, id=place) for place, media in media_with_examples()]
)
def test_contract_examples_match_schemas(place: str, media: dict[str, t.Any]) -> None:
    """Every example matches its schema."""
    assert media["examples"], f"{place} has no example"
    schema = {**media["schema"], "components": CONTRACT["components"]}
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    for example in media["examples"].values():
        jsonschema.Draft202012Validator(schema, format_checker=checker).validate(follow(example)["value"])


def test_contract_codes_match_simulator() -> None:
    """Every code has an example with the status and title of the simulator."""
    examples = {
        name.removeprefix("problem_"): follow(example)["value"]
        for name, example in CONTRACT["components"]["examples"].items()
        if name.startswith("problem_")
    }
    assert set(examples) == set(CONTRACT["components"]["schemas"]["ProblemCode"]["enum"]) == set(CODES)
    for code, example in examples.items():
        assert (example["code"], example["status"], example["title"]) == (code, *CODES[code])
        assert example["type"] == f"urn:keyops:utrust:{code}"


def test_contract_operations_match_simulator() -> None:
    """The simulator implements exactly the operations of the contract."""
    expected = {
        (method.upper(), path) for path, item in CONTRACT["paths"].items() for method in METHODS if method in item
    }
    routes = [*node_api.ROUTES, *restore_api.ROUTES, *package_api.ROUTES]
    assert {(method, f"/api/v1{path}") for method, path, dummy in routes} == expected


def test_contract_status_documented_with_code() -> None:
    """Every response has the status of its codes."""
    for name, response in CONTRACT["components"]["responses"].items():
        for example in response["content"]["application/problem+json"]["examples"].values():
            problem = follow(example)["value"]
            statuses = {
                status
                for item in CONTRACT["paths"].values()
                for method in METHODS
                if method in item
                for status, response in item[method]["responses"].items()
                if response.get("$ref", "").endswith(f"/{name}")
            }
            assert statuses <= {str(problem["status"])}, f"{name} names {problem['code']}, which is {problem['status']}"
