"""The parser adapter over h11: slower, pure Python, and the reference the other one is tested against.

h11 reads more generously than llhttp. The adapter gathers each head itself, refuses what only one of
the two would let through, and then hands it on. h11 insists on answering a request before reading the
next; as responses are not framed by it, every request gets a connection object of its own.
"""

import re

import h11

from asgireload.errors import PeerError
from asgireload.http.parser import RequestHead, RequestSink, read_head

# What llhttp knows (llhttp 9, methods of HTTP); h11 takes any token.
_METHODS = frozenset(
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH"
    b" UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE"
    b" UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK SOURCE QUERY".split()
)
# Control characters, bare CR, bare LF, and obs-fold (RFC 9112 sections 2.2 and 5.2).
_REFUSED_BYTES = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n|\r\n[ \t]")
_REPEATED_LENGTH = re.compile(rb"(?is)\r\ncontent-length:.*\r\ncontent-length:")
_LENGTH_LIST = re.compile(rb"(?i)\r\ncontent-length:[^\r]*,")
_TOKEN_START = re.compile(rb"[A-Za-z]")


class H11Parser:
    """See `asgireload.http.parser.RequestParser`."""

    def __init__(self, sink: RequestSink, head_bytes_limit: int) -> None:
        self._sink = sink
        self._limit = head_bytes_limit
        self._buffer = bytearray()
        self._searched = 0
        self._body: h11.Connection | None = None
        self._head: RequestHead | None = None
        self._finished = False

    @property
    def has_partial_head(self) -> bool:
        return bool(self._buffer)

    def feed(self, data: bytes) -> bytes | None:
        rest = data
        while rest and not self._finished:
            if self._body is not None:
                rest = self._feed_body(rest)
            else:
                self._buffer += rest
                rest = b""
                end = self._find_head_end()
                if end:
                    head, rest = bytes(self._buffer[:end]), bytes(self._buffer[end:])
                    self._buffer.clear()
                    self._searched = 0
                    if self._read_head(head):
                        self._finished = True
                        return rest
        return None

    def _find_head_end(self) -> int:
        """Return the length of the complete head in the buffer, or 0 when it is not complete."""
        buffer = self._buffer
        if buffer.startswith((b"\r", b"\n")):
            # RFC 9112 section 2.2: empty lines before a request line are ignored.
            del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        if buffer and _TOKEN_START.match(buffer) is None:
            raise PeerError(400, "this is not a request line")
        end = buffer.find(b"\r\n\r\n", self._searched)
        size = end + 4 if end >= 0 else len(buffer)
        if size > self._limit:
            raise PeerError(431, "the request head is too large")
        if end < 0:
            # A CR at the end may have its LF still on its way.
            checkable = len(buffer) - buffer.endswith(b"\r")
            refused = _REFUSED_BYTES.search(buffer, self._searched, checkable)
            self._searched = max(0, len(buffer) - 3)
            if refused is not None:
                raise PeerError(400, "the request head has a character that is not allowed")
            return 0
        return size

    def _read_head(self, data: bytes) -> bool:
        if _REFUSED_BYTES.search(data) is not None:
            raise PeerError(400, "the request head has a character that is not allowed")
        if _REPEATED_LENGTH.search(data) or _LENGTH_LIST.search(data):
            raise PeerError(400, "the Content-Length header is not one number")
        if data.partition(b" ")[0] not in _METHODS:
            raise PeerError(400, "the method is not known")
        connection = h11.Connection(h11.SERVER, self._limit)
        connection.receive_data(data)
        try:
            request = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise PeerError(error.error_status_hint, str(error)) from None
        assert isinstance(request, h11.Request)
        head = read_head(
            request.method.decode("ascii"),
            request.target,
            request.http_version.decode("ascii"),
            list(request.headers),
        )
        taken_over = self._sink.on_head(head)
        if not taken_over:
            self._head = head
            self._body = connection
            self._read_body_events()
        return taken_over

    def _feed_body(self, data: bytes) -> bytes:
        assert self._body is not None
        self._body.receive_data(data)
        return self._read_body_events()

    def _read_body_events(self) -> bytes:
        """Pass on the body that is there; return what follows it once the request is complete."""
        connection = self._body
        assert connection is not None
        assert self._head is not None
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                raise PeerError(error.error_status_hint, str(error)) from None
            if isinstance(event, h11.Data):
                self._sink.on_body(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._finished = not self._head.keep_alive
                self._body = None
                self._head = None
                self._sink.on_complete()
                return connection.trailing_data[0]
            else:
                return b""
