"""Frames HTTP/1 responses: status, headers and body pieces in, bytes out. No I/O, no clock.

The caller passes the Date header line, and whether the connection must close. Sources: RFC 9110 sections 6.4 and
15, RFC 9112 sections 6 and 7.
"""

import http
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from asgireload.errors import AppProtocolError
from asgireload.http1.chunked import FORBIDDEN_TRAILERS

AppHeaders = Iterable[Any]
"""Headers as an application sends them: they should be pairs of bytes, but are not checked yet."""


_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode("ascii")
    for status in range(100, 600)
}

MOST_PREPARED: Final = 256
MOST_PREPARED_BYTES: Final = 2048
"""Larger heads are not cached, so that the table stays below some 2 MiB."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5: CR, LF and NUL are dangerous. Other control characters are harmless, and allowed.
_DANGEROUS_IN_VALUE = re.compile(rb"[\x00\r\n]")
_LENGTH = re.compile(rb"[0-9]{1,19}")


def _taken_apart(pair: Any) -> tuple[Any, Any]:
    try:
        name, value = pair
    except (TypeError, ValueError):
        raise AppProtocolError(f"a header is a pair of name and value, not {pair!r:.100}") from None
    return name, value


def checked_header(name: Any, value: Any) -> bytes:
    """Return the name in lowercase. Raise AppProtocolError for a header that cannot be sent."""
    if type(name) is not bytes or type(value) is not bytes:
        raise AppProtocolError(
            f"header names and values must be bytes, not {name!r:.100} and {value!r:.100}"
        )
    if _DANGEROUS_IN_VALUE.search(value) is not None:
        raise AppProtocolError(f"the value of {name!r} has a line break or NUL in it")
    lowered: bytes = _checked_name(name)
    return lowered


# Applications use few header names; the bound is for applications that generate names.
@lru_cache(maxsize=1024)
def _checked_name(name: bytes) -> bytes:
    if _TOKEN.fullmatch(name) is None:
        raise AppProtocolError(f"{name!r} cannot be the name of a header")
    return name.lower()


def frame_switch(
    headers: AppHeaders,
    *,
    default_lines: tuple[tuple[bytes, bytes], ...] = (),
    date_line: bytes = b"",
) -> bytes:
    """Return the head of a 101 response. Raise AppProtocolError for an illegal header."""
    parts = [STATUS_LINES[101]]
    names = set()
    for pair in headers:
        name, value = _taken_apart(pair)
        names.add(checked_header(name, value))
        parts += (name, b": ", value, b"\r\n")
    if date_line and b"date" not in names:
        parts.append(date_line)
    parts += [line for name, line in default_lines if name not in names]
    parts.append(b"\r\n")
    return b"".join(parts)


def frame_early_hints(links: Iterable[Any]) -> bytes:
    """Return a 103 response with one Link header for each of `links` (RFC 8297).

    Raise AppProtocolError for a link that cannot be sent as a header value.
    """
    parts = [STATUS_LINES[103]]
    for link in links:
        checked_header(b"link", link)
        parts += (b"link: ", link, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


class PreparedHead:
    """Status line and header lines of a response, checked and encoded, without those that depend on the request."""

    __slots__ = ("closes", "has_date", "length", "lines", "status")

    def __init__(
        self, status: int, lines: bytes, length: int, *, closes: bool, has_date: bool
    ) -> None:
        self.status = status
        self.lines = lines
        """Status line and header lines with the default lines, without Connection and without lines that the server
        adds: Date and framing."""
        self.length = length
        """The value of the application's Content-Length; -1 when there is none."""
        self.closes = closes
        """The application has sent `Connection: close`."""
        self.has_date = has_date
        """The application has sent a Date header, which is one of `lines`."""


def prepare_head(
    status: int,
    headers: AppHeaders,
    default_lines: tuple[tuple[bytes, bytes], ...] = (),
) -> PreparedHead:
    """Check and encode the status and headers of a response.

    `default_lines`: pairs of a name and a header line, added unless the application sends the header. Raise
    AppProtocolError for a status or header that cannot be sent.
    """
    if not 200 <= status <= 599:
        raise AppProtocolError(f"{status} is not the status of a final response")
    parts = [STATUS_LINES[status]]
    names = set()
    length = -1
    closes = False
    for pair in headers:
        name, value = _taken_apart(pair)
        lowered = checked_header(name, value)
        if lowered == b"content-length":
            if length >= 0 or _LENGTH.fullmatch(value) is None:
                raise AppProtocolError("Content-Length is not one number")
            length = int(value)
            if status == 204 or status == 205:
                continue  # RFC 9110 section 8.6: 204 has none; that of 205 can only be 0
        elif lowered == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise AppProtocolError("the server frames the body; no other coding can be set")
            continue
        elif lowered == b"connection":
            # The server manages the connection; the application may only ask to close it.
            closes = closes or b"close" in value.lower()
            continue
        names.add(lowered)
        parts += (name, b": ", value, b"\r\n")
    for name, line in default_lines:
        if name not in names:
            parts.append(line)
    return PreparedHead(status, b"".join(parts), length, closes=closes, has_date=b"date" in names)


