# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hash chain of the audit file: detection of changes."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain
from hypothesis import given
from hypothesis import strategies as st


def records(count: int) -> list[bytes]:
    """Lines of an intact file."""
    lines, head = [], chain.Head()
    for number in range(count):
        line, head = chain.append_record(
            {"event": "node_read", "host": f"node{number}", "label": "schlüssel \u2028"}, head
        )
        lines.append(line + b"\n")
    return lines


def with_fragment() -> list[bytes]:
    """Lines of a file with the fragment of a killed writer, and with the record of the next writer about it."""
    lines = records(3)
    head = chain.verify(lines).head
    half = b'{"event":"node_read","ho'
    found = [chain.Fragment.from_content(4, half, recorded=True).to_dict()]
    line, head = chain.append_record({"event": chain.FRAGMENTS_FOUND, "fragments": found}, head)
    last, dummy_head = chain.append_record({"event": "node_read"}, head)
    return [*lines, half + chain.FRAGMENT_MARK + b"\n", line + b"\n", last + b"\n"]


FILES = {"whole": records(6), "with a fragment": with_fragment()}


def broken_line(content: bytes | list[bytes]) -> int | None:
    lines = io.BytesIO(content if isinstance(content, bytes) else b"".join(content))
    found = chain.verify(lines).first_broken
    return None if found is None else found[0]


def is_marked(line: bytes) -> bool:
    return line.endswith(chain.FRAGMENT_MARK + b"\n")


# Intact files


@pytest.mark.parametrize("name", FILES)
def test_verify_intact_file(name: str) -> None:
    """A file that nobody changed is intact, also with a recorded fragment."""
    found = chain.verify(FILES[name])
    assert found.first_broken is None
    assert found.head.sequence == len(FILES[name]) - len(found.fragments)
    assert [fragment.recorded for fragment in found.fragments] == [True] * (name != "whole")


def test_record_is_json_with_a_reproducible_digest() -> None:
    """Other programs can check each line with a JSON parser and SHA-256."""
    previous = "0" * 64
    for number, line in enumerate(FILES["whole"], start=1):
        record = json.loads(line)
        named = record.pop("sha256")
        again = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        assert (record["sequence"], record["previous"]) == (number, previous)
        assert hashlib.sha256(again).hexdigest() == named
        previous = named


# Changed files


@given(name=st.sampled_from(sorted(FILES)), where=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_verify_changed_byte_names_the_line(name: str, where: int, byte: int) -> None:
    """The verification detects any changed byte and names its line."""
    content = b"".join(FILES[name])
    where %= len(content)
    if content[where] == byte:
        byte ^= 0x20
    altered = content[:where] + bytes([byte]) + content[where + 1 :]
    assert broken_line(altered) == content.count(b"\n", 0, where) + 1


def test_verify_changed_letter_case() -> None:
    """The escapes \\u00fc and \\u00FC mean the same in JSON, but not in the chain."""
    content = b"".join(records(2))
    for where in range(len(content)):
        altered = content[:where] + bytes([content[where] ^ 0x20]) + content[where + 1 :]
        assert broken_line(altered) == content.count(b"\n", 0, where) + 1


@given(name=st.sampled_from(sorted(FILES)), number=st.integers(0, 10**6))
def test_verify_removed_line_names_its_place(name: str, number: int) -> None:
    """The verification detects a removed line at its place."""
    lines = FILES[name]
    number %= len(lines) - 1  # A missing last line is detected only with a saved record number.
    found = broken_line(lines[:number] + lines[number + 1 :])
    # Without the record that names the fragment before it, the fragment is the first broken line.
    is_named = not (number and is_marked(lines[number - 1]))
    assert found == (number + 1 if is_named else number)


@given(
    name=st.sampled_from(sorted(FILES)),
    number=st.integers(0, 10**6),
    line=st.one_of(st.binary(max_size=40), st.integers(0, 5)),
    marked=st.booleans(),
)
def test_verify_inserted_line(name: str, number: int, line: bytes | int, marked: bool) -> None:
    """The verification detects an inserted line."""
    lines = FILES[name]
    number %= len(lines)
    if isinstance(line, int):
        line = lines[line]  # A copy.
    else:
        line = line.replace(b"\n", b"") + (chain.FRAGMENT_MARK if marked else b"") + b"\n"
    found = broken_line([*lines[:number], line, *lines[number:]])
    if line == lines[number] and not is_marked(line):
        assert (
            found == number + 2
        )  # The copy stands in the place of its original, and the original is one line too many.
    elif number and is_marked(lines[number - 1]):
        assert found in (number, number + 1)  # The line separates a fragment from the record that names it.
    else:
        assert found == number + 1


@given(name=st.sampled_from(sorted(FILES)), swap=st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)))
def test_verify_swapped_lines_names_the_first(name: str, swap: tuple[int, int]) -> None:
    """The verification detects two swapped lines at the first line."""
    lines = list(FILES[name])
    first = swap[0] % (len(lines) - 1)
    second = first + 1 + swap[1] % (len(lines) - 1 - first)
    lines[first], lines[second] = lines[second], lines[first]
    is_named = not (first and is_marked(lines[first - 1]))
    assert broken_line(lines) == (first + 1 if is_named else first)


def test_verify_lines_of_another_file() -> None:
    """The verification detects lines that belong to another chain."""
    other, head = [], chain.Head()
    for dummy in range(6):
        line, head = chain.append_record({"event": "other"}, head)
        other.append(line + b"\n")
    assert broken_line(FILES["whole"][:3] + other[3:]) == 4
