# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Task files of users: statements that would end a run without its summary."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleError
from ansible_collections.keyops.utrust.plugins.plugin_utils._task_files import check_statements


@pytest.mark.parametrize(
    "task",
    [
        {"meta": "end_play"},
        {"ansible.builtin.meta": "end_host", "when": "false"},
        {"block": [{"name": "a", "rescue": [{"ansible.builtin.meta": " end_batch"}]}]},
        {"always": [{"ansible.builtin.import_tasks": "/lb.yml"}]},
    ],
    ids=str,
)
def test_statement_without_a_summary_is_refused(task: dict[str, t.Any]) -> None:
    """The node would stay drained, and nobody would read why."""
    with pytest.raises(AnsibleError):
        check_statements([{"ansible.builtin.debug": None}, task])


def test_other_statements_are_accepted() -> None:
    check_statements([{"meta": "flush_handlers"}, {"include_tasks": "lb.yml"}, {"block": None}, "text", 1])
