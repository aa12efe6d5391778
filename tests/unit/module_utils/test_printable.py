# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text that is safe to print: every character that is not visible has a code, and no two texts look the same."""

from __future__ import annotations

import typing as t
import unicodedata

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._printable import (
    escape_document,
    escape_unprintable,
    make_printable,
    unescape_printable,
)
from hypothesis import given
from hypothesis import strategies as st

ANY_TEXT = st.text(
    st.one_of(
        st.characters(), st.characters(categories=["Cs", "Cf", "Cc", "Mn", "Co", "Zs"]), st.sampled_from("\\nrtxuU01")
    )
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("\x85\x9b\x7f\x00", r"\x85\x9b\x7f\x00"),
        ("\u202a\u202e\u2066\u2069\u200e\u200f\u061c", r"\u202a\u202e\u2066\u2069\u200e\u200f\u061c"),
        ("\u200b\u200d\ufeff\xad\u2060", r"\u200b\u200d\ufeff\xad\u2060"),
        ("\u2028\u2029\xa0\u3000", r"\u2028\u2029\xa0\u3000"),
        ("\ud800", r"\ud800"),
        ("\U000e0041\ue000", r"\U000e0041\ue000"),
        ("\u3164\u2800\u115f\ufe0f\U000e0100", r"\u3164\u2800\u115f\ufe0f\U000e0100"),
        ("e\u0301", "e\u0301"),
        ("\u0301e", r"\u0301e"),
        ("e" + "\u0336" * 5, "e" + "\u0336" * 3 + r"\u0336" * 2),
        ("C:\\x1b", r"C:\\x1b"),
        ("Schlüssel-Ä 鍵 🔑", "Schlüssel-Ä 鍵 🔑"),
    ],
    ids=ascii,
)
def test_escape_unprintable_shows_codes(text: str, line: str) -> None:
    assert escape_unprintable(text) == line
    assert unescape_printable(line) == text


@given(ANY_TEXT)
def test_escape_unprintable_is_one_visible_line(text: str) -> None:
    """Unescaping gives the text, so no two texts have the same line."""
    line = escape_unprintable(text)
    assert line.isprintable()
    assert not any(unicodedata.category(char) in ("Cf", "Cc", "Zl", "Zp", "Cs", "Co") for char in line)
    assert unescape_printable(line) == text
    assert make_printable(line) == line


@pytest.mark.parametrize("line", [r"\q", r"\x1", r"\U00110000", r"\Uffffffff", "\\"], ids=str)
def test_unescape_printable_keeps_what_is_no_code(line: str) -> None:
    assert unescape_printable(line) == line


def test_escape_document_reaches_every_text() -> None:
    document = {"a": ["x\x1b", {"b": "y\u202e"}], "c": 1, "d": None, "e": True}
    assert escape_document(document) == {"a": [r"x\x1b", {"b": r"y\u202e"}], "c": 1, "d": None, "e": True}


@pytest.mark.parametrize(
    ("value", "printable"),
    [
        ("two\nlines", "two\nlines"),
        ("forged\rline\x1b[2K", r"forged\rline\x1b[2K"),
        ({"msg": "a\u202e", "b\x9b": ("c\u200b",)}, {"msg": r"a\u202e", r"b\x9b": [r"c\u200b"]}),
        ({"path": "/home/a\xa0b/k.ksp", "msg": "/home/a\xa0b"}, {"path": "/home/a\xa0b/k.ksp", "msg": r"/home/a\xa0b"}),
        (r"code \x1b", r"code \x1b"),
        (7, 7),
    ],
    ids=ascii,
)
def test_make_printable_cleans_what_leaves(value: t.Any, printable: t.Any) -> None:
    """Line feeds of messages stay. A path stays a path, because later tasks open it."""
    assert make_printable(value) == printable
