"""The chunked transfer coding, decoded (RFC 9112 section 7.1): bytes in, body pieces out.

Stricter than most: chunk sizes are hexadecimal digits and nothing else, lines end with CRLF, extensions
and trailers are bounded, and a trailer may not carry a field that frames, routes or authenticates.
"""

import re
from enum import Enum, auto
from typing import Final

from asgireload.errors import PeerError
from asgireload.http1.parser import TOKEN

LINE_BYTES: Final = 1024
"""A chunk's size with its extensions. Nobody is known to use extensions; this has room for a signature."""

_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|"
    rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"))?)*'
)
_CHUNK_LINE_START = re.compile(rb"[0-9A-Fa-f]")
_TRAILER_LINE = re.compile(rb"(" + TOKEN + rb"):[\t\x20-\x7e\x80-\xff]*+")
# RFC 9110 section 6.5.1: framing, routing, request modifiers, authentication, content format.
FORBIDDEN_TRAILERS = frozenset(
    b"content-length transfer-encoding host connection te trailer upgrade expect max-forwards"
    b" cache-control range if-match if-none-match if-modified-since if-unmodified-since if-range"
    b" authorization proxy-authorization cookie set-cookie"
    b" content-encoding content-type content-range".split()
)


class _ChunkedState(Enum):
    SIZE = auto()
    """The line with the next chunk's size."""
    DATA = auto()
    DATA_END = auto()
    """The line end behind a chunk's data."""
    TRAILERS = auto()
    COMPLETE = auto()


class ChunkedBody:
    """Decodes one body. Not usable after it has raised.

    `overhead_limit` bounds all extensions together, and the trailer section, in bytes; `body_limit` the
    body itself.
    """

    __slots__ = (
        "_body_limit",
        "_line",
        "_overhead",
        "_overhead_limit",
        "_remaining",
        "_size",
        "_state",
    )

    def __init__(self, overhead_limit: int, body_limit: int | None) -> None:
        self._overhead_limit = overhead_limit
        self._body_limit = body_limit
        self._state = _ChunkedState.SIZE
        self._line = b""
        """The part of a line that was received."""
        self._remaining = 0
        """Bytes of the current chunk that are still to come."""
        self._size = 0
        self._overhead = 0

    @property
    def is_complete(self) -> bool:
        return self._state is _ChunkedState.COMPLETE

    def feed(self, data: bytes, pieces: list[bytes]) -> bytes:
        """Append the body in `data` to `pieces`, also if it raises; return what follows the body's end.

        Raise PeerError: 400 for bytes that the coding does not allow, 413 for a body over the limit, 431
        for trailers that are too large.
        """
        position = 0
        size = len(data)
        while position < size:
            if self._state is _ChunkedState.DATA:
                end = position + self._remaining
                piece = data[position:end]
                pieces.append(piece)
                self._remaining -= len(piece)
                position += len(piece)
                if self._remaining == 0:
                    self._state = _ChunkedState.DATA_END
                continue
            end = data.find(b"\n", position)
            line = self._line + (data[position:] if end < 0 else data[position:end])
            if end < 0:
                self._check_partial(line)
                self._line = line
                return b""
            position = end + 1
            self._line = b""
            if line[-1:] != b"\r":
                # What was too long before its end is refused for that, as it is if it comes in pieces.
                self._check_partial(line)
                raise PeerError(400, "a line of the chunked body does not end with CRLF")
            self._read_line(line[:-1])
            if self._state is _ChunkedState.COMPLETE:
                break
        return data[position:]

    def _check_partial(self, line: bytes) -> None:
        """Refuse at once what no further byte could make right."""
        if self._state is _ChunkedState.DATA_END:
            if line != b"\r":
                raise PeerError(400, "a chunk is longer than it says")
        elif self._state is _ChunkedState.SIZE:
            if _CHUNK_LINE_START.match(line) is None:
                raise PeerError(400, "a chunk size is not a number")
            if len(line) > LINE_BYTES + 1:  # the CR of its end may be there
                raise PeerError(400, "a chunk extension is too long")
        elif self._overhead + len(line) > self._overhead_limit:
            raise PeerError(431, "the trailers are too large")

    def _read_line(self, line: bytes) -> None:
        if self._state is _ChunkedState.SIZE:
            self._read_size(line)
        elif self._state is _ChunkedState.DATA_END:
            if line:
                raise PeerError(400, "a chunk is longer than it says")
            self._state = _ChunkedState.SIZE
        elif line:
            self._read_trailer(line)
        else:
            self._state = _ChunkedState.COMPLETE

    def _read_size(self, line: bytes) -> None:
        if _CHUNK_LINE_START.match(line) is None:
            raise PeerError(400, "a chunk size is not a number")
        if len(line) > LINE_BYTES:
            raise PeerError(400, "a chunk extension is too long")
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise PeerError(400, "this is not the size of a chunk")
        self._overhead += len(line) - len(match[1])
        if self._overhead > self._overhead_limit:
            raise PeerError(400, "the chunk extensions are too large")
        self._remaining = int(match[1], 16)
        self._size += self._remaining
        if self._body_limit is not None and self._size > self._body_limit:
            raise PeerError(413, f"the body is larger than {self._body_limit} bytes")
        if self._remaining:
            self._state = _ChunkedState.DATA
        else:
            self._state = _ChunkedState.TRAILERS
            self._overhead = 0

    def _read_trailer(self, line: bytes) -> None:
        # ASGI has no place for the trailers of a request: checked, and dropped (RFC 9110 section 6.5.1).
        self._overhead += len(line) + 2
        if self._overhead > self._overhead_limit:
            raise PeerError(431, "the trailers are too large")
        match = _TRAILER_LINE.fullmatch(line)
        if match is None:
            raise PeerError(400, "this is not a trailer")
        if match[1].lower() in FORBIDDEN_TRAILERS:
            raise PeerError(400, f"{match[1].decode()} is not allowed in a trailer")
