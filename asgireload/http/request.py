"""What a request says, whatever its wire: one value for each head, and how much a request may be.

Where a head begins and ends, and which heads are refused, is the business of the wire (`http1/`).
"""

from typing import Any, Final
from urllib.parse import unquote

Headers = list[tuple[bytes, bytes]]


class RequestLimits:
    """How much a request may be; sizes in bytes. Whoever exceeds one gets the status named."""

    __slots__ = ("body", "fields", "head", "line")

    def __init__(
        self,
        line: int = 8 * 1024,
        head: int = 64 * 1024,
        fields: int = 100,
        body: int | None = None,
    ) -> None:
        self.line: Final = line
        """Request line: 414. URLs of 8,000 bytes are what RFC 9112 section 3 recommends to support."""
        self.head: Final = head
        """Request line and header lines: 431. Room for several 8 KiB cookies, little for an attacker."""
        self.fields: Final = fields
        """Header lines: 431."""
        self.body: Final = body
        """Body without its framing: 413."""


class RequestLine:
    """A request line taken apart (RFC 9112 section 3)."""

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
        """Of a target in absolute form; it wins over the Host header."""
        self.raw_path = raw_path
        self.query_string = query_string
        self.http_version = http_version


class RequestHead:
    """A request line with its headers, checked. Names are lowercase; `raw_path` has no query.

    Not to be changed but for `is_repeated` and `scope`: requests that are equal to the byte share one.
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
        """The client said `TE: trailers` (RFC 9110 section 10.1.4)."""
        self.is_forwarded = False
        """A proxy, or a client that plays one, says for whom it asks."""
        self.is_plain = False
        """The headers mean the same behind every request line of HTTP/1.1."""
        self.is_repeated = False
        """It was read before, and is kept."""
        self.scope: dict[str, Any] | None = None
        """What its scopes are made of, if it is repeated: `http_scope` keeps it here."""

    def to_bytes(self) -> bytes:
        """Return a head that reads as the same as this one, for another reader."""
        target = self.raw_path + (b"?" + self.query_string if self.query_string else b"")
        line = b"%b %b HTTP/%b\r\n" % (self.method.encode(), target, self.http_version.encode())
        fields = b"".join([b"%b: %b\r\n" % (name, value) for name, value in self.headers])
        return line + fields + b"\r\n"

    def with_line(self, line: RequestLine) -> "RequestHead":
        """Return the head of a request with the same headers, which are plain."""
        head = RequestHead(line, self.headers)
        head.content_length = self.content_length
        head.chunked = self.chunked
        head.expects_continue = self.expects_continue
        head.keep_alive = self.keep_alive
        head.takes_trailers = self.takes_trailers
        head.is_forwarded = self.is_forwarded
        head.is_plain = self.is_plain
        return head
