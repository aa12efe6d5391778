# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text that is safe to print. Private to keyops.utrust."""

from __future__ import annotations


def escape_unprintable(text: str) -> str:
    """A label is chosen by people, or by an attacker: what could move the cursor or turn the text around is shown as its code."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)
