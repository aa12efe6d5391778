# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that really belong to another user, in this user namespace and in a new one.

Root gives files of its own to another user. Other users cannot, so they use files of root, and see them in a namespace in which root is another user.
"""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditFile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ROOT = Path(__file__).resolve().parents[4]
IS_ROOT = os.geteuid() == 0
STRANGER = 54321
PROGRAM = """
import sys
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditFile
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.signed_head import load_signer
kind, path = sys.argv[1:]
try:
    load_signer(path) if kind == "key" else AuditFile(path).append({"event": "node_read", "job": "a"})
except AuditError as exc:
    print(exc.code)
else:
    print("accepted")
"""


def outcome(kind: str, path: Path, *, namespace: bool) -> str:
    """Return the error code of using the file, in a process that is root of a new user namespace if `namespace` is set."""
    prefix = ["unshare", "--user", "--map-root-user"] if namespace else []
    return subprocess.run(
        [*prefix, sys.executable, "-c", PROGRAM, kind, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()


def write_key(path: Path) -> None:
    path.touch(mode=0o600)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem)


def make_own(kind: str, folder: Path) -> Path:
    """Return a file of this user."""
    folder.mkdir(mode=0o700)
    path = folder / "audit"
    if kind == "key":
        write_key(path)
    elif kind == "file":
        AuditFile(str(path)).append({"event": "node_read", "job": "a"})
    return path


def give_away(kind: str, path: Path) -> Path:
    """Return the same kind of file that belongs to another user."""
    if not IS_ROOT:
        return {"directory": Path("/usr/audit"), "file": Path("/etc/passwd"), "key": Path("/etc/passwd")}[kind]
    os.chown(path.parent if kind == "directory" else path, STRANGER, STRANGER)
    return path


@pytest.fixture(params=[False, True], ids=["here", "namespace"])
def namespace(request: pytest.FixtureRequest) -> bool:
    # Outside of a new namespace, files of root are trusted, and other users have no other file.
    return t.cast("bool", request.param) or not IS_ROOT


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        ("directory", {"audit_not_private"}),
        # The kernel lets nobody but root open such a file.
        ("file", {"audit_not_private", "audit_not_written"}),
        ("key", {"audit_signing_key_invalid"}),
    ],
)
def test_file_of_a_real_other_user_is_refused(tmp_path: Path, namespace: bool, kind: str, codes: set[str]) -> None:
    """A directory of mode 0700, an audit file and a signing key of another user are refused."""
    path = make_own(kind, tmp_path / "own")
    assert outcome(kind, path, namespace=namespace) == "accepted"
    before = path.read_bytes()
    other = give_away(kind, path)
    assert outcome(kind, other, namespace=namespace) in codes
    assert path.read_bytes() == before
