# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The history in the key report."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.history import read_history
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.html import render

from tests.support.audit import FAILED, IMPORTED, OTHERS, STARTED, audit_file
from tests.support.report import report_data

if t.TYPE_CHECKING:
    from pathlib import Path


def test_read_history_latest_event_first(tmp_path: Path) -> None:
    """The history names node, operation and requester, latest event first."""
    history = read_history(str(audit_file(tmp_path, STARTED, *OTHERS, IMPORTED, FAILED)))
    assert (history["problem"], history["omitted"]) == (None, 0)
    assert [tuple(event.values())[1:] for event in history["events"]] == [
        ("node3", "guided restore", "failed", "card_locked", "", ""),
        ("node2", "key synchronization", "done", "1 added, 0 replaced, verified", "alice", "key_sync.yml"),
    ]


def test_read_history_counts_omitted_events(tmp_path: Path) -> None:
    """A long history is cut, and the omitted events are counted."""
    history = read_history(str(audit_file(tmp_path, *[IMPORTED] * 7)), length=5)
    assert (len(history["events"]), history["omitted"]) == (5, 2)


def test_report_with_missing_or_broken_audit_file(tmp_path: Path) -> None:
    """A missing or broken audit file does not prevent the report."""
    missing = report_data(history=read_history(str(tmp_path / "none")))
    assert "cannot be read: No such file" in missing["history"]["problem"]
    assert "cannot be read: No such file" in render(missing)

    whole = audit_file(tmp_path, STARTED, IMPORTED)
    content = whole.read_bytes()
    whole.write_bytes(content + b'{"torn')
    assert (read_history(str(whole))["problem"], len(read_history(str(whole))["events"])) == (None, 1)

    whole.write_bytes(content.replace(b"alice", b"mallory"))
    changed = read_history(str(whole))
    assert "line 1 of the audit file is broken" in changed["problem"]
    assert [event["requester"] for event in changed["events"]] == [""]

    whole.write_bytes(b"\xff\xfe\nnonsense\n[]\n7\n")
    assert "line 1" in read_history(str(whole))["problem"]


def test_read_history_unexpected_records(tmp_path: Path) -> None:
    """Records with unexpected content are shown as far as possible."""
    unexpected = {
        "event": "keys_imported",
        "outcome": "changed",
        "job": 7,
        "result": "text",
        "codes": "text",
        "host": ["x"],
    }
    other_start = {**unexpected, "event": "job_started", "requester": "text", "playbook": None}
    (event,) = read_history(str(audit_file(tmp_path, other_start, unexpected)))["events"]
    assert (event["detail"], event["requester"]) == ("", "")
