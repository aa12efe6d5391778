# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The signed head of an audit file. Private to keyops.utrust.

The signed head is a file beside the audit file. It proves up to which record the audit file went when the head was signed.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import pathlib
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


class SignedHead(t.NamedTuple):
    """The last record of the audit file at the time of signing."""

    head: chain.Head
    time: str
    signature: str

    def message(self) -> bytes:
        return f"keyops.utrust audit head\n{self.head.sequence}\n{self.head.sha256}\n{self.time}\n".encode()


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
        if pathlib.Path(path).stat().st_mode & 0o077:
            raise AuditError(
                "audit_signing_key_invalid", f"other users can read signing key {path}. Set the file mode to 0600"
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
        content = json.loads(signature_path(path).read_bytes())
        head = chain.Head(int(content["sequence"]), str(content["sha256"]))
        return SignedHead(head, str(content["time"]), str(content["signature"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise AuditError(
            "audit_signature_invalid", f"reading {signature_path(path)} failed: {exc!r}. Verify the audit file"
        ) from exc


def is_signed(signed: SignedHead, public_key: str) -> bool:
    """Whether the signed head fits the public key (PEM). Raises AuditError."""
    try:
        return verify_ed25519(public_key, signed.signature, signed.message())
    except (ImportError, TypeError, ValueError) as exc:
        raise AuditError("audit_signature_unverifiable", f"verifying the signed head failed: {exc}") from exc


def check_signed_head(path: str, signer: Signer, head: chain.Head, record: chain.Record | None) -> None:
    """Check that no record before the old signature is missing, because a new signature would hide the gap. Raises AuditError."""
    signed = read_signed_head(path)
    if signed is None:
        if record is not None and "signing_key" in record:
            raise AuditError(
                "audit_signature_missing",
                f"{path} was signed, but {signature_path(path)} is missing. "
                "Keep the file as it is, verify it, and configure another file",
            )
        return
    if not is_signed(signed, signer.public_key):
        raise AuditError(
            "audit_signature_invalid",
            f"{signature_path(path)} was changed or was signed with another key. "
            "Keep the file as it is, verify it, and configure another file",
        )
    if signed.head == head:
        return
    with open(path, "rb") as file:
        digests = chain.verify(file, checkpoints={signed.head.sequence}).checkpoint_digests
    if digests.get(signed.head.sequence) != signed.head.sha256:
        raise AuditError(
            "audit_truncated",
            f"records are missing: {path} ends with record {head.sequence}, but record {signed.head.sequence} was signed. "
            "Keep the file as it is, verify it, and configure another file",
        )


def write_signed_head(path: str, signer: Signer, head: chain.Head) -> None:
    """Replace the signed head in one step, so that a kill leaves the old or the new signature."""
    signed = SignedHead(head, now(), "")
    signature = base64.b64encode(signer.sign(signed.message())).decode()
    content = {"sequence": head.sequence, "sha256": head.sha256, "time": signed.time, "signature": signature}
    target = signature_path(path)
    temporary = target.with_name(f"{target.name}.new")
    with open(temporary, "wb") as file:
        file.write(canonical(content) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
