# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract docs/api/appliance-v1.yaml is consistent: examples, test vectors, limits, codes, headers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import typing as t
from pathlib import Path

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest
import yaml
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    KEY_LIST,
    RESTORE_JOB,
    STAGED_IMPORT,
    HsmKey,
)
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_document

API = Path(__file__).resolve().parents[2] / "docs/api"
TEXT = (API / "appliance-v1.yaml").read_text(encoding="utf-8")
CONTRACT: dict[str, t.Any] = yaml.safe_load(TEXT)
VECTORS: dict[str, t.Any] = json.loads((API / "keys-digest-vectors.json").read_text(encoding="utf-8"))
SCHEMAS: dict[str, t.Any] = CONTRACT["components"]["schemas"]
EXAMPLES: dict[str, t.Any] = CONTRACT["components"]["examples"]
LIMITS: dict[str, int] = CONTRACT["x-limits"]
METHODS = ("get", "post", "put", "patch", "delete")
EMPTY = "sha256:" + hashlib.sha256(b"").hexdigest()


def follow(value: t.Any) -> t.Any:
    while isinstance(value, dict) and str(value.get("$ref", "")).startswith("#/"):
        found: t.Any = CONTRACT
        for part in value["$ref"][2:].split("/"):
            found = found[part]
        value = found
    return value


def operations() -> t.Iterator[tuple[str, str, dict[str, t.Any]]]:
    for path, item in CONTRACT["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def media_types() -> t.Iterator[t.Any]:
    for method, path, operation in operations():
        bodies = dict(operation["responses"])
        if "requestBody" in operation:
            bodies["request"] = operation["requestBody"]
        for name, body in bodies.items():
            for kind, media in follow(body).get("content", {}).items():
                yield pytest.param(media, id=f"{method} {path} {name} {kind}")


def problems() -> dict[str, dict[str, t.Any]]:
    found = [*SCHEMAS["Problem"]["examples"]]
    found += [example["value"] for name, example in EXAMPLES.items() if name.startswith("problem_")]
    return {problem["code"]: problem for problem in found}


def errors(schema_of_value: t.Any, value: t.Any) -> list[str]:
    whole = {**schema_of_value, "components": CONTRACT["components"]}
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    found = jsonschema.Draft202012Validator(whole, format_checker=checker).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in found]


