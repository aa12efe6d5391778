# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Version and digest of the installed collection."""

from __future__ import annotations

import json
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


def test_digest_of_an_installed_collection_ignores_stray_files(tmp_path: Path) -> None:
    """FILES.json lists the files of the collection. A change or a removal of a listed file changes the digest."""
    names = ["plugins/modules/a.py", "roles/r/tasks/main.yml", "README.md"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    without = collection_digest(tmp_path)
    entries = [{"name": "plugins", "ftype": "dir"}, *({"name": name, "ftype": "file"} for name in names)]
    (tmp_path / "FILES.json").write_text(json.dumps({"files": entries, "format": 1}))
    before = collection_digest(tmp_path)
    assert before == without

    for stray in ("plugins/modules/a.py~", "plugins/.DS_Store", "roles/r/tasks/plan.json", "playbooks/page.html"):
        (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stray).write_text("stray")
    (tmp_path / "README.md").write_text("other words")
    assert collection_digest(tmp_path) == before

    (tmp_path / names[1]).write_text("other tasks")
    changed = collection_digest(tmp_path)
    (tmp_path / names[0]).unlink()
    assert len({before, changed, collection_digest(tmp_path)}) == 3


def test_collection_version_installed_or_checkout(tmp_path: Path) -> None:
    """The version comes from MANIFEST.json if the file exists, otherwise from galaxy.yml."""
    assert collection_version() == collection_version(ROOT)
    (tmp_path / "MANIFEST.json").write_text('{"collection_info": {"version": "3.2.1"}}')
    assert collection_version(tmp_path) == "3.2.1"
