"""Request parsing, as the connection sees it: one head value, three direct calls, one error.

Two adapters translate bytes into these calls: `_httptools` (fast, in the `standard` extra) and `_h11`
(pure Python, and the reference in tests). What a head means is decided here, once for both, so that a
request is accepted or refused alike whichever parser is installed. Sources: RFC 9110, RFC 9112.
"""

import re
from typing import Literal, Protocol

from asgireload.errors import PeerError

ParserName = Literal["httptools", "h11"]

Headers = list[tuple[bytes, bytes]]


class RequestHead:
    """A request line with its headers, checked. Names are lowercase; `raw_path` has no query."""

    __slots__ = (
        "chunked",
        "content_length",
        "expects_continue",
        "headers",
        "http_version",
        "is_websocket",
        "keep_alive",
        "method",
        "query_string",
        "raw_path",
    )

    def __init__(
        self, method: str, raw_path: bytes, query_string: bytes, http_version: str, headers: Headers
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.query_string = query_string
        self.http_version = http_version
        self.headers = headers
        self.content_length = 0
        self.chunked = False
        self.keep_alive = http_version == "1.1"
        self.expects_continue = False
        self.is_websocket = False
        """The client asks to switch to WebSocket (RFC 6455 section 4.1)."""


class RequestSink(Protocol):
    """Receives one request after another: a head, any number of body pieces, a completion."""

    def on_head(self, head: RequestHead) -> bool:
        """Return True to take the connection away from HTTP: nothing after this head is parsed."""
        ...

    def on_body(self, data: bytes) -> None: ...

    def on_complete(self) -> None: ...


class RequestParser(Protocol):
    """Bytes in, calls on a sink out. Not usable after it has raised PeerError."""

    @property
    def has_partial_head(self) -> bool:
        """True when a part of a request head was received and its end was not."""
        ...

    def feed(self, data: bytes) -> bytes | None:
        """Parse what was received, in any portions.

        Return None, or the bytes behind the head for which `on_head` returned True. Raise PeerError
        when the protocol forbids what was sent. What follows a request that ends the connection
        (RFC 9112 section 9.6) is dropped. The sink must not call `feed`.
        """
        ...


_MEANINGFUL = frozenset(
    (b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade")
)
# RFC 3986 section 3.2: host with optional port, no user information. May be empty.
_AUTHORITY = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
_ABSOLUTE_FORM = re.compile(rb"(?i:https?)://([^/?#]+)([^?#]*)(?:\?([^#]*))?")
# Nineteen digits always fit into a signed 64-bit integer; nobody sends ten exabytes in earnest.
_CONTENT_LENGTH = re.compile(rb"[0-9]{1,19}")


def read_head(method: str, target: bytes, http_version: str, headers: Headers) -> RequestHead:
    """Check a parsed head and derive what it means. `headers` is taken over and may be changed.

    Raise PeerError for what RFC 9112 tells a server to refuse, and for the ambiguities that request
    smuggling lives on.
    """
    if http_version != "1.1" and http_version != "1.0":
        if http_version == "0.9":
            raise PeerError(400, "the request line names no HTTP version")
        raise PeerError(505, f"HTTP/{http_version} is not spoken here")
    if method == "CONNECT":
        raise PeerError(501, "CONNECT is for proxies")

    if target[:1] == b"/":
        authority = None
        raw_path, _, query_string = target.partition(b"?")
        if b"#" in target:
            raise PeerError(400, "the request target has a fragment")
    else:
        authority, raw_path, query_string = _split_special_target(method, target)

    head = RequestHead(method, raw_path, query_string, http_version, headers)
    hosts = lengths = codings = 0
    wants_upgrade = offers_websocket = False
    for name, value in headers:
        if name not in _MEANINGFUL:
            continue
        if name == b"host":
            hosts += 1
            if _AUTHORITY.fullmatch(value) is None:
                raise PeerError(400, "the Host header is not a host")
        elif name == b"connection":
            tokens = [token.strip() for token in value.lower().split(b",")]
            if b"close" in tokens:
                head.keep_alive = False
            wants_upgrade = wants_upgrade or b"upgrade" in tokens
        elif name == b"content-length":
            lengths += 1
            if lengths > 1 or _CONTENT_LENGTH.fullmatch(value) is None:
                raise PeerError(400, "the Content-Length header is not one number")
            head.content_length = int(value)
        elif name == b"transfer-encoding":
            codings += 1
            if codings > 1 or value.lower() != b"chunked":
                raise PeerError(501, "only the transfer coding chunked is understood")
            head.chunked = True
            if value != b"chunked":
                headers[headers.index((name, value))] = (name, b"chunked")  # as h11 shows it
        elif name == b"expect":
            head.expects_continue = value.lower() == b"100-continue"
        else:
            offers_websocket = value.lower() == b"websocket"

    if hosts > 1 or (hosts == 0 and http_version == "1.1"):
        raise PeerError(400, "a request needs exactly one Host header")
    if codings and (lengths or http_version == "1.0"):
        # RFC 9112 section 6.1: the framing is ambiguous or faulty; this is how requests are smuggled.
        raise PeerError(400, "Transfer-Encoding is not allowed here")
    if http_version == "1.0":
        head.expects_continue = False  # RFC 9110 section 10.1.1
    elif wants_upgrade and offers_websocket and method == "GET":
        head.is_websocket = not (head.chunked or head.content_length)
    if authority is not None:
        _replace_host(headers, authority)
    return head


def _split_special_target(method: str, target: bytes) -> tuple[bytes | None, bytes, bytes]:
    """Return authority, path and query of a target that is not in origin form (RFC 9112 section 3.2)."""
    if target == b"*" and method == "OPTIONS":
        return None, b"*", b""
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None or _AUTHORITY.fullmatch(match[1]) is None:
        raise PeerError(400, "the request target is not a path or an http URL")
    return match[1], match[2] or b"/", match[3] or b""


def _replace_host(headers: Headers, authority: bytes) -> None:
    # RFC 9112 section 3.2.2: the authority of an absolute-form target wins over the Host header.
    for index, (name, _) in enumerate(headers):
        if name == b"host":
            headers[index] = (name, authority)
            return
    headers.append((b"host", authority))
