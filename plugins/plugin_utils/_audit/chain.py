# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hash chain of the audit file: pure functions over lines. Private to keyops.utrust.

A line is one record: canonical JSON with its `sequence`, the SHA-256 of the `previous` record and its own `sha256`. A record is valid only if its
content gives the same bytes again, so that any changed byte is detected.

A killed writer leaves a fragment at the end: not a record, without a line feed. The next writer keeps the fragment, ends it with `FRAGMENT_MARK`, and
names it in its next record.

With a signing key, each record has the signature of its content. The digest of the record covers the signature.
"""

from __future__ import annotations

import dataclasses as dc
import hashlib
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import canonical

GENESIS: t.Final = "0" * 64
#: Two bytes, so that no change of a single byte turns a record into a marked fragment.
FRAGMENT_MARK: t.Final = b"\x18\x18"
FRAGMENTS_FOUND: t.Final = "fragments_found"
STARTED, ENDED, LOST = "job_started", "job_ended", "job_lost"

Record = dict[str, t.Any]


class ChainError(Exception):
    """A line is not a valid next record of the chain."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Head(t.NamedTuple):
    """The last record. Its digest covers all records before it."""

    sequence: int = 0
    sha256: str = GENESIS


class Fragment(t.NamedTuple):
    """The unfinished line of a killed writer. `recorded` is true if a later record names the fragment."""

    line: int
    size: int
    sha256: str
    recorded: bool

    @staticmethod
    def from_content(line: int, content: bytes, *, recorded: bool) -> Fragment:
        return Fragment(line, len(content), hashlib.sha256(content).hexdigest(), recorded)

    def to_dict(self) -> Record:
        return {"line": self.line, "size": self.size, "sha256": self.sha256}


@dc.dataclass
class Chain:
    """The content of a file up to its first broken line."""

    head: Head = dc.field(default_factory=Head)
    #: Whether the records have signatures. All of them have one, or none.
    signed: bool = False
    #: Line, code and text.
    first_broken: tuple[int, str, str] | None = None
    fragments: list[Fragment] = dc.field(default_factory=list)
    #: The line of the start of each job.
    open_jobs: dict[str, int] = dc.field(default_factory=dict)
    #: The SHA-256 of each requested sequence number.
    checkpoint_digests: dict[int, str] = dc.field(default_factory=dict)


def signed_content(record: Record) -> bytes:
    """The bytes that the signature of a record covers. They contain the place of the record in the chain."""
    content = {name: value for name, value in record.items() if name not in ("sha256", "signature")}
    return b"keyops.utrust audit record\n" + canonical(content)


def append_record(record: Record, head: Head, sign: t.Callable[[bytes], str] | None = None) -> tuple[bytes, Head]:
    """The next record as a line without its line feed, and the new head. `sign` returns the signature of bytes as base64."""
    record = {**record, "sequence": head.sequence + 1, "previous": head.sha256}
    if sign is not None:
        record = {**record, "signature": sign(signed_content(record))}
    digest = hashlib.sha256(canonical(record)).hexdigest()
    return canonical({**record, "sha256": digest}), Head(head.sequence + 1, digest)


def read_record(line: bytes) -> Record:
    """The record of a line, without its line feed. Raises ChainError."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ChainError("record_invalid", "the line is not JSON") from exc
    if not isinstance(record, dict) or not isinstance(record.get("sequence"), int) or canonical(record) != line:
        raise ChainError("record_invalid", "the line is not in the format of a record")
    digest = hashlib.sha256(canonical({name: value for name, value in record.items() if name != "sha256"})).hexdigest()
    if record.get("sha256") != digest:
        raise ChainError(
            "record_invalid", f"the digest of the line is {digest}, but the line names {record.get('sha256')}"
        )
    return record


def verify(
    lines: t.Iterable[bytes],
    *,
    checkpoints: t.Container[int] = (),
    check_record: t.Callable[[Record], None] | None = None,
) -> Chain:
    """Follow the chain from its first line (with line feeds, as a file yields them) to its end or to the first broken line.

    `check_record` raises ChainError for a record that it does not accept.
    """
    chain = Chain()
    unnamed: list[tuple[int, bytes]] = []  # Marked fragments that the next record must name.
    for number, line in enumerate(lines, start=1):
        content, whole = line.removesuffix(b"\n"), line.endswith(b"\n")
        try:
            try:
                record = read_record(content)
            except ChainError:
                if whole and content.endswith(FRAGMENT_MARK):
                    unnamed.append((number, content[: -len(FRAGMENT_MARK)]))
                    continue
                if not whole and not _is_record(content[:-1]):
                    chain.fragments.append(Fragment.from_content(number, content, recorded=False))
                    break
                raise
            if check_record is not None:
                check_record(record)
            _add_record(chain, record, number, unnamed)
            if chain.head.sequence in checkpoints:
                chain.checkpoint_digests[chain.head.sequence] = chain.head.sha256
        except ChainError as exc:
            # If an intact record does not fit, the first line that the record must name is the first broken line.
            first = unnamed[0][0] if unnamed and exc.code != "record_invalid" else number
            chain.first_broken = (first, exc.code, str(exc))
            return chain
        if not whole:
            chain.fragments.append(Fragment.from_content(number, content, recorded=False))
    # The writer was killed again before it recorded these fragments.
    chain.fragments += [Fragment.from_content(line, content, recorded=False) for line, content in unnamed]
    chain.fragments.sort()
    return chain


def _is_record(content: bytes) -> bool:
    try:
        read_record(content)
    except ChainError:
        return False
    return True


def _add_record(chain: Chain, record: Record, number: int, unnamed: list[tuple[int, bytes]]) -> None:
    """Add the record as the next record of the chain. Raises ChainError."""
    expected = chain.head.sequence + 1
    if record.get("sequence") != expected:
        raise ChainError(
            "sequence_broken", f"record {expected} is missing, and the line has record {record.get('sequence')}"
        )
    if record.get("previous") != chain.head.sha256:
        raise ChainError(
            "chain_broken",
            f"the record follows {record.get('previous')}, but the record before it is {chain.head.sha256}",
        )
    if expected > 1 and ("signature" in record) != chain.signed:
        text = "the record is not signed" if chain.signed else "the record is signed"
        raise ChainError("record_not_signed", f"{text}, unlike the records before it")
    found = [Fragment.from_content(line, content, recorded=True) for line, content in unnamed]
    named = record.get("fragments", []) if record.get("event") == FRAGMENTS_FOUND else []
    if [fragment.to_dict() for fragment in found] != named:
        raise ChainError("fragment_mismatch", "the record does not name the fragments before it")
    chain.fragments += found
    unnamed.clear()
    chain.head, chain.signed = Head(expected, str(record["sha256"])), "signature" in record
    job = str(record.get("job", ""))
    if record.get("event") == STARTED:
        chain.open_jobs[job] = number
    elif record.get("event") == ENDED:
        chain.open_jobs.pop(job, None)
    elif record.get("event") == LOST:
        chain.open_jobs.pop(str(record.get("lost_job", "")), None)
