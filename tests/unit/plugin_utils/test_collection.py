# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Version and digest of the installed collection."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible_collections.keyops.utrust.plugins.plugin_utils._collection import collection_digest, collection_version

ROOT = Path(__file__).resolve().parents[3]


def test_collection_digest_depends_on_files_only(tmp_path: Path) -> None:
    """The digest covers the files that can run, wherever the collection is installed."""
    for name, text in {"plugins/modules/a.py": "1", "roles/r/tasks/main.yml": "2", "meta/runtime.yml": "3"}.items():
        for copy in ("one", "two"):
            file = tmp_path / copy / name
            file.parent.mkdir(parents=True)
            file.write_text(text)
    (tmp_path / "two/plugins/__pycache__").mkdir()
    (tmp_path / "two/plugins/__pycache__/a.pyc").write_text("compiled")
    assert collection_digest(tmp_path / "one") == collection_digest(tmp_path / "two")
    (tmp_path / "two/plugins/modules/a.py").write_text("other")
    assert collection_digest(tmp_path / "one") != collection_digest(tmp_path / "two")
    command = (
        "find meta plugins roles playbooks extensions -type f 2>/dev/null | LC_ALL=C sort | xargs sha256sum | sha256sum"
    )
    shell = subprocess.run(["sh", "-c", command], cwd=tmp_path / "one", check=True, capture_output=True, text=True)
    assert collection_digest(tmp_path / "one") == f"sha256:{shell.stdout.split()[0]}"


def test_collection_version_installed_or_checkout(tmp_path: Path) -> None:
    """The version comes from MANIFEST.json if the file exists, otherwise from galaxy.yml."""
    assert collection_version() == collection_version(ROOT)
    (tmp_path / "MANIFEST.json").write_text('{"collection_info": {"version": "3.2.1"}}')
    assert collection_version(tmp_path) == "3.2.1"
