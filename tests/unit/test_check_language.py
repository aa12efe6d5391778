# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The language gate finds words in prose, with their lines, and leaves code alone."""

from __future__ import annotations

import importlib
import typing as t
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"
MODULE = '''"""The docstring."""

DOCUMENTATION = r"""
short_description: {short}
description:
  - The first line is fine,
    the second line {word} a lie, and V(tells) is code.
"""


def check(name: str) -> str:
    # A comment that {word}.
    return (
        f"the node {{name!r}} is "
        f"no {{name}} at all"
    )
'''
TASKS = """---
- name: Check that all is well
  ansible.builtin.assert:
    that: told is defined
    fail_msg: "{{ told }} is wrong. It was told so."
- name: Assert something
  ansible.builtin.assert:
    that: true
- name: A name of a task with more than sixty characters, which no terminal shows
  ansible.builtin.debug:
    msg: right
"""


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[str, str], list[tuple[int, str]]]:
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = importlib.import_module("check_language")

    def read(name: str, source: str) -> list[tuple[int, str]]:
        found = tool.READERS[Path(name).suffix](name, source)
        return sorted((item.line, item.words) for item in found if not item.strict)

    return read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The node tells\nits name.", [(1, "tells")]),
        ("The host is\nno node.", [(1, "is no node")]),
        ("The host is no longer a node.", []),
        ("`tells` and [a link](https://example.com/told) are code.", []),
        ("```yaml\ntold: true; false\n```", []),
        ("| told | a; b |\n| --- | --- |", [(1, "told")]),
        ("The node waits; the client does not.", [(1, ";")]),
        ("The run ends. What remains is deleted.", [(1, "What ...")]),
        ("## What to do", []),
        ("The host of the inventory and inventory.yml.", []),
        ("The digest of the inventory.", [(1, "digest of the inventory")]),
    ],
)
def test_markdown_prose_is_checked_without_code(
    text: str, expected: list[tuple[int, str]], findings: t.Callable[[str, str], list[tuple[int, str]]]
) -> None:
    assert findings("docs/page.md", text) == expected


def test_python_documentation_comments_and_messages_are_checked(
    findings: t.Callable[[str, str], list[tuple[int, str]]],
) -> None:
    source = MODULE.format(word="tells", short="x" * 61)
    expected = [(4, "short_description"), (7, "tells"), (12, "tells"), (14, "is no {}")]
    assert findings("plugins/modules/example.py", source) == expected
    assert findings("plugins/modules/example.py", MODULE.format(word="is", short="Read")) == [(14, "is no {}")]


def test_task_names_and_messages_are_checked_without_expressions(
    findings: t.Callable[[str, str], list[tuple[int, str]]],
) -> None:
    assert findings("roles/example/tasks/main.yml", TASKS) == [(5, "told"), (6, "assert"), (9, "task name")]
