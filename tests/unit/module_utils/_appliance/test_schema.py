# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents of appliance API v1 to data types, with the contract's own examples."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Mbk
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import parse_retry_after

from tests.support.factories import example
from tests.support.fakes import answer, problem


def changed(name: str, path: str, value: t.Any) -> dict[str, t.Any]:
    """An example with another value at a dotted path; `...` removes the member."""
    document: t.Any = example(name)
    *way, last = path.split(".")
    spot = document
    for step in way:
        spot = spot[int(step) if step.isdigit() else step]
    if value is ...:
        del spot[last]
    else:
        spot[last] = value
    return t.cast("dict[str, t.Any]", document)


def test_a_node_is_read_as_the_contract_shows_it() -> None:
    node = schema.node(example("NodeOperational"))
    assert (node.name, node.appliance_version, node.hsm_serial) == ("node1", "5.1.0", "UT000001")
    assert (node.hsm_state, node.alarm, node.driver, node.fips) == ("operational", None, "running", False)
    assert node.mbk == Mbk("KEYOPS", "5c1de3b2a4f60718", 2, 3)
    assert [slot.slot for slot in node.slots] == [0, 1]
    assert [(member.node, member.up) for member in node.members] == [("node1", True), ("node2", True), ("node3", False)]
    assert node.running is None


def test_a_node_in_factory_reset_mode_holds_no_mbk() -> None:
    node = schema.node(example("NodeFactoryReset"))
    assert (node.hsm_state, node.mbk, node.slots) == ("factory_reset", None, ())


def test_a_node_may_keep_the_number_of_cards_to_itself() -> None:
    document = changed("NodeOperational", "mbk.m", None)
    document["mbk"]["n"] = None
    assert schema.node(document).mbk == Mbk("KEYOPS", "5c1de3b2a4f60718")


def test_members_that_this_version_does_not_know_are_ignored() -> None:
    assert schema.node(changed("NodeOperational", "hsm.news", {"a": 1})) == schema.node(example("NodeOperational"))
    assert schema.node(changed("NodeOperational", "api_version", "1.7")).name == "node1"


@pytest.mark.parametrize("version", ["9.0", "2.0", "0.9", "10.1", ""])
def test_another_major_version_of_the_contract_is_refused(version: str) -> None:
    with pytest.raises(ApiError, match="update the collection") as caught:
        schema.node(changed("NodeOperational", "api_version", version))
    assert caught.value.details == {"code": "api_version_unknown", "api_version": version}


@pytest.mark.parametrize(
    ("read", "name", "path", "value"),
    [
        (schema.node, "NodeOperational", "api_version", ...),
        (schema.node, "NodeOperational", "hsm", ...),
        (schema.node, "NodeOperational", "hsm.state", None),
        (schema.node, "NodeOperational", "hsm.fips", "no"),
        (schema.node, "NodeOperational", "mbk.check_value", 7),
        (schema.node, "NodeOperational", "mbk", "KEYOPS"),
        (schema.node, "NodeOperational", "mbk", ...),
        (schema.node, "NodeOperational", "key_count", True),
        (schema.node, "NodeOperational", "key_count", "2"),
        (schema.node, "NodeOperational", "slots", {}),
        (schema.node, "NodeOperational", "slots.1.activated", 1),
        (schema.node, "NodeOperational", "cluster.members.2.joined", ...),
        (schema.node, "NodeOperational", "running", [1]),
        (schema.key_page, "KeyPage", "hsm_keys", None),
        (schema.key_page, "KeyPage", "next_cursor", ...),
        (schema.key_page, "KeyPage", "keys_digest", ...),
        (schema.key_page, "KeyPage", "hsm_keys.1.fingerprint", ...),
        (schema.key_page, "KeyPage", "hsm_keys.1.usable", ...),
        (schema.key_page, "KeyPage", "hsm_keys.0.size", "3072"),
        (schema.key_page, "KeyPage", "hsm_keys.0.label", None),
        (schema.pin_pads, "PinPadList", "pin_pads.0.status", ...),
        (schema.restore_preview, "RestorePreview", "mbk", None),
        (schema.restore_preview, "RestorePreview", "source.keys_digest", ...),
        (schema.restore_preview, "RestorePreview", "cards_required", "2"),
        (schema.restore, "RestoreWaiting", "state", ...),
        (schema.restore, "RestoreWaiting", "prompt.text", ...),
        (schema.restore, "RestoreTimedOut", "problem.code", ...),
        (schema.restore, "RestoreWaiting", "seconds_left", "118"),
        (schema.restores, "RestoreList", "restores", ...),
        (schema.package, "Package", "sha256", ...),
        (schema.package, "Package", "size", "4096"),
        (schema.package, "Package", "mbk", None),
        (schema.import_, "ImportStaged", "rows", ...),
        (schema.import_, "ImportStaged", "rows.0.action", ...),
        (schema.import_, "ImportStaged", "state", 1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_document_that_breaks_the_contract_is_an_error_that_names_the_member(
    read: t.Callable[[t.Any], t.Any], name: str, path: str, value: t.Any
) -> None:
    read(example(name))
    with pytest.raises(ApiError) as caught:
        read(changed(name, path, value))
    assert caught.value.code == "response_invalid"
    assert f"'{path.rpartition('.')[2]}'" in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_an_answer_that_is_no_object_is_an_error(document: t.Any) -> None:
    with pytest.raises(ApiError, match="expected an object") as caught:
        schema.node(document)
    assert caught.value.code == "response_invalid"


def test_a_key_of_an_unknown_type_stops_the_reading_and_is_named() -> None:
    with pytest.raises(ApiError) as caught:
        schema.key_page(changed("KeyPage", "hsm_keys.1.type", "ml_dsa"))
    assert caught.value.details == {"code": "unknown_key_type", "key_type": "ml_dsa"}
    assert "backupKey" in str(caught.value)
    assert "Update the collection" in str(caught.value)


def test_the_table_of_an_import_is_read_with_what_it_would_do() -> None:
    staged = schema.import_(example("ImportStaged"))
    assert [(row.key.label, row.action) for row in staged.rows] == [("signKey-2026", "add"), ("backupKey", "add")]


def test_a_restore_that_waits_is_read_with_prompt_notice_and_time() -> None:
    restore = schema.restore(example("RestoreWaiting"))
    assert restore.prompt == "Insert MBK card 2 of 2"
    assert restore.notice == ("card_already_used", "Card KEYOPS-1 was already used")
    assert (restore.cards_accepted, restore.cards_required, restore.seconds_left) == (1, 2, 118.0)
    assert not restore.finished


@pytest.mark.parametrize("name", ["RestoreSucceeded", "RestoreTimedOut", "RestoreCanceled"])
def test_a_restore_that_has_ended_says_so(name: str) -> None:
    assert schema.restore(example(name)).finished


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("2", 2.0), ("0", 0.0), ("", None), ("-1", None), ("1.5", None), ("²", None)]
    + [("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)
def test_retry_after_is_seconds_or_nothing(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_a_refusal_is_told_in_the_nodes_own_words() -> None:
    told = schema.problem(problem(422, "pin_pad_not_configured", configured=["front-usb"], secret="never"))
    assert told == ("pin_pad_not_configured", "pin_pad_not_configured: why", {"configured": ["front-usb"]})


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code": 7}', b"\xff\xfe", b'"text"'])
def test_any_body_of_a_refusal_is_survived(body: bytes) -> None:
    told = schema.problem(answer(502, body))
    assert told.code == "response_not_problem_json"
    assert told.details == {}
