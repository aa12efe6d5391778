# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit file: appending under a lock, synced, with a signed head; and reading it back. Private to keyops.utrust.

Several runs may append to one file at the same time. Nothing that is in the file is ever removed or rewritten.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import stat
import time
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain
from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import canonical
from ansible_collections.keyops.utrust.plugins.plugin_utils._signature import verify_ed25519

LOCK_TIMEOUT = 30.0
BLOCK = 1 << 16


class AuditError(Exception):
    """Evidence could not be written or read."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{text} [{code}]")
        self.code = code


class Signer(t.NamedTuple):
    """An Ed25519 key; `public_key` is PEM."""

    sign: t.Callable[[bytes], bytes]
    public_key: str

    @property
    def name(self) -> str:
        """What records call the key: the start of the SHA-256 of its public half."""
        return hashlib.sha256(self.public_key.encode()).hexdigest()[:16]


class SignedHead(t.NamedTuple):
    """What `head.sig` says: up to which record the file went when it was signed."""

    head: chain.Head
    time: str
    signature: str

    def message(self) -> bytes:
        return f"keyops.utrust audit head\n{self.head.sequence}\n{self.head.sha256}\n{self.time}\n".encode()


def load_signer(path: str) -> Signer:
    """The key in a PEM file without passphrase that only its owner can read. Raises AuditError."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    except ImportError as exc:
        raise AuditError(
            "audit_signing_key_invalid", f"signing with {path} needs the Python package cryptography: {exc}"
        ) from exc
    try:
        if pathlib.Path(path).stat().st_mode & 0o077:
            raise AuditError(
                "audit_signing_key_invalid", f"signing key {path} can be read by others than its owner; chmod 0600"
            )
        key = load_pem_private_key(pathlib.Path(path).read_bytes(), password=None)
    except (OSError, TypeError, ValueError) as exc:
        raise AuditError("audit_signing_key_invalid", f"reading signing key {path}: {type(exc).__name__}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError("audit_signing_key_invalid", f"signing key {path} is no Ed25519 key")
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Signer(key.sign, public.decode())


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def signature_path(path: str) -> pathlib.Path:
    return pathlib.Path(f"{path}.head.sig")


def read_signed_head(path: str) -> SignedHead | None:
    """The signed head beside an audit file, not yet verified. Raises AuditError."""
    try:
        content = json.loads(signature_path(path).read_bytes())
        head = chain.Head(int(content["sequence"]), str(content["sha256"]))
        return SignedHead(head, str(content["time"]), str(content["signature"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise AuditError("audit_signature_invalid", f"reading {signature_path(path)}: {exc!r}") from exc


class AuditFile:
    """Appends records to one file. Every call opens it anew, so that nothing is held while a run waits for people."""

    def __init__(self, path: str, signer: Signer | None = None, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self.path = os.path.realpath(path)
        self._signer = signer
        self._lock_timeout = lock_timeout

    def append(self, facts: chain.Facts) -> chain.Head:
        """Write one record (and before it, what was found of a killed writer); on return it is on the disk. Raises AuditError."""
        try:
            with self._locked() as descriptor:
                return self._append(descriptor, facts)
        except chain.ChainError as exc:
            raise AuditError(
                "audit_broken",
                f"appending to {self.path}: its last line is not intact: {exc}; nothing was written. Verify the file, keep it as it is, and "
                "configure another one",
            ) from exc
        except OSError as exc:
            raise AuditError("audit_not_written", f"appending to {self.path}: {exc}") from exc

    @contextlib.contextmanager
    def _locked(self) -> t.Iterator[int]:
        end = time.monotonic() + self._lock_timeout
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                while not _try_lock(descriptor):
                    if time.monotonic() > end:
                        raise AuditError(
                            "audit_locked", f"{self.path} was locked by others for {self._lock_timeout:g} s"
                        )
                    time.sleep(0.01)
                if _is_still_at(self.path, descriptor):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)  # this unlocks, too

    def _append(self, descriptor: int, facts: chain.Facts) -> chain.Head:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022:
            raise AuditError("audit_not_private", f"{self.path} is no file that only its owner can write")
        last, canceled, fragment = _tail(descriptor, status.st_size)
        record = chain.read_record(last) if last is not None else None
        head = _head(record)
        self._check_signed_head(head, record)
        lines: list[bytes] = []
        if fragment or canceled:
            start, found, head = _recover_tail(head, canceled, fragment, _line_feeds(descriptor, status.st_size))
            lines.append(start)
            line, head = chain.append_record(self._with_key({**_context(facts), **found}), head)
            lines.append(line + b"\n")
        line, head = chain.append_record(self._with_key(facts), head)
        _write(descriptor, b"".join([*lines, line + b"\n"]))
        os.fsync(descriptor)
        if status.st_size == 0:
            _sync_directory(pathlib.Path(self.path).parent)
        self._sign(head)
        return head

    def _with_key(self, facts: chain.Facts) -> chain.Facts:
        return facts if self._signer is None else {**facts, "signing_key": self._signer.name}

    def _check_signed_head(self, head: chain.Head, record: chain.Facts | None) -> None:
        """A new signature must never cover up that records behind the old one are gone."""
        if self._signer is None:
            return
        signed = read_signed_head(self.path)
        if signed is None:
            if record is not None and "signing_key" in record:
                raise AuditError(
                    "audit_signature_missing", f"{self.path} was signed, but {signature_path(self.path)} is gone"
                )
            return
        if not is_signed(signed, self._signer.public_key):
            raise AuditError(
                "audit_signature_invalid", f"{signature_path(self.path)} was not made with this key, or was altered"
            )
        if signed.head == head:
            return
        with open(self.path, "rb") as file:
            seen = chain.verify(file, checkpoints={signed.head.sequence}).seen
        if seen.get(signed.head.sequence) != signed.head.sha256:
            raise AuditError(
                "audit_truncated",
                f"{self.path} ends with record {head.sequence}, but record {signed.head.sequence} was signed: records are missing",
            )

    def _sign(self, head: chain.Head) -> None:
        if self._signer is None:
            return
        signed = SignedHead(head, now(), "")
        signature = base64.b64encode(self._signer.sign(signed.message())).decode()
        content = {"sequence": head.sequence, "sha256": head.sha256, "time": signed.time, "signature": signature}
        path = signature_path(self.path)
        temporary = path.with_name(f"{path.name}.new")
        with open(temporary, "wb") as file:
            file.write(canonical(content) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def is_signed(signed: SignedHead, public_key: str) -> bool:
    """Whether the signed head fits the public key (PEM). Raises AuditError."""
    try:
        return verify_ed25519(public_key, signed.signature, signed.message())
    except (ImportError, TypeError, ValueError) as exc:
        raise AuditError("audit_signature_unverifiable", f"verifying the signed head: {exc}") from exc


def _context(facts: chain.Facts) -> chain.Facts:
    return {name: facts[name] for name in ("time", "job") if name in facts}


def _head(record: chain.Facts | None) -> chain.Head:
    return chain.Head() if record is None else chain.Head(record["sequence"], record["sha256"])


def _recover_tail(
    head: chain.Head, canceled: list[bytes], fragment: bytes, line_feeds: int
) -> tuple[bytes, chain.Facts, chain.Head]:
    """What to write first after a killed writer, what to record about it, and the head that then counts."""
    first = line_feeds - len(canceled) + 1
    found = [chain.Fragment.of(first + index, content, recorded=True) for index, content in enumerate(canceled)]
    start = b""
    if fragment:
        try:
            record = chain.read_record(fragment)
        except chain.ChainError:
            found.append(chain.Fragment.of(line_feeds + 1, fragment, recorded=True))
            start = chain.FRAGMENT_MARK + b"\n"
        else:
            if (record["sequence"], record["previous"]) != (head.sequence + 1, head.sha256):
                raise chain.ChainError("chain_broken", "the record at its end does not follow the one before it")
            # Only its line feed was missing; if fragments precede it, it is the record that names them.
            start, head, found = b"\n", _head(record), []
    return start, {"event": chain.FRAGMENTS_FOUND, "fragments": [one.to_dict() for one in found]}, head


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still_at(path: str, descriptor: int) -> bool:
    """False if somebody has moved the file away while this one waited for its lock."""
    mine = os.fstat(descriptor)
    try:
        there = pathlib.Path(path).stat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _tail(descriptor: int, size: int) -> tuple[bytes | None, list[bytes], bytes]:
    """The last line that is no canceled fragment, the canceled fragments behind it, and what comes after the last line feed."""
    block = BLOCK
    while True:
        start = max(0, size - block)
        lines = _read(descriptor, start, size).split(b"\n")
        fragment = lines.pop()
        if start and lines:
            lines.pop(0)  # it may have begun before
        canceled: list[bytes] = []
        while lines and lines[-1].endswith(chain.FRAGMENT_MARK):
            canceled.insert(0, lines.pop().removesuffix(chain.FRAGMENT_MARK))
        if lines or not start:
            return (lines[-1] if lines else None), canceled, fragment
        block *= 4


def _read(descriptor: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(descriptor, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _line_feeds(descriptor: int, size: int) -> int:
    return sum(_read(descriptor, at, min(at + BLOCK, size)).count(b"\n") for at in range(0, size, BLOCK))


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _sync_directory(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
