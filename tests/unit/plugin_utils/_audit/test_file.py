# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Appending to the audit file, signing its head, and verifying the file."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditFile
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.signed_head import load_signer, signature_path
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.verify import verify_file

if t.TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Private key file, and public key as text, made with openssl as in the documentation."""
    private = tmp_path_factory.mktemp("keys") / "audit.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", str(private)], check=True)
    private.chmod(0o600)
    shown = subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout"], check=True, capture_output=True)
    return str(private), shown.stdout.decode()


def fill(file: AuditFile, count: int, *, job: str = "a") -> None:
    for number in range(count):
        file.append({"job": job, "event": "node_read", "number": number})


def test_append_second_writer_continues_the_chain(path: Path) -> None:
    """A new file has mode 0600, and a second writer continues its chain."""
    fill(AuditFile(str(path)), 2)
    fill(AuditFile(str(path)), 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 4


APPENDER = """
import sys
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditFile
file = AuditFile(sys.argv[1])
for number in range(int(sys.argv[2])):
    file.append({"event": "node_read", "job": sys.argv[3], "filling": "x" * 20000})
    print(number, flush=True)
    sys.stdin.readline()  # Waits if the parent holds the other end.
"""


def appender(path: Path, *, count: int = 10**6, job: str = "a", **options: t.Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
    command = [sys.executable, "-c", APPENDER, str(path), str(count), job]
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, env=environment, **given)


def test_append_four_processes_make_one_chain(path: Path) -> None:
    """Four processes that append at the same time write one intact chain."""
    writers = [appender(path, count=20, job=job, stdin=subprocess.PIPE) for job in "abcd"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "0\n"  # All four have started before any of them continues.
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
        writer.stdin = None
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0] * 4
    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 80
    jobs = [json.loads(line)["job"] for line in path.read_bytes().splitlines()]
    assert set(jobs[:4]) == set("abcd")


def test_append_after_kill_keeps_all_records(path: Path) -> None:
    """All records from before a kill are in the file, and the chain continues."""
    printed = 0
    for kill_after in (1, 3, 7):
        with appender(path) as writer:
            assert writer.stdout is not None
            seen = [next(writer.stdout) for dummy in range(kill_after)]
            writer.send_signal(signal.SIGKILL)
            seen += list(writer.stdout)
        printed += len(seen)
        found = verify_file(str(path))
        assert found["intact"], found
        assert found["records"] >= printed
    fill(AuditFile(str(path)), 1)
    found = verify_file(str(path))
    assert found["intact"], found
    assert all(fragment["recorded"] for fragment in found["fragments"])


def limit_file_size(size: int) -> Callable[[], None]:
    """Limit the file size, so that a write ends in the middle as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("tears", [1, 2])
def test_append_after_fragment_records_the_fragment(path: Path, tears: int) -> None:
    """A fragment stays in the file, is reported, and is named by the next record."""
    fill(AuditFile(str(path)), 2)
    whole = path.stat().st_size
    for tear in range(tears):
        room = path.stat().st_size + 100 + tear
        with appender(path, stderr=subprocess.PIPE, preexec_fn=limit_file_size(room)) as writer:
            dummy, errors = writer.communicate(timeout=60)
        assert "audit_not_written" in errors
        assert path.stat().st_size == room
    torn = path.read_bytes()

    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 2
    assert [fragment["recorded"] for fragment in found["fragments"]] == [False] * tears
    assert f"line {2 + tears} is a fragment of a killed writer" in found["summary"][-1]

    fill(AuditFile(str(path)), 1)
    assert path.read_bytes().startswith(torn)
    assert len(torn) > whole
    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 4
    assert [fragment["recorded"] for fragment in found["fragments"]] == [True] * tears


@pytest.mark.parametrize("missing", range(1, 60))
def test_append_after_cut_loses_one_record_at_most(path: Path, missing: int) -> None:
    """A record that is cut at any byte does not damage other records."""
    fill(AuditFile(str(path)), 3)
    path.write_bytes(path.read_bytes()[:-missing])
    assert verify_file(str(path))["intact"]
    fill(AuditFile(str(path)), 1)
    found = verify_file(str(path))
    assert found["intact"], found
    # If only the line feed is missing, no record is lost. One more record is about the fragment.
    assert found["records"] == (5 if missing == 1 else 4)


def test_append_after_changed_line_is_refused(path: Path) -> None:
    """A writer does not append after a changed line."""
    fill(AuditFile(str(path)), 3)
    altered = path.read_bytes().replace(b'"number":2', b'"number":7')
    path.write_bytes(altered)
    with pytest.raises(AuditError, match="audit_broken"):
        fill(AuditFile(str(path)), 1)
    assert path.read_bytes() == altered


