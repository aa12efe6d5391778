# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Warnings in the output of Ansible. A run of the tests fails if it prints a warning that its test does not expect."""

from __future__ import annotations

import re
import typing as t

_WARNING = re.compile(r"\[(?:DEPRECATION )?WARNING\]:?\s*")


def unexpected_warnings(output: str, expected: t.Sequence[str] = ()) -> list[str]:
    """Return the warnings of the output that do not begin with one of the expected texts. Ansible wraps them at a terminal."""
    text = " ".join(output.split())
    starts = [match.end() for match in _WARNING.finditer(text)]
    return [text[start : start + 300] for start in starts if not text.startswith(tuple(expected), start)]


def assert_no_warning(output: str, expected: t.Sequence[str] = ()) -> None:
    """Raise AssertionError if the output has a warning, also about a deprecation, that begins with no expected text."""
    assert unexpected_warnings(output, expected) == [], output