class PreparedHeads:
    """A cache of `PreparedHead`: applications send the same few heads over and over.

    The table is bounded; a full table is emptied, and heads that are still in use soon return. The last head is
    compared first, which costs a fifth of a look into the table: that hashes each name and value.
    """

    __slots__ = ("_default_lines", "_heads", "_last", "_last_headers")

    def __init__(self, default_lines: tuple[tuple[bytes, bytes], ...]) -> None:
        self._default_lines = default_lines
        self._heads: dict[tuple[int, tuple[tuple[bytes, bytes], ...]], PreparedHead] = {}
        self._last: PreparedHead | None = None
        self._last_headers: tuple[Any, ...] = ()

    def prepare(self, status: int, headers: AppHeaders) -> PreparedHead:
        """Return what `prepare_head` returns, from the cache if possible. Raise AppProtocolError as it does."""
        given = tuple(headers)
        last = self._last
        if last is not None and last.status == status and _are_same(given, self._last_headers):
            return last
        key = (status, given)
        try:
            head = self._heads.get(key)
        except TypeError:  # pairs that are lists cannot be hashed
            return prepare_head(status, given, self._default_lines)
        if head is None:
            head = prepare_head(status, given, self._default_lines)
            if len(head.lines) > MOST_PREPARED_BYTES:
                return head
            if len(self._heads) >= MOST_PREPARED:
                self._heads.clear()
            self._heads[key] = head
        self._last = head
        self._last_headers = given
        return head


def _are_same(given: tuple[Any, ...], known: tuple[Any, ...]) -> bool:
    """Return whether the headers `given` are the same as `known`, which were checked.

    To compare for equality is not enough: a bytearray is equal to bytes, and must be refused.
    """
    if len(given) != len(known):
        return False
    for index in range(len(given)):
        pair = given[index]
        if pair is known[index]:
            continue
        if type(pair) is not tuple or pair != known[index]:
            return False
        if type(pair[0]) is not bytes or type(pair[1]) is not bytes:
            return False
    return True


