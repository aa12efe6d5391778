# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts of an attacker, and the characters of an output that are not visible."""

from __future__ import annotations

import subprocess
import typing as t
import unicodedata

from tests.support.playbook import ROOT, command, environment

if t.TYPE_CHECKING:
    from utrust_appliance.control import Control

#: Labels that an honest node accepts.
LABELS: t.Final = (
    "a\x1b[2K\x1b[1A",
    "b\rok: [node2]",
    "c\n\nfatal: [node1]: FAILED!",
    "d\t\v\f\x08\x7f",
    "e\x85\x9b31m\x90",
    "f\u202egnp.yek\u202c\u202a\u202d",
    "g\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "h\u200b\u200c\u200d\u2060\ufeff\xad",
    "i\u2028\u2029\u0600",
    "j\U000e0041\U000e007f\ue000",
    "k\u3164\u115f\u2800\ufe0f",
    "l" + "\u0336" * 40,
    "m\\x1b\\",
    "n{{ 9 ** 9 }}<script>\x1b",
)
#: The end of every free text of a hostile node. At most 26 characters, because some texts are short.
FREE_TEXT: t.Final = "\x1b]0;x\x07\r\n\x9b\u202e\u2066\u200b\u2028\xad\ufeff\U000e0041\u3164{{9**9}}"
#: Ansible shows this number if it evaluates the text as a template. No port and no time has it.
EVALUATED: t.Final = str(9**9)
_BLANK: t.Final = frozenset("\u3164\u115f\u1160\uffa0\u2800\ufe0f\u034f")


def invisible(shown: str) -> list[str]:
    """Return the lines with a character that is not visible, or with a flood of combining marks. A line feed is visible."""
    return [line for line in shown.split("\n") if not _is_visible(line)]


def _is_visible(line: str) -> bool:
    marks = 0
    for char in line:
        category = unicodedata.category(char)
        marks = marks + 1 if category[0] == "M" else 0
        if category in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") or char in _BLANK or marks > 4:
            return False
    return True


class Shown(t.NamedTuple):
    """Exit status of a playbook, and its output and errors as they reach a terminal."""

    status: int
    text: str


def shown(
    playbook: str, control: Control, *arguments: str, env: t.Mapping[str, str] | None = None, **options: t.Any
) -> Shown:
    """Run a playbook. Its bytes stay as they are: the text mode of subprocess would convert a carriage return."""
    ran = subprocess.run(
        command(playbook, control, *arguments, **options),
        cwd=ROOT,
        env={**environment(), "COLUMNS": "400", **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=180,
        check=False,
    )
    return Shown(ran.returncode, ran.stdout.decode("utf-8", "surrogateescape"))
