"""The head of a request, the same for every version of HTTP, and the limits of a request.

The protocol (`http1/`) finds the beginning and end of a head, and decides which heads are refused.
"""

from typing import Any, Final
from urllib.parse import unquote

Headers = list[tuple[bytes, bytes]]


class RequestLimits:
    """The limits of a request; sizes in bytes. A larger request is answered with the status named at the limit."""

    __slots__ = ("body", "fields", "head", "line")

    def __init__(
        self,
        line: int = 8 * 1024,
        head: int = 64 * 1024,
        fields: int = 100,
        body: int | None = None,
    ) -> None:
        self.line: Final = line
        """Bytes of the request line: 414. RFC 9112 section 3 recommends to support 8,000 bytes."""
        self.head: Final = head
        """Bytes of the request line and header lines: 431. Enough for several 8 KiB cookies, but little memory."""
        self.fields: Final = fields
        """Number of header lines: 431."""
        self.body: Final = body
        """Bytes of the body without framing: 413. None: no limit."""


class RequestLine:
    """A parsed request line (RFC 9112 section 3)."""

    __slots__ = ("authority", "http_version", "method", "query_string", "raw_path")

    def __init__(
        self,
        method: str,
        authority: bytes | None,
        raw_path: bytes,
        query_string: bytes,
        http_version: str,
    ) -> None:
        self.method = method
        self.authority = authority
        """The authority of a target in absolute form, which replaces the Host header; else None."""
        self.raw_path = raw_path
        self.query_string = query_string
        self.http_version = http_version


class RequestHead:
    """A request line with its headers, checked. Header names are lowercase; `raw_path` has no query.

    Only `is_repeated` and `scope` may be changed, because requests with equal bytes share one head.
    """

    __slots__ = (
        "chunked",
        "content_length",
        "expects_continue",
        "headers",
        "http_version",
        "is_forwarded",
        "is_plain",
        "is_repeated",
        "is_websocket",
        "keep_alive",
        "method",
        "path",
        "query_string",
        "raw_path",
        "scope",
        "takes_trailers",
    )

    def __init__(self, line: RequestLine, headers: Headers) -> None:
        self.method = line.method
        self.raw_path = line.raw_path
        self.path = line.raw_path.decode("ascii")
        """Percent-decoded."""
        if "%" in self.path:
            self.path = unquote(self.path)
        self.query_string = line.query_string
        self.http_version = line.http_version
        self.headers = headers
        self.content_length = 0
        self.chunked = False
        self.keep_alive = line.http_version == "1.1"
        self.expects_continue = False
        self.is_websocket = False
        """The client asks to switch to WebSocket (RFC 6455 section 4.1)."""
        self.takes_trailers = False
        """The client has sent `TE: trailers` (RFC 9110 section 10.1.4)."""
        self.is_forwarded = False
        """The request has Forwarded or X-Forwarded-* headers, which may be those of a proxy or of a client."""
        self.is_plain = False
        """The headers mean the same after every request line of HTTP/1.1, so that the head may be cached."""
        self.is_repeated = False
        """The head was found in a cache."""
        self.scope: dict[str, Any] | None = None
        """The template of its scopes, if the head is repeated; `http_scope` sets it."""

    def to_bytes(self) -> bytes:
        """Return an encoded head that another reader parses to an equal head."""
        target = self.raw_path + (b"?" + self.query_string if self.query_string else b"")
        line = b"%b %b HTTP/%b\r\n" % (self.method.encode(), target, self.http_version.encode())
        fields = b"".join([b"%b: %b\r\n" % (name, value) for name, value in self.headers])
        return line + fields + b"\r\n"

    def with_line(self, line: RequestLine) -> "RequestHead":
        """Return the head of a request with another request line and the same headers. Only if `is_plain`."""
        head = RequestHead(line, self.headers)
        head.content_length = self.content_length
        head.chunked = self.chunked
        head.expects_continue = self.expects_continue
        head.keep_alive = self.keep_alive
        head.takes_trailers = self.takes_trailers
        head.is_forwarded = self.is_forwarded
        head.is_plain = self.is_plain
        return head
