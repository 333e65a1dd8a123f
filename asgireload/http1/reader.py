"""Splits received bytes into requests (RFC 9112): bytes in, calls on a `RequestSink` out. No I/O, no clock.

The reader collects a head, limits its size, and checks its grammar strictly before it is interpreted
(`parser.py`). It delimits the body by Content-Length or by chunks (`chunked.py`). It stops after each request:
the bytes that follow stay unparsed until the response is complete, so that pipelined requests do not pile up as
objects.

The outcome does not depend on how the bytes were split: a fault is found at the first byte that makes the
request invalid, or at the end of the line that contains the byte.
"""

import re
from typing import Final

from asgireload.errors import PeerError
from asgireload.http.request import RequestHead, RequestLimits, RequestLine
from asgireload.http1.chunked import ChunkedBody
from asgireload.http1.head_cache import MOST_BYTES, HeadCache, KnownHead
from asgireload.http1.parser import TOKEN, RequestSink, read_head, read_request_line
from asgireload.http1.parsers import FieldsParser, parse_fields

# RFC 9110 section 5.5: field values are visible characters, spaces, tabs, and bytes above ASCII. Neither
# obs-fold nor whitespace before the colon is accepted (RFC 9112 sections 5.1 and 5.2).
_FIELD_LINE = re.compile(TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+")
_FIELD_LINES = re.compile(rb"(?:" + TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+")
_NOT_IN_LINE = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
# RFC 9112 section 2.2: empty lines before a request line are ignored.
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_TLS_HANDSHAKE: Final = 0x16  # RFC 8446 section 5.1: type of the first record


class _Nobody:
    """The sink of a reader after `let_go`: it must not be called."""

    def on_head(self, head: RequestHead) -> bool:
        raise AssertionError("a request for nobody")

    def on_body(self, data: bytes) -> None:
        raise AssertionError("a body for nobody")

    def on_complete(self) -> None:
        raise AssertionError("an end for nobody")


_NOBODY: Final = _Nobody()


class RequestReader:
    """Reads the requests of one connection, one after another. Not usable after it has raised PeerError."""

    __slots__ = (
        "_cache",
        "_chunks",
        "_head",
        "_is_over",
        "_limits",
        "_most_cached",
        "_parse_fields",
        "_partial",
        "_place",
        "_remaining",
        "_sink",
        "_walk",
    )

    def __init__(
        self,
        sink: RequestSink,
        parse_fields: FieldsParser,
        limits: RequestLimits,
        cache: HeadCache | None = None,
    ) -> None:
        """`cache` may be shared by readers with the same limits and parser."""
        self._cache = cache if cache is not None else HeadCache()
        self._most_cached = min(MOST_BYTES, limits.head)
        self._sink = sink
        self._parse_fields = parse_fields
        self._limits = limits
        self._partial = bytearray()
        """The part of a head that was received."""
        self._walk: _HeadWalk | None = None
        self._head: RequestHead | None = None
        """The head whose body is being read."""
        self._place = 0
        """The place of the head that was last found in the cache (`KnownHead.place`)."""
        self._remaining = 0
        self._chunks: ChunkedBody | None = None
        self._is_over = False

    @property
    def has_partial_head(self) -> bool:
        """True when a part of a request head was received, but not its end."""
        # A lone CR is the first half of an empty line before a request line.
        return bool(self._partial) and self._partial != b"\r"

    def partial_bytes(self) -> bytes:
        """Return the part of a head that was received, for the reader of another worker."""
        return bytes(self._partial)

    def let_go(self) -> None:
        """Forget the sink. The reader must not be used after that.

        The sink refers to its reader; without the cycle both are freed without the garbage collector.
        """
        self._sink = _NOBODY

    def feed(self, data: bytes) -> bytes:
        """Read `data` up to the end of one request at most; return the bytes after it.

        After a head for which `on_head` returned True, all bytes are returned. Bytes after a request that
        ends the connection (RFC 9112 section 9.6) are dropped. Raise PeerError for bytes that the protocol
        does not allow. The sink must not call `feed`.
        """
        if self._head is not None:
            return self._feed_body(data)
        if self._is_over:
            return b""
        partial = self._partial
        if partial:
            if partial[0] == 13:
                # The first half of an empty line, which comes before the head (RFC 9112 section 2.2).
                data = bytes(partial) + data
                partial.clear()
                self._walk = None
                return self.feed(data)
            searched = max(len(partial) - 3, 0)
            partial += data
            end = partial.find(b"\r\n\r\n", searched)
            if end < 0:
                self._check_partial()
                return b""
            data = bytes(partial)
            partial.clear()
            self._walk = None
        else:
            known = self._cache.begins(data, self._place)
            if known is not None:
                return self._begin_known(known, data[len(known.data) :])
            if data[0] == 13:
                empty_lines = _EMPTY_LINES.match(data)
                assert empty_lines is not None
                data = data[empty_lines.end() :]
            end = data.find(b"\r\n\r\n")
            if end < 0:
                partial += data
                self._check_partial()
                return b""
        return self._read_head(data, end)

    def _check_partial(self) -> None:
        if self._partial:
            if self._walk is None:
                self._walk = _HeadWalk(self._limits)
            self._walk.advance(self._partial)

    def _read_head(self, data: bytes, end: int) -> bytes:
        """Read the head that is complete in `data`; its last header line ends at `end`."""
        limits = self._limits
        size = end + 4
        rest = data[size:]
        whole = data[:size] if rest else data  # `rest` is a body, or the next request
        known = self._cache.whole.get(whole) if size <= self._most_cached else None
        if known is not None:
            self._place = known.place
            return self._begin_known(known, rest)
        line_end = data.find(b"\r\n")
        line = data[:line_end]
        block = data[line_end + 2 : end + 2]
        similar = self._cache.blocks.get(block) if end <= self._most_cached else None
        if similar is not None and line_end <= limits.line:
            request_line = read_request_line(line)
            if request_line.http_version == "1.1" and request_line.authority is None:
                head = similar.with_line(request_line)
            else:
                head = self._read_new(request_line, line, block)
        else:
            if (
                line_end > limits.line
                or end > limits.head
                or _FIELD_LINES.fullmatch(block) is None
                or block.count(b"\n") > limits.fields
            ):
                _HeadWalk(limits).advance(bytearray(data[: end + 4]))
                raise AssertionError("a head that fails the quick check fails the thorough one")
            request_line = read_request_line(line)
            head = self._read_new(request_line, line, block)
            if head.is_plain and request_line.authority is None and end <= self._most_cached:
                self._cache.keep_block(block, head)
        if head.is_plain and size <= self._most_cached:
            self._cache.keep_whole(whole, head)
        return self._begin(head, rest)

    def read_again(self, data: bytes) -> RequestHead | None:
        """Return the head of the request `data` if the same bytes were read before and the request has no body.

        The sink is not called. Return None for all other bytes, which must be passed to `feed`.
        """
        if self._head is not None or self._is_over or self._partial:
            return None
        known = self._cache.repeats(data, self._place)
        if known is None:
            return None
        head = known.head
        if head.chunked or head.content_length or not head.keep_alive:
            return None
        head.is_repeated = True
        return head

    def _begin_known(self, known: KnownHead, rest: bytes) -> bytes:
        head = known.head
        head.is_repeated = True
        return self._begin(head, rest)

    def _begin(self, head: RequestHead, rest: bytes) -> bytes:
        """Pass a head to the sink, then the body in `rest`; return the bytes after it, as `feed` does."""
        if self._sink.on_head(head):
            self._is_over = True
            return rest
        if not (head.chunked or head.content_length):
            if not head.keep_alive:
                self._is_over = True
                rest = b""
            self._sink.on_complete()
            return rest
        self._head = head
        if head.chunked:
            self._chunks = ChunkedBody(self._limits.head, self._limits.body)
        else:
            self._remaining = head.content_length
        return self._feed_body(rest)

    def _read_new(self, request_line: RequestLine, line: bytes, block: bytes) -> RequestHead:
        limits = self._limits
        if request_line.http_version == "1.1" and line[-1:] != b"1":
            line = line[:-1] + b"1"  # the libraries refuse HTTP/1.2
        try:
            headers = self._parse_fields(line, block)
        except PeerError as error:
            # Prefer the error of our own parser: it is the same whichever library is chosen.
            read_head(request_line, parse_fields(line, block))
            raise error from None
        head = read_head(request_line, headers)
        if limits.body is not None and head.content_length > limits.body:
            raise PeerError(413, f"the body is larger than {limits.body} bytes")
        return head

    def _feed_body(self, data: bytes) -> bytes:
        if self._chunks is not None:
            pieces: list[bytes] = []
            try:
                data = self._chunks.feed(data, pieces)
            finally:
                if pieces:
                    self._sink.on_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            if not self._chunks.is_complete:
                return b""
            self._chunks = None
        elif self._remaining:
            remaining = self._remaining
            size = len(data)
            if size <= remaining:
                self._remaining = remaining - size
                if data:
                    self._sink.on_body(data)
                if size < remaining:
                    return b""
                data = b""
            else:
                self._remaining = 0
                self._sink.on_body(data[:remaining])
                data = data[remaining:]
        head = self._head
        assert head is not None
        self._head = None
        if not head.keep_alive:
            self._is_over = True
            data = b""
        self._sink.on_complete()
        return data


class _HeadWalk:
    """Checks a head line by line, as far as it was received, and raises PeerError at the first fault."""

    __slots__ = ("_checked", "_fields", "_limits", "_start")

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._start = 0
        """Offset of the current line."""
        self._checked = 0
        """Offset up to which the current line has no forbidden byte."""
        self._fields = -1
        """Number of complete header lines; -1 within the request line."""

    def advance(self, buffer: bytearray) -> None:
        """Check the bytes that were added to `buffer`, which begins with the first byte of the head."""
        while True:
            line_end = buffer.find(b"\n", self._start)
            is_whole = line_end >= 0
            end = line_end if is_whole else len(buffer)
            # A CR at the end of a line belongs to the line end; at the end of the buffer, it may.
            has_return = end > self._start and buffer[end - 1] == 13
            content_end = end - 1 if has_return else end
            if content_end > self._start:
                self._check_content(buffer, content_end)
            if not is_whole:
                return
            if not has_return:
                raise PeerError(400, "a line of the request head does not end with CRLF")
            self._check_line(bytes(buffer[self._start : content_end]))
            self._start = self._checked = line_end + 1

    def _check_content(self, buffer: bytearray, end: int) -> None:
        limits = self._limits
        in_request_line = self._fields < 0
        if not in_request_line and self._fields >= limits.fields:
            raise PeerError(431, f"the request has more than {limits.fields} header fields")
        limit = self._start + limits.line if in_request_line else limits.head
        fault = _NOT_IN_LINE.search(buffer, self._checked, min(end, limit))
        if fault is not None:
            if fault.start() == 0 and buffer[0] == _TLS_HANDSHAKE:
                raise PeerError(400, "this port speaks plain HTTP, not TLS")
            raise PeerError(400, "the request head has a character that is not allowed")
        self._checked = end
        if end > limit:
            if in_request_line:
                raise PeerError(414, f"the request line is longer than {limits.line} bytes")
            raise PeerError(431, f"the request head is larger than {limits.head} bytes")

    def _check_line(self, line: bytes) -> None:
        if self._fields < 0:
            read_request_line(line)
        elif line and _FIELD_LINE.fullmatch(line) is None:
            if line[:1] in (b" ", b"\t"):
                raise PeerError(400, "a header line begins with whitespace")
            raise PeerError(400, "this is not a header line")
        self._fields += 1
