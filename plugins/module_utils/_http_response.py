# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read one HTTP response within a deadline and a number of bytes. Private to keyops.utrust.

`http.client` has a time limit for each read only, so a server that sends one byte a second would never end. It also accepts ambiguous lengths.
This file limits the socket below `http.client`, and reads the body itself.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits

if t.TYPE_CHECKING:
    import http.client

CHUNK = 64 * 1024
Output = t.Callable[[bytes], object]


class NoResponseError(Exception):
    """No response arrived. `sent` is whether the server may have received the request."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class InvalidResponseError(Exception):
    """The response does not follow HTTP/1.1, or its length is ambiguous."""


class ResponseTooLargeError(Exception):
    """The response is larger than the limit."""


class TimedSocket:
    """A socket for `http.client`. All reads and writes of one exchange share a deadline, and all reads share a number of bytes."""

    def __init__(self, sock: socket.socket, clock: t.Callable[[], float]) -> None:
        self._sock = sock
        self._clock = clock
        self._deadline = clock()
        self._bytes_left = 0

    def start(self, deadline: float, byte_limit: int) -> None:
        """Begin an exchange. `deadline` is a time of the clock."""
        self._deadline = deadline
        self._bytes_left = byte_limit

    def allow(self, count: int) -> None:
        """Allow so many bytes from now on."""
        self._bytes_left = count

    def wait(self) -> None:
        """Limit the next call of the socket. Raises TimeoutError if the deadline is over."""
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise TimeoutError("the deadline is over")
        self._sock.settimeout(remaining)

    def count(self, received: int) -> None:
        """Raise ResponseTooLargeError if more bytes arrived than allowed."""
        self._bytes_left -= received
        if self._bytes_left < 0:
            raise ResponseTooLargeError("the headers or the encoding of the response are larger than the limit")

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self.wait()
            view = view[self._sock.send(view) :]

    def makefile(self, dummy_mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self, self._sock.makefile("rb", buffering=0)))

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()


class _TimedReader(io.RawIOBase):
    """Reads from a socket file within the limits of its `TimedSocket`."""

    def __init__(self, timed: TimedSocket, raw: t.Any) -> None:
        self._timed = timed
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        self._timed.wait()
        received: int = self._raw.readinto(buffer)
        self._timed.count(received)
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


def read_body(response: http.client.HTTPResponse, output: Output | None, limit: int) -> bytes:
    """Return the body, or write it to `output` in chunks. At most `limit` bytes.

    Raises InvalidResponseError, ResponseTooLargeError, NoResponseError, and OSError.
    """
    parts: list[bytes] = []
    total = 0
    for part in _parts(response, limit):
        total += len(part)
        if total > limit:
            raise ResponseTooLargeError(f"the response is larger than {limit} bytes")
        (output or parts.append)(part)
    return b"".join(parts)


def _parts(response: http.client.HTTPResponse, limit: int) -> t.Iterator[bytes]:
    """Return the parts of the body by the rules of RFC 9112, section 6. Ambiguous headers are an error."""
    headers = response.headers
    if headers.defects:
        raise InvalidResponseError("the headers are malformed")
    lengths, encodings = headers.get_all("Content-Length", []), headers.get_all("Transfer-Encoding", [])
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise InvalidResponseError("the body has a Content-Encoding that was not requested")
    if lengths and encodings:
        raise InvalidResponseError("both Content-Length and Transfer-Encoding are set")
    if len(lengths) > 1 or len(encodings) > 1:
        raise InvalidResponseError("Content-Length or Transfer-Encoding is set more than once")
    if lengths and not re.fullmatch(r"[0-9]{1,15}", lengths[0]):
        raise InvalidResponseError("Content-Length is not a number")
    if encodings and encodings[0].strip().lower() != "chunked":
        raise InvalidResponseError("Transfer-Encoding is not chunked")
    stream = t.cast(t.BinaryIO, response.fp)
    if response.status in (204, 304):
        return
    if encodings:
        yield from _chunks(stream)
    elif lengths:
        length = int(lengths[0])
        if length > limit:
            raise ResponseTooLargeError(f"the response has {length} bytes, at most {limit} are accepted")
        yield from _exactly(stream, length)
    else:
        while part := stream.read(CHUNK):
            yield part


def _exactly(stream: t.BinaryIO, length: int) -> t.Iterator[bytes]:
    while length:
        part = stream.read(min(CHUNK, length))
        if not part:
            raise NoResponseError(f"the response ended {length} bytes too early", sent=True)
        length -= len(part)
        yield part


def _chunks(stream: t.BinaryIO) -> t.Iterator[bytes]:
    while size := _chunk_size(_line(stream, limits.MAX_CHUNK_LINE)):
        yield from _exactly(stream, size)
        if stream.read(2) != b"\r\n":
            raise InvalidResponseError("a chunk does not end after its size")
    left = limits.MAX_TRAILER_BYTES
    while line := _line(stream, left):
        left -= len(line) + 2


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].rstrip(b" \t")
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", digits):
        raise InvalidResponseError("the size of a chunk is not a number")
    return int(digits, 16)


def _line(stream: t.BinaryIO, limit: int) -> bytes:
    """Return a line without its end. Raises ResponseTooLargeError for a longer line."""
    line = stream.readline(limit)
    if not line.endswith(b"\r\n"):
        if len(line) >= limit:
            raise ResponseTooLargeError("a chunk or a trailer of the response is too large")
        raise NoResponseError("the response ended in the middle of a chunk", sent=True)
    return line[:-2]
