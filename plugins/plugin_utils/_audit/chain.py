# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hash chain of the audit file: pure functions over lines. Private to keyops.utrust.

A line is one record: canonical JSON with its `sequence`, the SHA-256 of the `previous` record and its own `sha256`. A record must be, byte for
byte, what its content gives again, so that no byte of a line can be another one.

What a killed writer leaves at the end is a fragment: no record, no line feed. The next writer keeps it, ends it with `FRAGMENT_MARK`, and its next record
says which fragments it found.
"""

from __future__ import annotations

import dataclasses as dc
import hashlib
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import canonical

GENESIS: t.Final = "0" * 64
#: Two bytes, so that no change of a single byte makes a canceled fragment of a record.
FRAGMENT_MARK: t.Final = b"\x18\x18"
FRAGMENTS_FOUND: t.Final = "fragments_found"
STARTED, ENDED = "job_started", "job_ended"

Facts = dict[str, t.Any]


class ChainError(Exception):
    """A line is not what a writer of this chain wrote there."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Head(t.NamedTuple):
    """The last record: with it, all records before it are known."""

    sequence: int = 0
    sha256: str = GENESIS


class Fragment(t.NamedTuple):
    """What a killed writer left; `recorded` once a later record says that it is there."""

    line: int
    size: int
    sha256: str
    recorded: bool

    @staticmethod
    def of(line: int, content: bytes, *, recorded: bool) -> Fragment:
        return Fragment(line, len(content), hashlib.sha256(content).hexdigest(), recorded)

    def to_dict(self) -> Facts:
        return {"line": self.line, "size": self.size, "sha256": self.sha256}


@dc.dataclass
class Chain:
    """What a file turned out to hold, up to its first broken line."""

    head: Head = dc.field(default_factory=Head)
    first_broken: tuple[int, str, str] | None = None
    fragments: list[Fragment] = dc.field(default_factory=list)
    open_jobs: dict[str, int] = dc.field(default_factory=dict)
    #: The sha256 of those sequences that were asked for.
    seen: dict[int, str] = dc.field(default_factory=dict)


def append_record(facts: Facts, head: Head) -> tuple[bytes, Head]:
    """The next record as a line without its line feed, and the head that it makes."""
    record = {**facts, "sequence": head.sequence + 1, "previous": head.sha256}
    digest = hashlib.sha256(canonical(record)).hexdigest()
    return canonical({**record, "sha256": digest}), Head(head.sequence + 1, digest)


def read_record(line: bytes) -> Facts:
    """The record of a line, without its line feed. Raises ChainError."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ChainError("record_invalid", "it is no JSON") from exc
    if not isinstance(record, dict) or not isinstance(record.get("sequence"), int) or canonical(record) != line:
        raise ChainError("record_invalid", "it is not written as records are")
    digest = hashlib.sha256(canonical({name: fact for name, fact in record.items() if name != "sha256"})).hexdigest()
    if record.get("sha256") != digest:
        raise ChainError("record_invalid", f"its digest is {digest}, it names {record.get('sha256')}")
    return record


def verify(lines: t.Iterable[bytes], *, checkpoints: t.Container[int] = ()) -> Chain:
    """Follow the chain from its first line (with line feeds, as a file yields them) to its end or to the first broken line."""
    chain = Chain()
    waiting: list[tuple[int, bytes]] = []  # canceled fragments that the next record must name
    for number, line in enumerate(lines, start=1):
        content, whole = line.removesuffix(b"\n"), line.endswith(b"\n")
        try:
            try:
                record = read_record(content)
            except ChainError:
                if whole and content.endswith(FRAGMENT_MARK):
                    waiting.append((number, content[: -len(FRAGMENT_MARK)]))
                    continue
                if not whole and not _is_record(content[:-1]):
                    chain.fragments.append(Fragment.of(number, content, recorded=False))
                    break
                raise
            _follow(chain, record, number, waiting)
            if chain.head.sequence in checkpoints:
                chain.seen[chain.head.sequence] = chain.head.sha256
        except ChainError as exc:
            # Where an intact record does not fit, the first line that it should vouch for is the first that is broken.
            first = waiting[0][0] if waiting and exc.code != "record_invalid" else number
            chain.first_broken = (first, exc.code, str(exc))
            return chain
        if not whole:
            chain.fragments.append(Fragment.of(number, content, recorded=False))
    # Killed again, before it could say what it found.
    chain.fragments += [Fragment.of(line, content, recorded=False) for line, content in waiting]
    chain.fragments.sort()
    return chain


def _is_record(content: bytes) -> bool:
    try:
        read_record(content)
    except ChainError:
        return False
    return True


def _follow(chain: Chain, record: Facts, number: int, waiting: list[tuple[int, bytes]]) -> None:
    """Take the record as the next one of the chain. Raises ChainError."""
    wanted = chain.head.sequence + 1
    if record.get("sequence") != wanted:
        raise ChainError("sequence_broken", f"record {wanted} should be here, it is record {record.get('sequence')}")
    if record.get("previous") != chain.head.sha256:
        raise ChainError(
            "chain_broken", f"it follows {record.get('previous')}, the record before it is {chain.head.sha256}"
        )
    found = [Fragment.of(line, content, recorded=True) for line, content in waiting]
    named = record.get("fragments", []) if record.get("event") == FRAGMENTS_FOUND else []
    if [fragment.to_dict() for fragment in found] != named:
        raise ChainError("fragment_mismatch", "the fragments before it are not those that it names")
    chain.fragments += found
    waiting.clear()
    chain.head = Head(wanted, str(record["sha256"]))
    job = str(record.get("job", ""))
    if record.get("event") == STARTED:
        chain.open_jobs[job] = number
    elif record.get("event") == ENDED:
        chain.open_jobs.pop(job, None)
