# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parser of appliance API v1, with the examples of the contract."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import jobs, schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import ImportBehavior, Mbk, Node
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import parse_retry_after
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_document

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


NULLABLE_FACTS = ("clock", "key_count", "unusable_key_count", "keys_digest", "last_backup_at", "tls_expires_at")


def test_parse_node_reads_contract_example() -> None:
    node = schema.parse_node(example("NodeOperational"))
    assert (node.name, node.appliance_version, node.hsm_serial) == ("node1", "5.1.0", "UT000001")
    assert (node.hsm_state, node.alarm, node.driver, node.fips) == ("operational", None, "running", False)
    assert node.mbk == Mbk("KEYOPS", "5c1de3b2a4f60718", 2, 3)
    assert [slot.slot for slot in node.slots] == [0, 1]
    assert [(member.node, member.up) for member in node.members] == [("node1", True), ("node2", True), ("node3", False)]
    assert node.running is None


def test_parse_node_of_bridge_has_unknown_facts() -> None:
    """A bridge reports null for every fact that it cannot determine."""
    node = schema.parse_node(example("NodeBridge"))
    assert (node.keys_digest, node.key_count, node.unusable_key_count) == (None, None, None)
    assert node.capabilities.isdisjoint({"key_list"})
    facts = changed("NodeOperational", "running", {"kind": "backup", "id": None})
    for name in NULLABLE_FACTS:
        facts[name] = None
    facts["appliance"]["version"] = None
    facts["hsm"] |= {"firmware": None, "fips": None}
    facts["slots"][0] |= {"key_count": None, "activated": None}
    parsed = schema.parse_node(facts)
    assert (parsed.appliance_version, parsed.hsm_firmware, parsed.fips, parsed.clock) == (None, None, None, None)
    assert (parsed.slots[0].key_count, parsed.slots[0].activated) == (None, None)
    assert parsed.running == ("unknown", None)
    assert Node.from_dict(parsed.to_dict()) == parsed


def test_unknown_digest_equals_no_digest() -> None:
    node = schema.parse_node(example("NodeBridge"))
    assert node.has_keys(None) is None
    assert node.has_keys("sha256:" + "0" * 64) is None
    assert not node.usable_alike
    known = schema.parse_node(example("NodeOperational"))
    assert (known.has_keys(known.keys_digest), known.has_keys("sha256:0"), known.has_keys(None)) == (True, False, None)


def test_parse_opaque_package_has_unknown_facts() -> None:
    package = jobs.parse_package(example("PackageOpaque"))
    assert (package.source, package.mbk, package.key_count, package.keys_digest) == (None, None, None, None)
    assert package.single_download
    assert jobs.parse_package(example("PackagePreparing")).sha256 is None
    with pytest.raises(ApiError, match="although the package is ready"):
        jobs.parse_package(changed("Package", "sha256", None))


def test_parse_import_without_preview() -> None:
    staged = jobs.parse_import(changed("ImportStaged", "rows", None))
    assert staged.rows is None
    assert jobs.parse_import(changed("ImportStaged", "keys_digest", None)).keys_digest is None


def test_parse_restore_with_unknown_numbers() -> None:
    restore = jobs.parse_restore(changed("RestoreWaiting", "prompt.card", None))
    assert (restore.prompt_card, jobs.parse_restore(example("RestoreWaiting")).prompt_card) == (None, 2)
    assert jobs.parse_restore(changed("RestoreWaiting", "cards_required", None)).cards_required is None
    document = example("RestorePreview") | dict.fromkeys(("tls_fingerprint", "mbk", "cards_required", "cards_total"))
    document["source"] |= {"key_count": None, "keys_digest": None}
    preview = schema.parse_restore_preview(document)
    assert (preview.tls_fingerprint, preview.mbk, preview.cards_required, preview.source_keys_digest) == (None,) * 4


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


def test_parse_node_reads_capabilities() -> None:
    """Names that the collection does not know are ignored."""
    document = example("NodeOperational")
    assert schema.parse_node(document).capabilities == {"key_list", "staged_import", "restore_job", "cluster_claim"}
    assert schema.parse_node({**document, "capabilities": []}).capabilities == set()
    assert schema.parse_node({**document, "capabilities": ["brand_new"]}).capabilities == {"brand_new"}


@pytest.mark.parametrize("value", ["merging", "unknown"])
def test_parse_node_with_unknown_behavior_value(value: str) -> None:
    """A value that the collection does not know counts as unknown. The other values stay."""
    assert ImportBehavior() == ImportBehavior("unknown", "unknown", "unknown", "unknown", "unknown")
    node = schema.parse_node(changed("NodeOperational", "import_behavior.effect", value))
    assert node.import_behavior == ImportBehavior("unknown", "not_replicated", "all", "nothing", "not_required")