def test_append_to_writable_file_is_refused(path: Path) -> None:
    """A writer does not append to a file that other users can write."""
    fill(AuditFile(str(path)), 1)
    path.chmod(0o620)
    with pytest.raises(AuditError, match="audit_not_private"):
        fill(AuditFile(str(path)), 1)


def test_append_after_move_starts_a_new_file(path: Path) -> None:
    """A writer starts a new file if the old file was moved."""
    file = AuditFile(str(path))
    fill(file, 2)
    path.rename(path.with_suffix(".old"))
    fill(file, 1)
    assert verify_file(str(path))["records"] == 1
    assert verify_file(str(path.with_suffix(".old")))["records"] == 2


def test_append_to_locked_file_times_out(path: Path) -> None:
    """A writer reports a lock that another process does not release."""
    fill(AuditFile(str(path)), 1)
    with open(path, "rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="audit_locked"):
            AuditFile(str(path), lock_timeout=0.05).append({"event": "x"})


# Saved record numbers and signatures


def test_verify_truncated_file_needs_a_saved_count(path: Path) -> None:
    """Missing lines at the end are detected only with a saved record number and digest."""
    fill(AuditFile(str(path)), 5)
    lines = path.read_bytes().splitlines(keepends=True)
    head = verify_file(str(path))["head"]
    path.write_bytes(b"".join(lines[:3]))
    assert verify_file(str(path))["intact"]
    assert "audit_truncated" in verify_file(str(path), count=5, head=head)["problems"][0]
    path.write_bytes(b"".join(lines))
    assert verify_file(str(path), count=5, head=head)["intact"]
    assert "audit_replaced" in verify_file(str(path), count=4, head=head)["problems"][0]


def test_verify_empty_file(path: Path) -> None:
    """An empty file is not intact."""
    path.touch()
    assert "audit_empty" in verify_file(str(path))["problems"][0]


def test_verify_signed_head_detects_missing_lines(path: Path, keys: tuple[str, str]) -> None:
    """The signed head detects missing and rewritten lines."""
    private, public = keys
    fill(AuditFile(str(path), load_signer(private)), 4)
    found = verify_file(str(path), public_key=public)
    assert found["intact"], found
    assert found["signed_records"] == 4

    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    assert "audit_truncated" in verify_file(str(path), public_key=public)["problems"][0]
    with pytest.raises(AuditError, match="audit_truncated"):  # A new signature would hide the gap.
        fill(AuditFile(str(path), load_signer(private)), 1)

    path.write_bytes(b"")
    fill(AuditFile(str(path)), 4)  # A forger without the key.
    assert "line 1 is the first broken line" in verify_file(str(path), public_key=public)["problems"][0]


def test_verify_invalid_or_missing_signature(path: Path, keys: tuple[str, str], tmp_path: Path) -> None:
    """The verification detects a changed and a missing signature."""
    private, public = keys
    fill(AuditFile(str(path), load_signer(private)), 2)
    signed = signature_path(str(path))
    content = json.loads(signed.read_bytes())
    signed.write_text(json.dumps({**content, "time": "2020-01-01T00:00:00+00:00"}))
    assert "audit_signature_invalid" in verify_file(str(path), public_key=public)["problems"][0]
    signed.unlink()
    assert "audit_signature_missing" in verify_file(str(path), public_key=public)["problems"][0]
    with pytest.raises(AuditError, match="audit_signature_missing"):
        fill(AuditFile(str(path), load_signer(private)), 1)


def test_append_after_kill_before_signing(path: Path, keys: tuple[str, str]) -> None:
    """A run continues after a writer that was killed before it signed the head."""
    private, public = keys
    fill(AuditFile(str(path), load_signer(private)), 2)
    older = signature_path(str(path)).read_bytes()
    fill(AuditFile(str(path), load_signer(private)), 1)
    signature_path(str(path)).write_bytes(older)
    assert verify_file(str(path), public_key=public)["signed_records"] == 2
    fill(AuditFile(str(path), load_signer(private)), 1)
    assert verify_file(str(path), public_key=public)["signed_records"] == 4


def test_load_signer_readable_key_is_refused(tmp_path: Path, keys: tuple[str, str]) -> None:
    """A signing key that other users can read is rejected."""
    copy = tmp_path / "audit.key"
    copy.write_bytes(Path(keys[0]).read_bytes())
    copy.chmod(0o640)
    with pytest.raises(AuditError, match="audit_signing_key_invalid"):
        load_signer(str(copy))