def members(value: t.Any, name: str) -> t.Iterator[t.Any]:
    """Yield the objects, at any depth, that have this member."""
    if isinstance(value, dict):
        if name in value:
            yield value
        for item in value.values():
            yield from members(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from members(item, name)


# Examples


@pytest.mark.parametrize("media", [*media_types()])
def test_contract_example_matches_schema(media: dict[str, t.Any]) -> None:
    assert media["examples"]
    found = [error for one in media["examples"].values() for error in errors(media["schema"], follow(one)["value"])]
    assert found == []


@pytest.mark.parametrize("name", ["Node", "Import", "Package", "Restore", "HsmKey"])
def test_contract_schema_rejects_missing_member(name: str) -> None:
    """The schemas of the contract hold for the examples of this test, so a missing member is an error."""
    examples = {
        "Node": "NodeOperational",
        "Import": "ImportStaged",
        "Package": "Package",
        "Restore": "RestoreWaiting",
    }
    value = EXAMPLES[examples[name]]["value"] if name in examples else EXAMPLES["KeyPage"]["value"]["hsm_keys"][0]
    assert errors({"$ref": f"#/components/schemas/{name}"}, value) == []
    for member in value:
        rest = {key: item for key, item in value.items() if key != member}
        assert errors({"$ref": f"#/components/schemas/{name}"}, rest), member


def test_contract_client_ignores_unknown_members() -> None:
    value = EXAMPLES["NodeOperational"]["value"]
    assert schema.parse_node({**value, "later": {"deep": [1]}}) == schema.parse_node(value)


def test_contract_examples_use_known_capabilities() -> None:
    listed = {name for node in members(EXAMPLES, "capabilities") for name in node["capabilities"]}
    assert listed == {KEY_LIST, STAGED_IMPORT, RESTORE_JOB, "cluster_claim"}
    description = SCHEMAS["Node"]["properties"]["capabilities"]["description"]
    assert all(f"`{name}`" in description for name in listed)


def test_contract_import_behavior_equals_client() -> None:
    """Client and contract know the same values, and each behavior can be unknown."""
    behavior = SCHEMAS["ImportBehavior"]["properties"]
    expected = {name: {*values, "unknown"} for name, values in schema.IMPORT_BEHAVIOR_VALUES.items()}
    assert {name: set(value["enum"]) for name, value in behavior.items()} == expected
    assert set(SCHEMAS["ImportBehavior"]["required"]) == set(behavior)
    assert {"capabilities", "import_behavior"} <= set(SCHEMAS["Node"]["required"])


def test_contract_examples_have_one_own_member() -> None:
    for node in members(EXAMPLES, "capabilities"):
        own = [member for member in node["cluster"]["members"] if member["node"] == node["name"]]
        assert [(member["joined"], member["connection"]) for member in own] == [(True, "connected")]


def test_contract_examples_have_digests_of_their_keys() -> None:
    """Every keys digest of an example is the digest of keys that another example lists."""
    pages = [EXAMPLES[name]["value"] for name in ("KeyPage", "KeyPageManyTypes", "KeyPageEmpty")]
    for page in pages:
        assert keys_digest(HsmKey(**key) for key in page["hsm_keys"]) == page["keys_digest"]
    listed = {page["keys_digest"] for page in pages}
    assert pages[2]["keys_digest"] == EMPTY
    failed = EXAMPLES["ImportFailed"]["value"]
    identity = SCHEMAS["KeyIdentity"]["required"]
    written = [{name: row[name] for name in identity} for row in failed["rows"] if row["outcome"] == "done"]
    assert keys_digest(HsmKey(**key) for key in written) == failed["keys_digest"]
    found = {item["keys_digest"] for item in members(EXAMPLES, "keys_digest")} - {None}
    found |= {item["expect_keys_digest"] for item in members(CONTRACT["paths"], "expect_keys_digest")}
    assert found <= listed | {failed["keys_digest"]}


def test_contract_examples_have_digest_of_package() -> None:
    path = CONTRACT["paths"]["/api/v1/hsm/packages/{package_id}/content"]["get"]
    media = path["responses"]["200"]["content"]["application/octet-stream"]
    content = media["examples"]["opaque"]["value"].encode()
    package = EXAMPLES["Package"]["value"]
    assert (package["size"], package["sha256"]) == (len(content), "sha256:" + hashlib.sha256(content).hexdigest())
    assert {item["sha256"] for item in members(EXAMPLES, "sha256")} == {package["sha256"], None}


def test_contract_examples_have_fingerprints_of_vectors() -> None:
    known = {vector["fingerprint"] for vector in VECTORS["fingerprint"]} | {"unknown"}
    assert {item["fingerprint"] for item in members(EXAMPLES, "fingerprint")} <= known


# Test vectors


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in VECTORS["keys_digest"]])
def test_keys_digest_equals_vector(vector: dict[str, t.Any]) -> None:
    lines = "".join(line + "\n" for line in vector["lines"]).encode("ascii")
    assert vector["keys_digest"] == "sha256:" + hashlib.sha256(lines).hexdigest()
    keys = [HsmKey(**key) for key in escape_document(vector["keys"])]
    assert keys_digest(keys) == keys_digest(reversed(keys)) == vector["keys_digest"]


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in VECTORS["keys_digest"]])
def test_keys_digest_vector_follows_rule(vector: dict[str, t.Any]) -> None:
    """The rule of the contract, written without a JSON encoder, gives the lines of the vector."""
    assert sorted(map(line_of, vector["keys"]), key=lambda line: line.encode("ascii")) == vector["lines"]
    for key in vector["keys"]:
        assert errors({"$ref": "#/components/schemas/KeyIdentity"}, key) == []