@pytest.mark.parametrize("version", ["9.0", "2.0", "0.9", "10.1"])
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
        (schema.parse_node, "NodeOperational", "capabilities", ...),
        (schema.parse_node, "NodeOperational", "import_behavior", ...),
        (schema.parse_node, "NodeOperational", "import_behavior.effect", ...),
        (schema.parse_node, "NodeOperational", "import_behavior.effect", ""),
        (schema.parse_node, "NodeOperational", "import_behavior.effect", None),
        (schema.parse_node, "NodeOperational", "import_behavior.effect", 7),
        (schema.parse_node, "NodeOperational", "import_behavior.effect", {}),
        *(
            (schema.parse_node, "NodeOperational", f"hsm.{name}", ...)
            for name in ("family", "firmware", "alarm_code", "fips")
        ),
        *((schema.parse_node, "NodeOperational", name, ...) for name in NULLABLE_FACTS),
        (schema.parse_node, "NodeOperational", "hsm.serial", ""),
        (schema.parse_node, "NodeOperational", "api_version", ""),
        (schema.parse_node, "NodeOperational", "cluster.members.0.address", ""),
        (schema.parse_node, "NodeOperational", "mbk.m", ...),
        (schema.parse_node, "NodeOperational", "mbk.name", ""),
        (schema.parse_node, "NodeOperational", "import_behavior", None),
        (schema.parse_node, "NodeOperational", "import_behavior", "overwriting"),
        (schema.parse_key_page, "KeyPage", "hsm_keys", None),
        (schema.parse_key_page, "KeyPage", "next_cursor", ...),
        (schema.parse_key_page, "KeyPage", "keys_digest", ...),
        (schema.parse_key_page, "KeyPage", "hsm_keys.1.fingerprint", ...),
        (schema.parse_key_page, "KeyPage", "hsm_keys.1.usable", ...),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.size", "3072"),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.label", 7),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.label", None),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.label", "x" * 129),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.type", "RSA 2"),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.type", "rsa\n"),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.id", "0x01"),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.slot", -1),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.size", 0),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.size", 10**30),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.curve", "\x1b"),
        (schema.parse_key_page, "KeyPage", "hsm_keys.0.fingerprint", "sha256:0"),
        (schema.parse_key_page, "KeyPage", "next_cursor", "a b"),
        (schema.parse_key_page, "KeyPage", "keys_digest", "sha256:00"),
        (schema.parse_key_page, "KeyPage", "hsm_keys", [{}] * 1001),
        (schema.parse_node, "NodeOperational", "name", "node1\n"),
        (schema.parse_node, "NodeOperational", "name", "../node1"),
        (schema.parse_node, "NodeOperational", "name", "n" * 65),
        (schema.parse_node, "NodeOperational", "hsm.state", "In Betrieb"),
        (schema.parse_node, "NodeOperational", "hsm.serial", "1" * 65),
        (schema.parse_node, "NodeOperational", "clock", "yesterday"),
        (schema.parse_node, "NodeOperational", "cluster.members", [{}] * 257),
        (schema.parse_node, "NodeOperational", "slots", [{}] * 1025),
        (schema.parse_node, "NodeOperational", "capabilities", ["x"] * 65),
        (schema.parse_node, "NodeOperational", "running", "import"),
        (jobs.parse_restore, "RestoreWaiting", "id", "ü"),
        (jobs.parse_restore, "RestoreWaiting", "id", "../1"),
        (jobs.parse_restore, "RestoreWaiting", "prompt.text", "x" * 201),
        (jobs.parse_restore, "RestoreWaiting", "seconds_left", -1),
        (jobs.parse_restore, "RestoreWaiting", "seconds_left", 10**9),
        (jobs.parse_restore, "RestoreWaiting", "sequence", 10_001),
        (jobs.parse_import, "ImportStaged", "id", "1b671a64f4e84f0bb0d5a1e1c1f1b002/"),
        (jobs.parse_package, "Package", "id", "ü"),
        (jobs.parse_package, "Package", "size", 10**12),
        (jobs.parse_package, "Package", "size", 0),
        (schema.parse_pin_pads, "PinPadList", "pin_pads.0.status", ...),
        (schema.parse_restore_preview, "RestorePreview", "mbk", ...),
        (schema.parse_restore_preview, "RestorePreview", "source.keys_digest", ...),
        (schema.parse_restore_preview, "RestorePreview", "cards_required", "2"),
        (jobs.parse_restore, "RestoreWaiting", "state", ...),
        (jobs.parse_restore, "RestoreWaiting", "prompt.text", ...),
        (jobs.parse_restore, "RestoreTimedOut", "problem.code", ...),
        (jobs.parse_restore, "RestoreWaiting", "seconds_left", "118"),
        (jobs.parse_restores, "RestoreList", "restores", ...),
        (jobs.parse_package, "Package", "sha256", ...),
        (jobs.parse_package, "Package", "size", "4096"),
        (jobs.parse_package, "Package", "mbk", ...),
        (jobs.parse_package, "Package", "single_download", None),
        (jobs.parse_import, "ImportStaged", "rows", ...),
        (jobs.parse_import, "ImportStaged", "rows.0.action", ...),
        (jobs.parse_import, "ImportStaged", "state", 1),
    ],
    ids=lambda value: getattr(value, "__name__", ascii(value)[:24]),
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


