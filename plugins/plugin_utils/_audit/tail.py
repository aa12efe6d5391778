# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of an audit file, and its recovery after a killed writer. Private to keyops.utrust."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain

BLOCK: t.Final = 1 << 16


class Tail(t.NamedTuple):
    """The last record, the marked fragments after the record, and the bytes after the last line feed."""

    record: chain.Record | None
    marked: list[bytes]
    rest: bytes

    @property
    def head(self) -> chain.Head:
        return chain.Head() if self.record is None else _head_of(self.record)


def read_tail(descriptor: int, size: int) -> Tail:
    """Read as little of the file as possible. Raises ChainError if the last line is broken."""
    block = BLOCK
    while True:
        start = max(0, size - block)
        lines = _read(descriptor, start, size).split(b"\n")
        rest = lines.pop()
        if start and lines:
            lines.pop(0)  # The line may have begun before the block.
        marked: list[bytes] = []
        while lines and lines[-1].endswith(chain.FRAGMENT_MARK):
            marked.insert(0, lines.pop().removesuffix(chain.FRAGMENT_MARK))
        if lines or not start:
            return Tail(chain.read_record(lines[-1]) if lines else None, marked, rest)
        block *= 4


def recover_tail(tail: Tail, line_feeds: int) -> tuple[bytes, chain.Record, chain.Head]:
    """The bytes that end the unfinished line, the record about all fragments, and the head before that record.

    `line_feeds` is the number of line feeds in the file. Raises ChainError.
    """
    first = line_feeds - len(tail.marked) + 1
    fragments = [
        chain.Fragment.from_content(first + index, content, recorded=True) for index, content in enumerate(tail.marked)
    ]
    start, head = b"", tail.head
    if tail.rest:
        try:
            record = chain.read_record(tail.rest)
        except chain.ChainError:
            fragments.append(chain.Fragment.from_content(line_feeds + 1, tail.rest, recorded=True))
            start = chain.FRAGMENT_MARK + b"\n"
        else:
            if (record["sequence"], record["previous"]) != (head.sequence + 1, head.sha256):
                raise chain.ChainError("chain_broken", "the last record does not follow the record before it")
            # Only the line feed is missing. If there are fragments before the record, the record names them.
            start, head, fragments = b"\n", _head_of(record), []
    return start, {"event": chain.FRAGMENTS_FOUND, "fragments": [fragment.to_dict() for fragment in fragments]}, head


def count_line_feeds(descriptor: int, size: int) -> int:
    return sum(_read(descriptor, at, min(at + BLOCK, size)).count(b"\n") for at in range(0, size, BLOCK))


def _head_of(record: chain.Record) -> chain.Head:
    return chain.Head(record["sequence"], record["sha256"])


def _read(descriptor: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(descriptor, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)
