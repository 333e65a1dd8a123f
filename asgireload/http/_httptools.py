"""The parser adapter over httptools, which wraps llhttp.

llhttp keeps no limit on a head and knows nothing of Host; both are added here or in `read_head`. Its
lenient modes stay off.
"""

import httptools

from asgireload.errors import PeerError
from asgireload.http.parser import Headers, RequestHead, RequestSink, read_head


class _RequestEndedConnectionError(Exception):
    """Stops llhttp at the first byte behind a request that ended the connection."""


class HttptoolsParser:
    """See `asgireload.http.parser.RequestParser`. llhttp calls the `on_…` methods."""

    def __init__(self, sink: RequestSink, head_bytes_limit: int) -> None:
        self._sink = sink
        self._limit = head_bytes_limit
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: Headers = []
        self._head: RequestHead | None = None
        self._head_begun = False
        self._head_bytes = 0
        self._unproductive_bytes = 0
        self._progressed = False
        self._is_resuming = False
        self._taken_over = False
        self._finished = False

    @property
    def has_partial_head(self) -> bool:
        return self._head_begun

    def feed(self, data: bytes) -> bytes | None:
        if self._finished:
            return None
        self._progressed = False
        was_in_head = self._head_begun
        rest: bytes | None = data
        while rest is not None:
            rest = self._feed_once(rest)
            if self._taken_over:
                return rest
        self._enforce_limits(len(data), was_in_head=was_in_head)
        return None

    def _feed_once(self, data: bytes) -> bytes | None:
        """Return the bytes that llhttp left because of an Upgrade header, or None when it took all."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if not self._taken_over:
                self._resume_after_upgrade()
            return rest
        except httptools.HttpParserError as error:
            if self._finished:
                return None
            if isinstance(error.__context__, PeerError):
                raise error.__context__ from None
            if isinstance(error, httptools.HttpParserCallbackError):
                raise  # a defect of ours, not of the peer
            if self._is_version_error(error):
                raise PeerError(505, str(error)) from None
            raise PeerError(400, str(error)) from None
        return None

    @staticmethod
    def _is_version_error(error: Exception) -> bool:
        # llhttp has one error number for many faults; its text is the only way to tell this one.
        return str(error) == "Invalid HTTP version"

    def _resume_after_upgrade(self) -> None:
        """Go on with HTTP although an Upgrade was asked for that nobody takes.

        llhttp skips the body of such a request. A fresh parser that is told the same framing reads it.
        """
        head = self._head
        self._parser = httptools.HttpRequestParser(self)
        if head is None:
            return
        self._is_resuming = True
        framing = (
            b"transfer-encoding: chunked"
            if head.chunked
            else b"content-length: %d" % head.content_length
        )
        self._parser.feed_data(b"POST / HTTP/1.1\r\nhost:\r\n%b\r\n\r\n" % framing)

    def _enforce_limits(self, fed_bytes: int, *, was_in_head: bool) -> None:
        # llhttp gathers an unfinished head, trailer or chunk extension without telling us, so bytes
        # that brought nothing forward are counted. A head may exceed its limit by one read this way.
        if self._head_begun:
            self._head_bytes = self._head_bytes + fed_bytes if was_in_head else 0
            if self._head_bytes > self._limit:
                raise PeerError(431, "the request head is too large")
        elif self._head is not None and not self._progressed:
            self._unproductive_bytes += fed_bytes
            if self._unproductive_bytes > self._limit:
                raise PeerError(431, "chunk extensions or trailers are too large")
        else:
            self._unproductive_bytes = 0

    def on_message_begin(self) -> None:
        if self._finished:
            raise _RequestEndedConnectionError
        if not self._is_resuming:
            self._url = b""
            self._headers = []
            self._head_begun = True
            self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_begun:
            self._headers.append((name.lower(), value.rstrip(b" \t")))
        # Otherwise it is a trailer: ASGI has no place for those of a request, and RFC 9110 section
        # 6.5.1 allows to drop them.

    def on_headers_complete(self) -> None:
        if self._is_resuming:
            self._is_resuming = False
            return
        headers = self._headers
        self._head_begun = False
        self._progressed = True
        size = len(self._url)
        for name, value in headers:
            size += len(name) + len(value) + 4
        if size > self._limit:
            raise PeerError(431, "the request head is too large")
        parser = self._parser
        self._head = read_head(
            parser.get_method().decode("ascii"), self._url, parser.get_http_version(), headers
        )
        self._taken_over = self._sink.on_head(self._head)

    def on_body(self, data: bytes) -> None:
        self._progressed = True
        self._sink.on_body(data)

    def on_chunk_header(self) -> None:
        self._progressed = True

    def on_message_complete(self) -> None:
        head = self._head
        if self._taken_over or head is None:
            return
        if self._parser.should_upgrade() and (head.chunked or head.content_length):
            return  # llhttp skipped the body; it follows once the parser was resumed
        self._head = None
        self._finished = not head.keep_alive
        self._sink.on_complete()