def line_of(key: dict[str, t.Any]) -> str:
    values = [key[name] for name in ("slot", "label", "id", "type", "size", "curve", "fingerprint")]
    return "[" + ",".join(map(json_of, values)) + "]"


def json_of(value: str | int | None) -> str:
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) else '"' + "".join(map(escape, value)) + '"'


def escape(character: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
    if character in short:
        return short[character]
    if " " <= character <= "~":
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["fingerprint"]) for one in VECTORS["fingerprint"]])
def test_fingerprint_vector_is_digest_of_public_key(vector: dict[str, t.Any]) -> None:
    row = {"slot": 0, "label": "", "id": "", **{n: vector[n] for n in ("type", "size", "curve", "fingerprint")}}
    assert errors({"$ref": "#/components/schemas/KeyIdentity"}, row) == []
    assert f"| `{vector['type']}`" in TEXT or f", `{vector['type']}`" in TEXT
    if "subject_public_key_info" in vector:
        public = base64.b64decode(vector["subject_public_key_info"], validate=True)
        assert vector["fingerprint"] == "sha256:" + hashlib.sha256(public).hexdigest()
    else:
        assert vector["fingerprint"].startswith("kcv:")


# Limits


def limited(value: t.Any, place: str = "") -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """Yield every schema that can be without limit: arrays, strings, numbers."""
    if isinstance(value, dict):
        kinds = value.get("type")
        if "properties" not in value and kinds and not isinstance(kinds, dict):
            yield place, value
        for name, item in value.items():
            if name not in ("examples", "example", "enum", "required"):
                yield from limited(item, f"{place}/{name}")
    elif isinstance(value, list):
        for item in value:
            yield from limited(item, place)


def test_contract_schemas_have_limits() -> None:
    """Every array, text and number of the contract has a maximum, except uploads and downloads."""
    found = []
    places = {"schemas": SCHEMAS, "paths": CONTRACT["paths"], "headers": CONTRACT["components"]["headers"]}
    for place, part in limited(places):
        kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
        required = {"array": "maxItems", "string": "maxLength", "integer": "maximum", "number": "maximum"}
        closed = "enum" in part or "const" in part or "contentMediaType" in part
        found += [place for kind in kinds if kind in required and required[kind] not in part and not closed]
    assert found == []


def test_contract_limits_equal_schemas() -> None:
    """The numbers in x-limits are those of the schemas."""
    keys = next(op for method, path, op in operations() if op["operationId"] == "listKeys")
    limit = keys["parameters"][0]["schema"]
    wait = next(op for method, path, op in operations() if op["operationId"] == "getRestore")["parameters"][0]["schema"]
    node = SCHEMAS["Node"]["properties"]
    of_import = SCHEMAS["Import"]["allOf"][1]["properties"]
    ttl = SCHEMAS["ClaimRequest"]["properties"]["ttl"]
    actual = {
        "package_bytes": SCHEMAS["PackageFacts"]["properties"]["size"]["maximum"],
        "page_keys": limit["maximum"],
        "page_keys_default": limit["default"],
        "keys": SCHEMAS["KeyCount"]["maximum"],
        "import_rows": of_import["rows"]["maxItems"],
        "slots": node["slots"]["maxItems"],
        "members": node["cluster"]["properties"]["members"]["maxItems"],
        "pin_pads": SCHEMAS["PinPadList"]["properties"]["pin_pads"]["maxItems"],
        "capabilities": node["capabilities"]["maxItems"],
        "list_objects": SCHEMAS["ImportList"]["properties"]["imports"]["maxItems"],
        "job_changes": SCHEMAS["Sequence"]["maximum"],
        "text": SCHEMAS["Text"]["maxLength"],
        "long_text": SCHEMAS["LongText"]["maxLength"],
        "name": SCHEMAS["Name"]["maxLength"],
        "label": SCHEMAS["KeyIdentity"]["properties"]["label"]["maxLength"],
        "wait_seconds": wait["maximum"],
        "retry_after_seconds": CONTRACT["components"]["headers"]["RetryAfter"]["schema"]["maximum"],
        "claim_ttl_min": ttl["minimum"],
        "claim_ttl_max": ttl["maximum"],
    }
    assert actual == {name: LIMITS[name] for name in actual}
    others = set(LIMITS) - set(actual)
    assert others == {name for name in others if name.endswith(("_seconds", "_bytes", "_depth"))}