class ResponseFramer:
    """Frames one response.

    Call `begin` or `begin_head` once, then `frame` for each piece of the body, or `frame_span` for a piece that the
    kernel sends, then `frame_trailers` while `owes_trailers`. `closes`: the connection must be closed after the
    last byte. `is_delimited_by_close`: only that close marks the end of the body. Both are final after `begin`.
    """

    __slots__ = (
        "_remaining",
        "closes",
        "is_chunked",
        "is_delimited_by_close",
        "omits_body",
        "owes_trailers",
        "sends_trailers",
    )

    def __init__(self) -> None:
        self.closes = False
        self.is_delimited_by_close = False
        self.owes_trailers = False
        """The body has ended, but not the trailer section."""
        self.is_chunked = False
        self.omits_body = False
        self.sends_trailers = False
        """A trailer section follows the body."""
        self._remaining = -1
        """Bytes of the announced Content-Length that are still to come; -1 when no length was announced."""

    def resume(self, *, is_chunked: bool, closes: bool) -> None:
        """Continue a body of which another framer has framed a part. Called in place of `begin`."""
        self.is_chunked = is_chunked
        self.is_delimited_by_close = not is_chunked
        self.closes = closes

    def begin(
        self,
        status: int,
        headers: AppHeaders,
        body: bytes,
        *,
        more_body: bool,
        is_head_request: bool,
        http_version: str,
        close: bool,
        default_lines: tuple[tuple[bytes, bytes], ...] = (),
        date_line: bytes = b"",
        body_length: int | None = None,
        sends_trailers: bool = False,
    ) -> bytes:
        """Return the head together with the first piece of the body.

        If the application has sent no Content-Length, one is added when the length is known: from `body_length`, or
        because the response is complete with its first piece. `close`: send `Connection: close`; the application
        may ask for it, too. `sends_trailers`: trailers follow, if HTTP/1.1 and the framing allow them. Raise
        AppProtocolError, with nothing framed, for an illegal header or a body that does not fit its length.
        """
        lines = self.begin_head(
            prepare_head(status, headers, default_lines),
            len(body),
            more_body=more_body,
            is_head_request=is_head_request,
            http_version=http_version,
            close=close,
            date_line=date_line,
            body_length=body_length,
            sends_trailers=sends_trailers,
        )
        return lines + self.frame(body, more_body=more_body)

    def begin_head(
        self,
        head: "PreparedHead",
        size: int,
        *,
        more_body: bool,
        is_head_request: bool,
        http_version: str,
        close: bool,
        date_line: bytes,
        body_length: int | None = None,
        sends_trailers: bool = False,
    ) -> bytes:
        """Return the head of a response whose first piece has `size` bytes; the arguments are those of `begin`.

        Pass the piece to `frame` or `frame_span` next. Both raise AppProtocolError if it does not fit the announced
        length; `check` finds that before.
        """
        status = head.status
        lines = head.lines if head.has_date else head.lines + date_line
        close = close or head.closes
        length = head.length
        if is_head_request or status == 304 or status == 204:
            self.omits_body = True
        elif status == 205:
            self.omits_body = True
            lines += b"content-length: 0\r\n"  # RFC 9110 section 15.3.6
        elif length >= 0:
            if body_length is not None and body_length != length:
                raise AppProtocolError(
                    f"the body has {body_length} bytes and its Content-Length is {length}"
                )
            self._remaining = length
        elif sends_trailers and http_version == "1.1":
            self.is_chunked = True
            self.sends_trailers = True
            lines += b"transfer-encoding: chunked\r\n"
        elif body_length is not None or not more_body:
            if body_length is None:
                body_length = size
            self._remaining = body_length
            lines += b"content-length: %d\r\n" % body_length
        elif http_version == "1.1":
            self.is_chunked = True
            lines += b"transfer-encoding: chunked\r\n"
        else:
            self.is_delimited_by_close = True
            close = True
        self.closes = close
        if close:
            end = b"connection: close\r\n\r\n"
        elif http_version == "1.1":
            end = b"\r\n"
        else:
            end = b"connection: keep-alive\r\n\r\n"  # RFC 9112 section 9.3
        return lines + end

    def frame(self, body: bytes, *, more_body: bool) -> bytes:
        """Return a framed piece of the body; the last one with the end of the body.

        Raise AppProtocolError, with nothing framed, when the body is longer or shorter than its Content-Length.
        """
        if self.omits_body:
            return b""
        if self.is_chunked:
            end = b"" if more_body else self._end_of_chunks()
            return b"%x\r\n%b\r\n%b" % (len(body), body, end) if body else end
        if self._remaining >= 0:
            self._remaining = self._left_behind(len(body), more_body=more_body)
        return body

    def frame_span(self, size: int, *, more_body: bool) -> tuple[bytes, bytes] | None:
        """Return the bytes before and after a piece of `size` bytes that is sent by other means.

        Return None if the response has no body; then the piece must not be sent. Raise AppProtocolError as `frame`
        does.
        """
        if self.omits_body:
            return None
        if self.is_chunked:
            end = b"" if more_body else self._end_of_chunks()
            return (b"%x\r\n" % size, b"\r\n" + end) if size else (b"", end)
        if self._remaining >= 0:
            self._remaining = self._left_behind(size, more_body=more_body)
        return b"", b""

    def frame_trailers(self, headers: AppHeaders, *, more_trailers: bool) -> bytes:
        """Return trailer lines, with the end of the response unless more follow.

        Raise AppProtocolError for a field that is not allowed in a trailer (RFC 9110 section 6.5.1).
        """
        parts = []
        for pair in headers:
            name, value = _taken_apart(pair)
            if checked_header(name, value) in FORBIDDEN_TRAILERS:
                raise AppProtocolError(f"{name!r} is not allowed in a trailer")
            parts += [name, b": ", value, b"\r\n"]
        if not more_trailers:
            self.owes_trailers = False
            parts.append(b"\r\n")
        return b"".join(parts)

    def _end_of_chunks(self) -> bytes:
        if self.sends_trailers:
            self.owes_trailers = True
            return b"0\r\n"
        return b"0\r\n\r\n"

    def check(self, size: int, *, more_body: bool) -> None:
        """Raise AppProtocolError if `frame` and `frame_span` would, for a piece of `size` bytes."""
        if self._remaining >= 0:
            self._left_behind(size, more_body=more_body)

    def _left_behind(self, size: int, *, more_body: bool) -> int:
        """Return how many bytes of the announced length are left after the next piece."""
        remaining = self._remaining - size
        if remaining < 0:
            raise AppProtocolError(f"the body is {-remaining} bytes longer than its Content-Length")
        if remaining and not more_body:
            raise AppProtocolError(f"the body is {remaining} bytes shorter than its Content-Length")
        return remaining


def frame_error(
    status: int,
    text: str,
    *,
    is_head_request: bool = False,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    default_lines: tuple[tuple[bytes, bytes], ...] = (),
    date_line: bytes = b"",
) -> bytes:
    """Return a complete text/plain response of the server itself, with `Connection: close`."""
    body = text.encode()
    return ResponseFramer().begin(
        status,
        (
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ),
        body,
        more_body=False,
        is_head_request=is_head_request,
        http_version="1.1",
        close=True,
        default_lines=default_lines,
        date_line=date_line,
    )
