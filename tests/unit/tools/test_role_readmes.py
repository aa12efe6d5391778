# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option tables in the READMEs of the roles."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
role_readmes = importlib.import_module("role_readmes")

OPTIONS = {
    "level": {
        "type": "str",
        "choices": ["hsm", "sign"],
        "default": "sign",
        "description": ["Use O(keys).", "One|two."],
    },
    "keys": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "description": "See O(keyops.utrust.utrust_key_proof#module:reactivate).",
        "options": {"label": {"type": "str", "description": "Label."}},
    },
}


def test_table_has_a_row_for_each_option_and_suboption() -> None:
    assert list(role_readmes.rows(OPTIONS)) == [
        r"| `level` | str: `hsm`, `sign` | `sign` | Use `keys`. One\|two. |",
        "| `keys` | list of dict | required | See `reactivate` of `keyops.utrust.utrust_key_proof`. |",
        "| `keys[].label` | str |  | Label. |",
    ]


def test_entry_points_with_the_same_options_share_a_table() -> None:
    text = role_readmes.tables(
        {"main": {"options": OPTIONS}, "read": {"options": {}}, "preflight": {"options": OPTIONS}}
    )
    assert "Entry points `main` and `preflight`:" in text
    assert "Entry point `read`:" in text


def test_update_replaces_only_the_text_between_the_markers() -> None:
    readme = f"before\n{role_readmes.BEGIN}\nold\n{role_readmes.END}\nafter\n"
    new = role_readmes.updated(readme, {"main": {"options": OPTIONS}})
    assert new.startswith("before\n")
    assert new.endswith("\nafter\n")
    assert "old" not in new
    assert role_readmes.updated(new, {"main": {"options": OPTIONS}}) == new
    with pytest.raises(ValueError, match="markers are missing"):
        role_readmes.updated("no markers", {})
