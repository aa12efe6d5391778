# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The signatures of an audit file. Private to keyops.utrust.

Each record is signed, so that nobody without the key can append a record.
The signed head is a file beside the audit file. It proves up to which record the audit file went when the head was signed.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import pathlib
import stat
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import canonical
from ansible_collections.keyops.utrust.plugins.plugin_utils._signature import verify_ed25519


class Signer(t.NamedTuple):
    """An Ed25519 key. `public_key` is PEM."""

    sign: t.Callable[[bytes], bytes]
    public_key: str

    @property
    def name(self) -> str:
        """The name of the key in records: the start of the SHA-256 of the public key."""
        return hashlib.sha256(self.public_key.encode()).hexdigest()[:16]

    def signature(self, content: bytes) -> str:
        """Return the signature as base64."""
        return base64.b64encode(self.sign(content)).decode()


class SignedHead(t.NamedTuple):
    """The last record of the audit file at the time of signing."""

    head: chain.Head
    time: str
    signature: str

    def message(self) -> bytes:
        return f"keyops.utrust audit head\n{self.head.sequence}\n{self.head.sha256}\n{self.time}\n".encode()


def record_check(public_key: str) -> t.Callable[[chain.Record], None]:
    """Return a function that raises ChainError (`record_not_signed`) for a record that the owner of the key did not sign."""

    def check(record: chain.Record) -> None:
        signature = record.get("signature")
        if not isinstance(signature, str) or not _verify(public_key, signature, chain.signed_content(record)):
            raise chain.ChainError("record_not_signed", "the record has no signature that fits the public key")

    return check


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def load_signer(path: str) -> Signer:
    """Load a PEM private key without passphrase that only its owner can read. Raises AuditError."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    except ImportError as exc:
        raise AuditError(
            "audit_signing_key_invalid",
            f"signing with {path} requires the Python package cryptography: {exc}. Install the package",
        ) from exc
    try:
        status = pathlib.Path(path).stat()
        if status.st_mode & 0o077 or status.st_uid not in (os.geteuid(), 0):
            raise AuditError(
                "audit_signing_key_invalid",
                f"signing key {path} belongs to another user, or other users can read it. Set owner and mode 0600",
            )
        key = load_pem_private_key(pathlib.Path(path).read_bytes(), password=None)
    except (OSError, TypeError, ValueError) as exc:
        raise AuditError(
            "audit_signing_key_invalid",
            f"reading signing key {path} failed: {type(exc).__name__}. Use a PEM file without a passphrase",
        ) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError(
            "audit_signing_key_invalid", f"signing key {path} is not an Ed25519 key. Generate an Ed25519 key"
        )
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Signer(key.sign, public.decode())


def signature_path(path: str) -> pathlib.Path:
    return pathlib.Path(f"{path}.head.sig")


def read_signed_head(path: str) -> SignedHead | None:
    """Read the signed head of an audit file without verifying it. Raises AuditError."""
    try:
        content = json.loads(_read_regular(signature_path(path)))
        head = chain.Head(int(content["sequence"]), str(content["sha256"]))
        return SignedHead(head, str(content["time"]), str(content["signature"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise AuditError(
            "audit_signature_invalid", f"reading {signature_path(path)} failed: {exc!r}. Verify the audit file"
        ) from exc


def _read_regular(path: pathlib.Path) -> bytes:
    """Raises OSError for a link or a pipe, which another user may have put there."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is not a regular file")
        return file.read(1 << 16)


def is_signed(signed: SignedHead, public_key: str) -> bool:
    """Whether the signed head fits the public key (PEM). Raises AuditError."""
    return _verify(public_key, signed.signature, signed.message())


def _verify(public_key: str, signature: str, message: bytes) -> bool:
    try:
        return verify_ed25519(public_key, signature, message)
    except (ImportError, TypeError, ValueError) as exc:
        raise AuditError("audit_signature_unverifiable", f"verifying a signature failed: {exc}") from exc


def check_signed_head(path: str, signer: Signer, head: chain.Head) -> None:
    """Check the records that the last signature does not cover, because a new signature would accept them. Raises AuditError.

    After the signed head, only a record of a killed run can follow. It has the signature of its content.
    """
    keep = "Keep the file as it is, verify it, and configure another file"
    signed = read_signed_head(path)
    if signed is not None and not is_signed(signed, signer.public_key):
        raise AuditError(
            "audit_signature_invalid", f"{signature_path(path)} was changed or was signed with another key. {keep}"
        )
    if head == (signed.head if signed is not None else chain.Head()):
        return
    if signed is None:
        raise AuditError(
            "audit_signature_missing",
            f"{path} has records, but the signed head {signature_path(path)} is missing. {keep}",
        )
    with open(path, "rb") as file:
        found = chain.verify(file, checkpoints={signed.head.sequence}, check_record=record_check(signer.public_key))
    if found.checkpoint_digests.get(signed.head.sequence) != signed.head.sha256:
        raise AuditError(
            "audit_truncated",
            f"records are missing: {path} ends with record {head.sequence}, but record {signed.head.sequence} was signed. {keep}",
        )
    if found.first_broken is not None:
        line, dummy, text = found.first_broken
        raise AuditError(
            "audit_not_signed", f"line {line} of {path} is not from a run with the signing key: {text}. {keep}"
        )


def check_unsigned(path: str, record: chain.Record | None) -> None:
    """Check that a run without the signing key does not append to a signed file. Raises AuditError."""
    if record is not None and "signature" in record:
        raise AuditError(
            "audit_not_signed",
            f"{path} is signed, but signing_key is not set. Nothing was written. Set signing_key, or configure another file",
        )


def write_signed_head(path: str, signer: Signer, head: chain.Head) -> None:
    """Replace the signed head in one step, so that a kill leaves the old or the new signature."""
    signed = SignedHead(head, now(), "")
    content = {**head._asdict(), "time": signed.time, "signature": signer.signature(signed.message())}
    target = signature_path(path)
    temporary = target.with_name(f"{target.name}.new")
    # A killed run can leave this file, and another user can put a link there. Nothing is written through a link.
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(canonical(content) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
