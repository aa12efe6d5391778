# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of people without their spelling: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import unicodedata

#: Characters that have no width, although their category is a letter, a mark or a symbol.
_BLANK_CHARACTERS = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0]
    + [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000)]
)


def normalize_name(name: str) -> str:
    """Return the same text for each spelling: capitals, blanks, invisible characters, and other forms of a letter."""
    # Folding the case can give a text that has another compatible form.
    for dummy in range(2):
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    blanks = ("Zs", "Zl", "Zp", "Cc")
    spaced = "".join(" " if unicodedata.category(char) in blanks else char for char in name)
    visible = (char for char in spaced if ord(char) not in _BLANK_CHARACTERS and unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", " ".join("".join(visible).split()))
