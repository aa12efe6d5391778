# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A commissioning record as a file."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_COMMISSIONING_BYTES
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning import record_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.record_file import parse, serialize
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.renew import renew_record
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.signing import load_signing_key
from hypothesis import given
from hypothesis import strategies as st

from tests.support.commissioning import content, edit, facts_of, maker, public_pem, record, write_keys

if t.TYPE_CHECKING:
    from pathlib import Path

RECORD = record()
BYTES = serialize(RECORD)


def code_of(call: t.Callable[[], t.Any]) -> str:
    with pytest.raises(UtrustError) as caught:
        call()
    return caught.value.code


def test_record_without_ejbca_and_canary_key_has_a_shape() -> None:
    nodes = {"node1": facts_of("node1", ejbca=None, mbk_check_value=None)}
    document = record(nodes=nodes, canary_key=None, declared_by="Ada")
    assert parse(serialize(document), "x") == document


@given(st.one_of(st.binary(max_size=300), st.integers(0, len(BYTES) - 1), st.text(max_size=3)))
def test_parsed_record_has_the_bytes_of_its_file(change: bytes | int | str) -> None:
    """Any other spelling of a record is refused, so people and program read the same bytes."""
    if isinstance(change, bytes):
        given_bytes = change
    elif isinstance(change, int):
        given_bytes = BYTES[:change] + BYTES[change + 1 :]
    else:
        given_bytes = BYTES + change.encode()
    if given_bytes == BYTES:
        assert parse(given_bytes, "x") == RECORD
        return
    try:
        found = parse(given_bytes, "x")
    except UtrustError:
        return
    assert serialize(found) == given_bytes


@pytest.mark.parametrize(
    "content_bytes",
    [
        b"",
        b"[]",
        json.dumps(RECORD).encode(),
        BYTES.replace(b'"format": 1', b'"format": 1.0'),
        BYTES.replace(b'"format": 1', b'"format": true'),
        BYTES.replace(b'"made_by": "Ada"', b'"made_by": "Ada",\n  "made_by": "Eve"'),
        b" " * (MAX_COMMISSIONING_BYTES + 1),
    ],
    ids=["empty", "list", "one line", "float", "boolean", "twice", "large"],
)
def test_other_form_of_a_record_is_invalid(content_bytes: bytes) -> None:
    assert code_of(lambda: parse(content_bytes, "the record")) == "commissioning_invalid"


@pytest.mark.parametrize(
    "change",
    [
        {"made_by": 7},
        {"format": 2},
        {"declared_by": []},
        {"canary_key": {"alias": "a"}},
        {"canary_key": {"alias": 1, "crypto_token": "a"}},
        {"cluster": {"id": None, "name": "a"}},
        {"nodes": []},
        {"nodes": {"node1": {}}},
        {"nodes": {"node1": facts_of("node1", port="443")}},
        {"nodes": {"node1": facts_of("node1", port=True)}},
        {"nodes": {"node1": facts_of("node1", tls_fingerprint="ab")}},
        {"nodes": {"node1": facts_of("node1", tls_fingerprint=[1])}},
        {"nodes": {"node1": facts_of("node1", hsm_serial={})}},
        {"nodes": {"node1": facts_of("node1", accounts={})}},
        {"nodes": {"node1": facts_of("node1", ejbca={})}},
        {"nodes": {"node1": facts_of("node1", ejbca=[])}},
        {"nodes": {"node1": facts_of("node1", more=1)}},
        {"steps": {"node1": "observed"}},
        {"steps": {"node1": {"route": 1}}},
        {"more": 1},
    ],
    ids=str,
)
def test_member_of_another_type_is_invalid(change: dict[str, t.Any]) -> None:
    assert code_of(lambda: parse(serialize({**RECORD, **change}), "x")) == "commissioning_invalid"


def test_written_record_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record_file.write(str(path), RECORD)
    assert record_file.read(str(path)) == RECORD
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


def test_missing_file_and_missing_folder_have_codes(tmp_path: Path) -> None:
    assert code_of(lambda: record_file.read(str(tmp_path / "none"))) == "commissioning_missing"
    assert code_of(lambda: record_file.write(str(tmp_path / "no/where"), RECORD)) == "commissioning_not_written"


def test_public_key_is_a_text_or_a_file(tmp_path: Path) -> None:
    dummy, public = write_keys(tmp_path)
    assert record_file.read_public_key(public) == record_file.read_public_key(public_pem()) == public_pem()
    assert code_of(lambda: record_file.read_public_key(str(tmp_path / "none"))) == "commissioning_public_key_invalid"


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_signing_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    private, public = write_keys(tmp_path, mode=mode)
    assert code_of(lambda: load_signing_key(private)) == "commissioning_signing_key_invalid"
    assert code_of(lambda: load_signing_key(public)) == "commissioning_signing_key_invalid"


def test_record_is_kept_while_its_content_is_the_same(tmp_path: Path) -> None:
    """A new time or another maker is not a change. Changed facts, an edited record and another form are changes."""
    path = tmp_path / "record.json"
    assert renew_record(str(path), content(), maker(), public_pem()).changed
    record_file.write(str(path), RECORD)

    kept = renew_record(str(path), content(), maker(name="Eve", made_at="2026-11-27T11:00:00+00:00"), public_pem())
    other = renew_record(str(path), content(canary_key=None), maker(), public_pem())

    assert (kept.changed, kept.record) == (False, RECORD)
    assert (other.changed, other.record["canary_key"]) == (True, None)
    edit(path, lambda document: document.update(made_by="Mallory"))
    assert renew_record(str(path), content(), maker(), public_pem()).changed
    path.write_text("{}", encoding="utf-8")
    assert renew_record(str(path), content(), maker(), public_pem()).before == ""


def test_record_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    assert code_of(lambda: renew_record(str(tmp_path), content(), maker(), public_pem())) == "commissioning_missing"
