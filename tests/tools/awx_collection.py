# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make .venv-awx, a collection path with the collection awx.awx for the tests.

The collection is in the wheel of the package `ansible` on PyPI, which tests/requirements/awx.txt pins with its hash.
The rest of the wheel is not unpacked. A second run with an unchanged file does nothing.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tests" / "requirements" / "awx.txt"
#: Goes into ANSIBLE_COLLECTIONS_PATH.
FOLDER = ROOT / ".venv-awx"
INSIDE = "ansible_collections/awx/awx/"


def download(folder: Path) -> Path:
    """Download the wheel into the folder and return its path. Raises CalledProcessError."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    locked = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(REQUIREMENTS)]
    subprocess.run([*pip, *locked, "--dest", str(folder)], check=True)
    (wheel,) = folder.glob("ansible-*.whl")
    return wheel


def ensure() -> Path:
    """Return the collection path. The collection is downloaded and unpacked if the folder does not fit to awx.txt."""
    FOLDER.mkdir(exist_ok=True)
    stamp, locked = FOLDER / ".keyops-stamp", REQUIREMENTS.read_bytes()
    with open(FOLDER / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_bytes() != locked:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(FOLDER / "ansible_collections", ignore_errors=True)
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(download(Path(folder))) as wheel:
                wheel.extractall(FOLDER, [name for name in wheel.namelist() if name.startswith(INSIDE)])
            stamp.write_bytes(locked)
    return FOLDER


if __name__ == "__main__":
    print(f"awx: {ensure()} is ready")