KEY_TYPES = ["eddsa", "x25519", "ml-dsa", "ml-kem", "slh-dsa", "des3", "frobnicate-9"]


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_parse_key_accepts_every_type(key_type: str) -> None:
    """A type that nobody knows yet is compared by the same fields, and some types have no size."""
    page = changed("KeyPage", "hsm_keys.1.type", key_type)
    page["hsm_keys"][1] |= {"size": None, "curve": "ML-DSA-65"}
    parsed = schema.parse_key_page(page)[0][1]
    assert (parsed.type, parsed.size, parsed.curve) == (key_type, None, "ML-DSA-65")


def test_parse_key_without_label() -> None:
    parsed = schema.parse_key_page(changed("KeyPage", "hsm_keys.1.label", ""))[0][1]
    assert parsed.label == ""
    assert str(parsed) == "slot 1 (no label) (kcv:f29000)"


def test_parse_key_keeps_the_printable_label() -> None:
    """An honest node accepts every label. The decoder makes it printable, and the keys digest uses the stored label."""
    page = escape_document(changed("KeyPage", "hsm_keys.1.label", "a\x1b[2K\r\u202eb"))
    parsed = schema.parse_key_page(page)[0][1]
    assert parsed.label == r"a\x1b[2K\r\u202eb"
    assert parsed.stored_label == "a\x1b[2K\r\u202eb"
    assert str(parsed) == r"slot 1 a\x1b[2K\r\u202eb (kcv:f29000)"


def test_parse_import_reads_preview_rows() -> None:
    staged = jobs.parse_import(example("ImportStaged"))
    assert [(row.key.label, row.action) for row in staged.rows or ()] == [("signKey-2026", "add"), ("backupKey", "add")]


def test_parse_restore_reads_prompt_notice_and_time() -> None:
    restore = jobs.parse_restore(example("RestoreWaiting"))
    assert restore.prompt == "Insert MBK card 2 of 2"
    assert restore.notice == ("card_already_used", "Card KEYOPS-1 was already used")
    assert (restore.cards_accepted, restore.cards_required, restore.seconds_left) == (1, 2, 118.0)
    assert not restore.finished


@pytest.mark.parametrize("name", ["RestoreSucceeded", "RestoreTimedOut", "RestoreCanceled"])
def test_parse_restore_ended_is_finished(name: str) -> None:
    assert jobs.parse_restore(example(name)).finished


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("2", 2.0),
        ("0", 0.0),
        ("9" * 400, float("inf")),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
    ]
    + [("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)
def test_parse_retry_after_accepts_seconds_only(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


@pytest.mark.parametrize(
    ("read", "name", "path"),
    [
        (schema.parse_node, "NodeOperational", "hsm.state"),
        (schema.parse_node, "NodeOperational", "slots.0.activation"),
        (schema.parse_node, "NodeOperational", "cluster.members.0.connection"),
        (jobs.parse_restore, "RestoreWaiting", "state"),
        (jobs.parse_import, "ImportStaged", "rows.0.action"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_parse_keeps_new_enum_values(read: t.Callable[[t.Any], t.Any], name: str, path: str) -> None:
    """A later minor version may add values. Such a value equals no known value, so every check treats it as unknown."""
    assert read(changed(name, path, "brand_new")) != read(example(name))


def test_parse_problem_escapes_text_and_drops_invalid_details() -> None:
    details = schema.parse_problem(
        make_problem(409, "import_in_progress", title="\x1b[2K", running_id="ü", configured=[7], keys_digest=["x"])
    )
    assert details == ("import_in_progress", r"\x1b[2K: why", {})


def test_parse_problem_returns_code_text_and_details() -> None:
    details = schema.parse_problem(
        make_problem(422, "pin_pad_not_configured", configured=["front-usb"], secret="never")
    )
    assert details == ("pin_pad_not_configured", "pin_pad_not_configured: why", {"configured": ["front-usb"]})


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"code": 7}', b"\xff\xfe", b'"text"', b'{"code": "A b"}', b"[" * 100_000]
)
def test_parse_problem_never_raises(body: bytes) -> None:
    details = schema.parse_problem(make_response(502, body))
    assert details.code == "response_not_problem_json"
    assert details.details == {}
