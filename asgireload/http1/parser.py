"""Interprets the lines of a request head: makes a `RequestHead`, checked against RFC 9110 and RFC 9112. Pure.

`reader.py` finds the beginning and end of a head, and `parsers.py` splits its lines into names and values. The
checks here apply to every parser, so that all parsers accept and refuse the same requests.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final, Protocol

from asgireload.errors import PeerError
from asgireload.http.request import Headers, RequestHead, RequestLine


class RequestSink(Protocol):
    """The object to which a `RequestReader` passes a request: a head, any number of body pieces, a completion."""

    def on_head(self, head: RequestHead) -> bool:
        """Take the head of a request. Return True to upgrade the connection: nothing after this head is parsed."""
        ...

    def on_body(self, data: bytes) -> None: ...

    def on_complete(self) -> None: ...


# The methods of RFC 9110, RFC 5789, WebDAV and its extensions, as in llhttp. Other methods could be passed on to
# applications, but an unknown method is a fault far more often than intended.
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
"""Matches nearly every Host header; a quick check before `_AUTHORITY`."""
# RFC 3986 section 3.2: host with optional port, no user information. May be empty. `_is_address` checks the text
# in brackets.
_AUTHORITY = re.compile(
    rb"(?:\[([^\]]++)\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})*+)(?::[0-9]*+)?"
)
# RFC 3986 section 3.2.2, and a zone id as in RFC 6874.
_FUTURE_ADDRESS = re.compile(rb"[vV][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++")
_ADDRESS_WITH_ZONE = re.compile(rb"([0-9A-Fa-f:.]++)(?:%25(?:[A-Za-z0-9\-._~]|%[0-9A-Fa-f]{2})++)?")
_ABSOLUTE_FORM = re.compile(rb"(?i:https?)://([^/?#]+)([^?#]*)(?:\?([^#]*))?")
# Eighteen digits (nearly an exabyte) always fit into a signed 64-bit integer.
_CONTENT_LENGTH = re.compile(rb"[0-9]{1,18}")


def read_request_line(line: bytes) -> RequestLine:
    """Parse a request line without its line end. Raise PeerError with the status 400, 501 or 505.

    A minor version above 1 is treated as 1.1 (RFC 9110 section 2.5).
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
    """Return the head of a request. The head owns `headers` from then on; they may be changed.

    Raise PeerError for a head that RFC 9112 tells a server to refuse, and for the ambiguities that request
    smuggling exploits.
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
                headers[headers.index((name, value))] = (name, b"chunked")  # as h11 does
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
        # RFC 9112 section 6.1: the framing is ambiguous or faulty, which request smuggling exploits.
        if lengths or not is_1_1:
            raise PeerError(400, "Transfer-Encoding is not allowed here")
        # Section 6.3 item 4 demands 400 when the end of the body cannot be determined. Parsers differ in how they
        # treat an empty element of the list.
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
        # RFC 9112 section 9.3. Expect is ignored in HTTP/1.0 (RFC 9110 section 10.1.1).
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
    """Return whether `text` may stand in brackets: an IPv6 address, or one of a later version (IPvFuture)."""
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
    # RFC 9112 section 3.2.2: the authority of an absolute-form target replaces the Host header.
    for index, (name, _) in enumerate(headers):
        if name == b"host":
            headers[index] = (name, authority)
            return
    headers.append((b"host", authority))
