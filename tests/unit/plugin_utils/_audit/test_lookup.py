# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths that the look-up audit_info accepts."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.lookup.audit_info import LookupModule

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("term", ["~/audit.jsonl", "$HOME/audit.jsonl", "audit.jsonl", "./sub/../audit.jsonl"])
def test_path_of_the_lookup_is_expanded(term: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible expands the paths of options, but not the terms of a look-up."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # Without the plugin loader, a look-up has no options.
    monkeypatch.setattr(LookupModule, "set_options", lambda *dummy, **options: None)
    monkeypatch.setattr(LookupModule, "get_option", lambda *dummy: False)

    (found,) = LookupModule().run([term])

    assert found["file"] == str(tmp_path / "audit.jsonl")
