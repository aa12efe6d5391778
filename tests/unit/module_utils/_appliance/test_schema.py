# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parser of appliance API v1, with the examples of the contract."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import ImportBehavior, Mbk
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import parse_retry_after

from tests.support.factories import example
from tests.support.fakes import make_problem, make_response


def changed(name: str, path: str, value: t.Any) -> dict[str, t.Any]:
    """Return an example with another value at a dotted path. The value `...` removes the member."""
    document: t.Any = example(name)
    *parents, last = path.split(".")
    parent = document
    for step in parents:
        parent = parent[int(step) if step.isdigit() else step]
    if value is ...:
        del parent[last]
    else:
        parent[last] = value
    return t.cast("dict[str, t.Any]", document)


def test_parse_node_reads_contract_example() -> None:
    node = schema.parse_node(example("NodeOperational"))
    assert (node.name, node.appliance_version, node.hsm_serial) == ("node1", "5.1.0", "UT000001")
    assert (node.hsm_state, node.alarm, node.driver, node.fips) == ("operational", None, "running", False)
    assert node.mbk == Mbk("KEYOPS", "5c1de3b2a4f60718", 2, 3)
    assert [slot.slot for slot in node.slots] == [0, 1]
    assert [(member.node, member.up) for member in node.members] == [("node1", True), ("node2", True), ("node3", False)]
    assert node.running is None


def test_parse_node_in_factory_reset_has_no_mbk() -> None:
    node = schema.parse_node(example("NodeFactoryReset"))
    assert (node.hsm_state, node.mbk, node.slots) == ("factory_reset", None, ())


def test_parse_node_without_card_numbers() -> None:
    document = changed("NodeOperational", "mbk.m", None)
    document["mbk"]["n"] = None
    assert schema.parse_node(document).mbk == Mbk("KEYOPS", "5c1de3b2a4f60718")


def test_parse_node_ignores_unknown_members() -> None:
    assert schema.parse_node(changed("NodeOperational", "hsm.news", {"a": 1})) == schema.parse_node(
        example("NodeOperational")
    )
    assert schema.parse_node(changed("NodeOperational", "api_version", "1.7")).name == "node1"


def test_parse_node_without_capabilities_has_none() -> None:
    document = example("NodeOperational")
    assert schema.parse_node(document).capabilities == {"key_list", "staged_import", "restore_job"}
    del document["capabilities"]
    assert schema.parse_node(document).capabilities == set()
    assert schema.parse_node({**document, "capabilities": []}).capabilities == set()


def test_parse_node_without_import_behavior_is_unknown() -> None:
    unknown = ImportBehavior("unknown", "unknown", "unknown", "unknown", "unknown")
    assert ImportBehavior() == unknown
    assert schema.parse_node(changed("NodeOperational", "import_behavior", ...)).import_behavior == unknown
    assert schema.parse_node(changed("NodeOperational", "import_behavior", {})).import_behavior == unknown


@pytest.mark.parametrize("value", ["merging", "", None, 7, ["additive"], {}])
def test_parse_node_with_unknown_behavior_value(value: t.Any) -> None:
    """An unknown value, or a value of another type, counts as unknown. The other values stay."""
    node = schema.parse_node(changed("NodeOperational", "import_behavior.effect", value))
    assert node.import_behavior == ImportBehavior("unknown", "stay", "all", "nothing", "never")


@pytest.mark.parametrize("version", ["9.0", "2.0", "0.9", "10.1", ""])
def test_parse_node_rejects_other_major_version(version: str) -> None:
    with pytest.raises(ApiError, match="Update the collection") as caught:
        schema.parse_node(changed("NodeOperational", "api_version", version))
    assert caught.value.details == {"code": "api_version_unknown", "api_version": version}


