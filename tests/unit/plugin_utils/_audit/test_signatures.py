# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed records, and files that another user put beside the audit file."""

from __future__ import annotations

import base64
import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditFile
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.signed_head import load_signer, signature_path
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.verify import verify_file
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.signed_head import Signer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    key = tmp_path / "audit.key"
    key.touch(mode=0o600)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(pem)
    return load_signer(str(key))


def fill(file: AuditFile, count: int) -> None:
    for number in range(count):
        file.append({"job": "a", "event": "node_read", "number": number})


def records(path: Path) -> list[dict[str, t.Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def forge(path: Path, *added: dict[str, t.Any]) -> None:
    """Append well-chained records without the signing key."""
    last = records(path)[-1]
    head = chain.Head(last["sequence"], last["sha256"])
    with open(path, "ab") as file:
        for record in added:
            line, head = chain.append_record(record, head)
            file.write(line + b"\n")


PLAIN = {"event": "keys_imported", "job": "a"}


@pytest.mark.parametrize(
    "added",
    [
        [PLAIN],
        [PLAIN, PLAIN, {"event": "job_ended", "job": "a"}],
        [{**PLAIN, "signing_key": "COPIED"}],
        [{**PLAIN, "signature": "COPIED"}],
        [{**PLAIN, "signature": base64.b64encode(bytes(64)).decode()}],
        [{**PLAIN, "signature": None}],
        [{**PLAIN, "signature": ["x"]}],
        [{"REPLAYED": True}],
    ],
)
@pytest.mark.parametrize("head", ["kept", "removed"])
def test_forged_records_are_a_problem_and_stay_unsigned(
    path: Path, signer: Signer, added: list[dict[str, t.Any]], head: str
) -> None:
    """Records that somebody without the key appends are reported, and no later run signs them."""
    fill(AuditFile(str(path), signer), 3)
    last = records(path)[-1]
    copied = {name: last[name] for name in ("signing_key", "signature")}
    replayed = {name: value for name, value in last.items() if name not in ("sequence", "previous", "sha256")}
    forge(
        path,
        *(
            replayed
            if "REPLAYED" in each
            else {name: copied[name] if value == "COPIED" else value for name, value in each.items()}
            for each in added
        ),
    )
    if head == "removed":
        signature_path(str(path)).unlink()
    content = path.read_bytes()

    found = verify_file(str(path), public_key=signer.public_key)

    assert not found["intact"]
    expected = "audit_signature_missing" if head == "removed" else "line 4 is the first broken line"
    assert expected in " ".join(found["problems"])
    with pytest.raises(AuditError) as refused:
        fill(AuditFile(str(path), signer), 1)
    assert refused.value.code == ("audit_signature_missing" if head == "removed" else "audit_not_signed")
    assert path.read_bytes() == content


def test_forged_records_are_detected_without_the_public_key(path: Path, signer: Signer) -> None:
    """A run that requires an audit trail has no public key, and detects an unsigned record in a signed file."""
    fill(AuditFile(str(path), signer), 2)
    forge(path, PLAIN)
    assert "record_not_signed" in verify_file(str(path))["problems"][0]


def test_record_of_a_killed_run_is_accepted(path: Path, signer: Signer) -> None:
    """A run that was killed before it signed the head has signed its record."""
    fill(AuditFile(str(path), signer), 2)
    older = signature_path(str(path)).read_bytes()
    fill(AuditFile(str(path), signer), 1)
    signature_path(str(path)).write_bytes(older)
    with open(path, "ab") as file:
        file.write(b'{"event":"half')
    fill(AuditFile(str(path), signer), 1)
    found = verify_file(str(path), public_key=signer.public_key)
    assert found["intact"], found
    assert found["signed_records"] == 5


def test_signed_record_cannot_move(path: Path, signer: Signer) -> None:
    """The signature covers the place of the record and every byte of it."""
    fill(AuditFile(str(path), signer), 2)
    lines = path.read_bytes().splitlines(keepends=True)
    for content in (lines[0] + lines[0], lines[1], lines[0] + lines[1].replace(b'"number":1', b'"number":2')):
        path.write_bytes(content)
        assert not verify_file(str(path), public_key=signer.public_key)["intact"]


def test_signed_and_unsigned_runs_do_not_share_a_file(path: Path, signer: Signer) -> None:
    """A file is signed from its first record, or never."""
    fill(AuditFile(str(path), signer), 1)
    with pytest.raises(AuditError, match="audit_not_signed"):
        fill(AuditFile(str(path)), 1)
    unsigned = path.with_suffix(".unsigned")
    fill(AuditFile(str(unsigned)), 1)
    with pytest.raises(AuditError, match="audit_signature_missing"):
        fill(AuditFile(str(unsigned), signer), 1)


# Files of other users


@pytest.mark.parametrize("first", [0, 2])
def test_directory_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """The owner of a directory can replace the file, whatever its mode is."""
    fill(AuditFile(str(path)), first)
    path.parent.chmod(0o700)
    as_other_owner(monkeypatch, path.parent, os.getuid() + 2)
    with pytest.raises(AuditError, match="belongs to another user") as refused:
        fill(AuditFile(str(path)), 1)
    assert refused.value.code == "audit_not_private"
    assert path.exists() == bool(first)


def as_other_owner(monkeypatch: pytest.MonkeyPatch, path: Path, owner: int) -> None:
    """Let Path.stat report another owner of one path, because only root can create such a file."""
    real = Path.stat

    def stat(self: Path, **options: t.Any) -> os.stat_result:
        found = real(self, **options)
        return os.stat_result((*found[:4], owner, *found[5:])) if self == path else found

    monkeypatch.setattr(Path, "stat", stat)


def test_audit_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(AuditFile(str(path)), 1)
    as_other_owner(monkeypatch, path.parent, 0)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(AuditError, match="audit_not_private"):
        fill(AuditFile(str(path)), 1)


def test_signing_key_of_another_user_is_refused(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert signer.name
    as_other_owner(monkeypatch, tmp_path / "audit.key", os.getuid() + 2)
    with pytest.raises(AuditError, match="audit_signing_key_invalid"):
        load_signer(str(tmp_path / "audit.key"))


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "file"])
def test_planted_file_for_the_head_is_not_written(path: Path, signer: Signer, tmp_path: Path, kind: str) -> None:
    """The new head is written to a new file, so that a link does not lead to another file."""
    victim, planted = tmp_path / "victim", path.with_name(f"{path.name}.head.sig.new")
    victim.write_text("precious")
    if kind == "link":
        planted.symlink_to(victim)
    elif kind == "dangling link":
        planted.symlink_to(tmp_path / "created")
    elif kind == "hard link":
        planted.hardlink_to(victim)
    else:
        planted.write_text("left by a killed run")
    fill(AuditFile(str(path), signer), 1)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "created").exists()
    assert verify_file(str(path), public_key=signer.public_key)["intact"]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_planted_signed_head_is_not_read(path: Path, signer: Signer, tmp_path: Path, kind: str) -> None:
    """A signed head that is not a file is refused, and a pipe does not block the run."""
    fill(AuditFile(str(path), signer), 1)
    head = signature_path(str(path))
    if kind == "link":
        head.rename(tmp_path / "moved")
        head.symlink_to(tmp_path / "moved")
    else:
        head.unlink()
        if kind == "pipe":
            os.mkfifo(head)
        else:
            head.mkdir()
    assert "audit_signature_invalid" in verify_file(str(path), public_key=signer.public_key)["problems"][0]
    with pytest.raises(AuditError, match="audit_signature_invalid"):
        fill(AuditFile(str(path), signer), 1)
