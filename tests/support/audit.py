# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audit files with the records of a synchronization and of a restore."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain

if t.TYPE_CHECKING:
    from pathlib import Path


def audit_file(folder: Path, *records: dict[str, t.Any]) -> Path:
    """Write the records as an intact audit file."""
    path, head, lines = folder / "audit.jsonl", chain.Head(), []
    for record in records:
        line, head = chain.append_record(record, head)
        lines.append(line + b"\n")
    path.write_bytes(b"".join(lines))
    return path


STARTED: dict[str, t.Any] = {
    "event": "job_started",
    "job": "j1",
    "playbook": "key_sync.yml",
    "requester": {"name": "alice"},
}
IMPORTED: dict[str, t.Any] = {
    "event": "keys_imported",
    "job": "j1",
    "time": "2026-11-23T11:00:00.000+00:00",
    "host": "node2",
    "outcome": "changed",
    "result": {"added": [{"label": "a"}], "replaced": [], "verified": True},
}
FAILED: dict[str, t.Any] = {
    "event": "hsm_restored",
    "job": "j2",
    "time": "2026-11-23T11:30:00.000+00:00",
    "host": "node3",
    "outcome": "failed",
    "codes": ["card_locked"],
}
OTHERS: list[dict[str, t.Any]] = [
    {**IMPORTED, "outcome": "ok"},
    {**IMPORTED, "event": "check_mode_result"},
    {"event": "node_read", "job": "j1", "outcome": "ok"},
]