def test_contract_text_uses_known_limits() -> None:
    """Each limit in a description, written as code, is in x-limits."""
    description = CONTRACT["info"]["description"]
    used = set(re.findall(r"`([a-z_]+_(?:seconds|bytes|depth|objects|changes))`", description + TEXT))
    assert used <= set(LIMITS)


# Problems and headers


def test_contract_codes_have_one_example() -> None:
    assert set(problems()) == set(SCHEMAS["ProblemCode"]["enum"])
    for code, problem in problems().items():
        assert problem["type"] == f"urn:keyops:utrust:{code}"
        assert errors({"$ref": "#/components/schemas/Problem"}, problem) == []


def test_contract_problems_have_status_of_response() -> None:
    for dummy, dummy_path, operation in operations():
        for status, response in operation["responses"].items():
            for media in follow(response).get("content", {}).values():
                values = [follow(one)["value"] for one in media["examples"].values()]
                assert {str(value.get("status", status)) for value in values if "code" in value} <= {status}


def test_contract_components_are_used() -> None:
    """Every component is referenced at least once. `method_not_allowed` is in the text, because no operation can list it."""
    used = set(re.findall(r"#/components/([a-z]+/[A-Za-z0-9_]+)", TEXT))
    kinds = ("schemas", "responses", "examples", "headers", "parameters")
    assert {f"{kind}/{name}" for kind in kinds for name in CONTRACT["components"][kind]} - used == set()
    assert "`method_not_allowed`" in CONTRACT["info"]["description"]


@pytest.mark.parametrize(
    ("status", "header"), [("401", "WWW-Authenticate"), ("429", "Retry-After"), ("503", "Retry-After")]
)
def test_contract_operations_require_header(status: str, header: str) -> None:
    for dummy, path, operation in operations():
        found = follow(operation["responses"][status])["headers"][header]
        assert follow(found)["required"], path


def test_contract_changing_operations_name_claim() -> None:
    """Every operation accepts the token. Every changing operation except the cancellation of a restore can be rejected because of the claim."""
    for method, path, operation in operations():
        parameters = [*CONTRACT["paths"][path].get("parameters", []), *operation.get("parameters", [])]
        assert "Cluster-Claim" in [follow(parameter)["name"] for parameter in parameters]
        if method != "get" and operation["operationId"] != "deleteRestore":
            examples = follow(operation["responses"]["409"])["content"]["application/problem+json"]["examples"]
            assert "cluster_claimed" in examples, path


def test_contract_post_requires_idempotency_key() -> None:
    for method, path, operation in operations():
        names = [follow(parameter)["name"] for parameter in operation.get("parameters", [])]
        assert ("Idempotency-Key" in names) == (method == "post"), path


def test_contract_delete_has_one_meaning() -> None:
    """Every DELETE returns 200 with the resource that GET returns, or 409."""
    found = [(path, op["responses"]) for method, path, op in operations() if method == "delete"]
    assert len(found) == 4
    for path, responses in found:
        assert {"200", "409"} <= set(responses)
        schemas = [
            listed["200"]["content"]["application/json"]["schema"]
            for listed in (responses, CONTRACT["paths"][path]["get"]["responses"])
        ]
        assert schemas[0] == schemas[1]
