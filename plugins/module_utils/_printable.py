# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text that is safe to print. Private to keyops.utrust."""

from __future__ import annotations


def escape_unprintable(text: str) -> str:
    """Replace unprintable characters by their codes, because a label of an attacker could move the cursor or reverse the text."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
