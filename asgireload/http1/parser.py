"""What a request head means: one value, derived once, checked against RFC 9110 and RFC 9112.

Where a head begins and ends on the wire is `reader.py`; taking its lines apart is `parsers.py`. What the
lines mean is decided here, for every parser, so that a request is accepted or refused alike whichever is
chosen.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Any, Final, Protocol
from urllib.parse import unquote

from asgireload.errors import PeerError

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


class RequestSink(Protocol):
    """Receives one request: a head, any number of body pieces, a completion."""

    def on_head(self, head: RequestHead) -> bool:
        """Return True to take the connection away from HTTP: nothing after this head is parsed."""
        ...

    def on_body(self, data: bytes) -> None: ...

    def on_complete(self) -> None: ...


# The methods that RFC 9110, RFC 5789, WebDAV and its relatives define, as llhttp knows them. Others could
# be passed on, but a method nobody knows is a fault far more often than a wish.
METHODS = frozenset(
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH"
    b" UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE"
    b" UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK SOURCE QUERY".split()
)
_MEANINGFUL = frozenset(
    (b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"te")
)
_FORWARDED_NAMES: Final = (b"x-forwarded-", b"forwarded")
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])")
_HTTP_0_9 = re.compile(TOKEN + rb" [\x21-\x7e]++")
_PLAIN_HOST = re.compile(rb"[A-Za-z0-9\-._]++(?::[0-9]*+)?")
"""What nearly every Host header is."""
# RFC 3986 section 3.2: host with optional port, no user information. May be empty. What brackets hold is
# looked at by `_is_address`.
_AUTHORITY = re.compile(
    rb"(?:\[([^\]]++)\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})*+)(?::[0-9]*+)?"
)
# RFC 3986 section 3.2.2, and a zone as in RFC 6874.
_FUTURE_ADDRESS = re.compile(rb"[vV][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++")
_ADDRESS_WITH_ZONE = re.compile(rb"([0-9A-Fa-f:.]++)(?:%25(?:[A-Za-z0-9\-._~]|%[0-9A-Fa-f]{2})++)?")
_ABSOLUTE_FORM = re.compile(rb"(?i:https?)://([^/?#]+)([^?#]*)(?:\?([^#]*))?")
# Eighteen digits always fit into a signed 64-bit integer; nobody sends an exabyte in earnest.
_CONTENT_LENGTH = re.compile(rb"[0-9]{1,18}")


def read_request_line(line: bytes) -> RequestLine:
    """Take apart a request line without its line end. Raise PeerError with 400, 501 or 505.

    A minor version above 1 is read as 1.1, as RFC 9110 section 2.5 asks.
    """
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if _HTTP_0_9.fullmatch(line) is not None:
            raise PeerError(400, "the request line names no HTTP version")
        raise PeerError(400, "this is not a request line")
    method, target, major, minor = match.groups()
    if major != b"1":
        raise PeerError(505, f"HTTP/{major.decode()}.{minor.decode()} is not supported")
    if method not in METHODS:
        raise PeerError(501, "the method is not known")
    if method == b"CONNECT":
        raise PeerError(501, "CONNECT is for proxies")
    if target[:1] == b"/":
        authority = None
        raw_path, _, query_string = target.partition(b"?")
        if b"#" in target:
            raise PeerError(400, "the request target has a fragment")
    else:
        authority, raw_path, query_string = _split_special_target(method, target)
    return RequestLine(
        method.decode("ascii"),
        authority,
        raw_path,
        query_string,
        "1.0" if minor == b"0" else "1.1",
    )


def read_head(line: RequestLine, headers: Headers) -> RequestHead:
    """Derive what a head means. `headers` is taken over and may be changed.

    Raise PeerError for what RFC 9112 tells a server to refuse, and for the ambiguities that request
    smuggling lives on.
    """
    head = RequestHead(line, headers)
    hosts = lengths = 0
    codings: bytes | None = None
    wants_upgrade = offers_websocket = wants_keep_alive = wants_close = False
    expectations: list[bytes] = []
    for name, value in headers:
        if name not in _MEANINGFUL:
            if name.startswith(_FORWARDED_NAMES):
                head.is_forwarded = True
            continue
        if name == b"host":
            hosts += 1
            if _PLAIN_HOST.fullmatch(value) is None and not _is_authority(value):
                raise PeerError(400, "the Host header is not a host")
        elif name == b"connection":
            tokens = _list(value)
            wants_close = wants_close or b"close" in tokens
            wants_keep_alive = wants_keep_alive or b"keep-alive" in tokens
            wants_upgrade = wants_upgrade or b"upgrade" in tokens
        elif name == b"content-length":
            lengths += 1
            if lengths > 1 or _CONTENT_LENGTH.fullmatch(value) is None:
                raise PeerError(400, "the Content-Length header is not one number")
            head.content_length = int(value)
        elif name == b"transfer-encoding":
            codings = value.lower() if codings is None else codings + b"," + value.lower()
            head.chunked = codings == b"chunked"
            if head.chunked and value != b"chunked":
                headers[headers.index((name, value))] = (name, b"chunked")  # as h11 shows it
        elif name == b"expect":
            expectations += _list(value)
        elif name == b"upgrade":
            offers_websocket = offers_websocket or b"websocket" in _list(value)
        else:
            head.takes_trailers = head.takes_trailers or any(
                coding.partition(b";")[0].strip() == b"trailers" for coding in _list(value)
            )

    is_1_1 = head.http_version == "1.1"
    if hosts > 1 or (hosts == 0 and is_1_1):
        raise PeerError(400, "a request needs exactly one Host header")
    if codings is not None:
        # RFC 9112 section 6.1: the framing is ambiguous or faulty; this is how requests are smuggled.
        if lengths or not is_1_1:
            raise PeerError(400, "Transfer-Encoding is not allowed here")
        # Section 6.3 item 4 demands 400 where the end of the body cannot be known; an empty element of the
        # list hides from some what others see.
        names = [coding.strip(b" \t") for coding in codings.split(b",")]
        if names[-1] != b"chunked" or names.count(b"chunked") > 1 or b"" in names:
            raise PeerError(400, "chunked is not, once, the last transfer coding")
        if not head.chunked:
            raise PeerError(501, "only the transfer coding chunked is understood")
    if is_1_1:
        if expectations:
            if any(expectation != b"100-continue" for expectation in expectations):
                raise PeerError(417, "only the expectation 100-continue can be met")
            head.expects_continue = head.chunked or head.content_length > 0
        if wants_upgrade and offers_websocket and head.method == "GET":
            head.is_websocket = not (head.chunked or head.content_length)
        head.keep_alive = not wants_close
        head.is_plain = not wants_upgrade
    else:
        # RFC 9112 section 9.3; and Expect means nothing here (RFC 9110 section 10.1.1).
        head.keep_alive = wants_keep_alive and not wants_close
    if line.authority is not None:
        _replace_host(headers, line.authority)
    return head


def _list(value: bytes) -> list[bytes]:
    """Return the elements of a list field (RFC 9110 section 5.6.1) in lowercase."""
    return [part for part in (piece.strip(b" \t") for piece in value.lower().split(b",")) if part]


def _split_special_target(method: bytes, target: bytes) -> tuple[bytes | None, bytes, bytes]:
    """Return authority, path and query of a target that is not in origin form (RFC 9112 section 3.2)."""
    if target == b"*" and method == b"OPTIONS":
        return None, b"*", b""
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None or not _is_authority(match[1]) or match[1][:1] == b":":
        raise PeerError(400, "the request target is not a path or an http URL")
    path = match[2] or (b"*" if method == b"OPTIONS" and match[3] is None else b"/")
    return match[1], path, match[3] or b""


def _is_authority(value: bytes) -> bool:
    match = _AUTHORITY.fullmatch(value)
    return match is not None and (match[1] is None or _is_address(match[1]))


def _is_address(text: bytes) -> bool:
    """Say whether `text` may stand in brackets: an IPv6 address, or one of a later version."""
    if _FUTURE_ADDRESS.fullmatch(text) is not None:
        return True
    match = _ADDRESS_WITH_ZONE.fullmatch(text)
    if match is None:
        return False
    try:
        IPv6Address(match[1].decode("ascii"))
    except AddressValueError:
        return False
    return True


def _replace_host(headers: Headers, authority: bytes) -> None:
    # RFC 9112 section 3.2.2: the authority of an absolute-form target wins over the Host header.
    for index, (name, _) in enumerate(headers):
        if name == b"host":
            headers[index] = (name, authority)
            return
    headers.append((b"host", authority))