@pytest.mark.parametrize(
    ("read", "name", "path", "value"),
    [
        (schema.parse_node, "NodeOperational", "api_version", ...),
        (schema.parse_node, "NodeOperational", "hsm", ...),
        (schema.parse_node, "NodeOperational", "hsm.state", None),
        (schema.parse_node, "NodeOperational", "hsm.fips", "no"),
        (schema.parse_node, "NodeOperational", "mbk.check_value", 7),
        (schema.parse_node, "NodeOperational", "mbk", "KEYOPS"),
        (schema.parse_node, "NodeOperational", "mbk", ...),
        (schema.parse_node, "NodeOperational", "key_count", True),
        (schema.parse_node, "NodeOperational", "key_count", "2"),
        (schema.parse_node, "NodeOperational", "slots", {}),
        (schema.parse_node, "NodeOperational", "slots.1.activated", 1),
        (schema.parse_node, "NodeOperational", "cluster.members.2.joined", ...),
        (schema.parse_node, "NodeOperational", "running", [1]),
        (schema.parse_node, "NodeOperational", "capabilities", None),
        (schema.parse_node, "NodeOperational", "import_behavior", None),
        (schema.parse_node, "NodeOperational", "import_behavior", "overwriting"),
        (schema.parse_key_page, "KeyPage", "hsm_keys", None),
        (schema.parse_key_page, "KeyPage", "next_cursor", ...),
        (schema.parse_key_page, "KeyPage", "keys_digest", ...),
        (schema.parse_key_page, "KeyPage", "hsm_keys.1.fingerprint", ...),
        (schema.parse_key_page, "KeyPage", "hsm_keys.1.usable", ...),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.size", "3072"),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.label", None),
        (schema.parse_pin_pads, "PinPadList", "pin_pads.0.status", ...),
        (schema.parse_restore_preview, "RestorePreview", "mbk", None),
        (schema.parse_restore_preview, "RestorePreview", "source.keys_digest", ...),
        (schema.parse_restore_preview, "RestorePreview", "cards_required", "2"),
        (schema.parse_restore, "RestoreWaiting", "state", ...),
        (schema.parse_restore, "RestoreWaiting", "prompt.text", ...),
        (schema.parse_restore, "RestoreTimedOut", "problem.code", ...),
        (schema.parse_restore, "RestoreWaiting", "seconds_left", "118"),
        (schema.parse_restores, "RestoreList", "restores", ...),
        (schema.parse_package, "Package", "sha256", ...),
        (schema.parse_package, "Package", "size", "4096"),
        (schema.parse_package, "Package", "mbk", None),
        (schema.parse_import, "ImportStaged", "rows", ...),
        (schema.parse_import, "ImportStaged", "rows.0.action", ...),
        (schema.parse_import, "ImportStaged", "state", 1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_parse_invalid_document_names_member(
    read: t.Callable[[t.Any], t.Any], name: str, path: str, value: t.Any
) -> None:
    read(example(name))
    with pytest.raises(ApiError) as caught:
        read(changed(name, path, value))
    assert caught.value.code == "response_invalid"
    assert f"'{path.rpartition('.')[2]}'" in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_parse_node_rejects_non_object(document: t.Any) -> None:
    with pytest.raises(ApiError, match="expected an object") as caught:
        schema.parse_node(document)
    assert caught.value.code == "response_invalid"


def test_parse_key_page_rejects_unknown_key_type() -> None:
    with pytest.raises(ApiError) as caught:
        schema.parse_key_page(changed("KeyPage", "hsm_keys.1.type", "ml_dsa"))
    assert caught.value.details == {"code": "unknown_key_type", "key_type": "ml_dsa"}
    assert "backupKey" in str(caught.value)
    assert "Update the collection" in str(caught.value)


def test_parse_import_reads_preview_rows() -> None:
    staged = schema.parse_import(example("ImportStaged"))
    assert [(row.key.label, row.action) for row in staged.rows] == [("signKey-2026", "add"), ("backupKey", "add")]


def test_parse_restore_reads_prompt_notice_and_time() -> None:
    restore = schema.parse_restore(example("RestoreWaiting"))
    assert restore.prompt == "Insert MBK card 2 of 2"
    assert restore.notice == ("card_already_used", "Card KEYOPS-1 was already used")
    assert (restore.cards_accepted, restore.cards_required, restore.seconds_left) == (1, 2, 118.0)
    assert not restore.finished


@pytest.mark.parametrize("name", ["RestoreSucceeded", "RestoreTimedOut", "RestoreCanceled"])
def test_parse_restore_ended_is_finished(name: str) -> None:
    assert schema.parse_restore(example(name)).finished


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("2", 2.0), ("0", 0.0), ("", None), ("-1", None), ("1.5", None), ("²", None)]
    + [("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)
def test_parse_retry_after_accepts_seconds_only(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_parse_problem_returns_code_text_and_details() -> None:
    details = schema.parse_problem(
        make_problem(422, "pin_pad_not_configured", configured=["front-usb"], secret="never")
    )
    assert details == ("pin_pad_not_configured", "pin_pad_not_configured: why", {"configured": ["front-usb"]})


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code": 7}', b"\xff\xfe", b'"text"'])
def test_parse_problem_never_raises(body: bytes) -> None:
    details = schema.parse_problem(make_response(502, body))
    assert details.code == "response_not_problem_json"
    assert details.details == {}
