# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text that is safe to print. Private to keyops.utrust.

The text of a server becomes printable when it is decoded, so messages, data and files show it in one form. `unescape_printable` returns the stored text.
`make_printable` cleans everything that leaves, because people, files and exceptions have text, too.
"""

from __future__ import annotations

import re
import typing as t
import unicodedata

from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_COMBINING_MARKS

#: Letters, symbols and marks that show nothing, although Unicode calls them printable.
_BLANK: t.Final = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
_CODE: t.Final = re.compile(r"\\\\|\\[nrt]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}")
#: Members of a result whose paths later tasks open. The caller wrote them.
_PATHS: t.Final = frozenset({"path", "dest", "src", "page", "data"})


def escape_unprintable(text: str) -> str:
    """Return one printable line: each other character becomes its code, and a backslash two. No two texts have the same line.

    The label of an attacker could move the cursor, reverse the text, or be invisible.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return _escape(text, kept="")


def unescape_printable(line: str) -> str:
    """Return the text whose line is `line`. Text that looks like a code but is invalid stays unchanged."""
    return _CODE.sub(_character, line) if "\\" in line else line


def escape_document(document: t.Any) -> t.Any:
    """Return a decoded JSON document with every text printable. The names of its members stay."""
    if isinstance(document, str):
        return escape_unprintable(document)
    if isinstance(document, dict):
        return {name: escape_document(value) for name, value in document.items()}
    return [escape_document(value) for value in document] if isinstance(document, list) else document


def make_printable(value: t.Any) -> t.Any:
    """Return a value that leaves the collection with every text printable. Line feeds stay, and so do codes that the texts have already."""
    if isinstance(value, str):
        if value.isascii() and value.replace("\n", "").isprintable():
            return value
        return _escape(value, kept="\\\n")
    if isinstance(value, t.Mapping):
        return {
            make_printable(name): part if name in _PATHS and isinstance(part, str) else make_printable(part)
            for name, part in value.items()
        }
    return [make_printable(part) for part in value] if isinstance(value, (list, tuple)) else value


def _escape(text: str, *, kept: str) -> str:
    escaped, marks = [], MAX_COMBINING_MARKS  # A mark at the start would change the character before the text.
    for char in text:
        marks = marks + 1 if unicodedata.category(char).startswith("M") else 0
        if char in kept or (
            char.isprintable() and char not in _BLANK and char != "\\" and marks <= MAX_COMBINING_MARKS
        ):
            escaped.append(char)
        else:
            escaped.append("\\\\" if char == "\\" else _code(char))
    return "".join(escaped)


def _code(char: str) -> str:
    number = ord(char)
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char) or (
        f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    )


def _character(code: re.Match[str]) -> str:
    kind, digits = code[0][1], code[0][2:]
    if digits:
        number = int(digits, 16)
        return chr(number) if number < 0x110000 else code[0]
    return {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}[kind]
