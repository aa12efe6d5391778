# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Persistent storage of the audit file, and the state of the run."""

from __future__ import annotations

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import persistence


@pytest.mark.parametrize(
    ("path", "mounts", "word"),
    [
        ("/var/lib/audit.jsonl", "/dev/vda / ext4 rw 0 0", ""),
        ("/var/lib/audit.jsonl", "overlay / overlay rw 0 0", "container"),
        ("/var/lib/audit.jsonl", "overlay / overlay rw 0 0\n/dev/sdb /var/lib xfs rw 0 0", ""),
        ("/mnt/a b/audit.jsonl", "/dev/vda / ext4 rw 0 0\ntmpfs /mnt/a\\040b tmpfs rw 0 0", "in memory"),
        ("/mnt/audit.jsonl", "tmpfs /mnt tmpfs rw 0 0\n/dev/sdb /mnt ext4 rw 0 0", ""),
        ("/mnt2/audit.jsonl", "/dev/vda / ext4 rw 0 0\ntmpfs /mnt tmpfs rw 0 0", ""),
        ("/tmp/audit.jsonl", "/dev/vda / ext4 rw 0 0", "emptied"),
        ("/runner/artifacts/audit.jsonl", "/dev/vda /runner ext4 rw 0 0", "emptied"),
        ("/srv/job/audit.jsonl", "/dev/vda / ext4 rw 0 0", "after the job"),
        ("/var/lib/audit.jsonl", None, "cannot detect"),
    ],
)
def test_why_not_persistent(path: str, mounts: str | None, word: str) -> None:
    """The reason names what deletes the file, and is empty for persistent storage."""
    reason = persistence.why_not_persistent(path, mounts, {"AWX_PRIVATE_DATA_DIR": "/srv/job"})
    assert (word in reason) if word else not reason
