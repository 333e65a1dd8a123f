"""Framing of one HTTP/1 response: status, headers and body pieces in, bytes out. No I/O, no clock.

Who decides that a connection must close, and what time it is, hands that in. Sources: RFC 9110
sections 6.4 and 15, RFC 9112 sections 6 and 7.
"""

import http
import re
from collections.abc import Iterable
from functools import lru_cache

from asgireload.errors import AppProtocolError


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5: CR, LF and NUL are dangerous. Other controls only look odd and are let through.
_DANGEROUS_IN_VALUE = re.compile(rb"[\x00\r\n]")
_LENGTH = re.compile(rb"[0-9]{1,19}")


def checked_header(name: bytes, value: bytes) -> bytes:
    """Return the name in lowercase. Raise AppProtocolError for what cannot be sent as a header."""
    if type(name) is not bytes or type(value) is not bytes:
        raise AppProtocolError("header names and values must be bytes")
    if _DANGEROUS_IN_VALUE.search(value) is not None:
        raise AppProtocolError(f"the value of {name!r} has a line break or NUL in it")
    return _checked_name(name)


# Applications use few header names; the bound is for those that invent them.
@lru_cache(maxsize=1024)
def _checked_name(name: bytes) -> bytes:
    if _TOKEN.fullmatch(name) is None:
        raise AppProtocolError(f"{name!r} cannot be the name of a header")
    return name.lower()


def frame_switch(
    headers: Iterable[tuple[bytes, bytes]],
    *,
    default_lines: tuple[tuple[bytes, bytes], ...] = (),
    date_line: bytes = b"",
) -> bytes:
    """Return the head of a 101 response. Raise AppProtocolError for an illegal header."""
    parts = [STATUS_LINES[101]]
    names = set()
    for name, value in headers:
        names.add(checked_header(name, value))
        parts += (name, b": ", value, b"\r\n")
    if date_line and b"date" not in names:
        parts.append(date_line)
    parts += [line for name, line in default_lines if name not in names]
    parts.append(b"\r\n")
    return b"".join(parts)


class ResponseFramer:
    """Frames one response: `begin` once, then `frame` for each body piece.

    `closes` tells whether the connection must be closed after the last byte; it is final after
    `begin`. `is_delimited_by_close` tells that only the close marks the end of the body.
    """

    __slots__ = (
        "_chunked",
        "_omits_body",
        "_remaining",
        "closes",
        "is_delimited_by_close",
    )

    def __init__(self) -> None:
        self.closes = False
        self.is_delimited_by_close = False
        self._chunked = False
        self._omits_body = False
        self._remaining = -1
        """Bytes the announced Content-Length still asks for; -1 when none was announced."""

    def begin(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        *,
        more_body: bool,
        is_head_request: bool,
        http_version: str,
        close: bool,
        default_lines: tuple[tuple[bytes, bytes], ...] = (),
        date_line: bytes = b"",
    ) -> bytes:
        """Return the head together with the first body piece.

        A response that is complete with its first piece gets a Content-Length when the application
        gave none. `close` asks for `Connection: close`; the application may ask for it too. Raise
        AppProtocolError, with nothing framed, for an illegal header or a body that does not fit.
        """
        if not 200 <= status <= 599:
            raise AppProtocolError(f"{status} is not the status of a final response")
        parts = [STATUS_LINES[status]]
        names = set()
        length = -1
        for name, value in headers:
            lowered = checked_header(name, value)
            if lowered == b"content-length":
                if length >= 0 or _LENGTH.fullmatch(value) is None:
                    raise AppProtocolError("Content-Length is not one number")
                length = int(value)
                if status == 204:
                    continue  # RFC 9110 section 8.6: must not be sent
            elif lowered == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise AppProtocolError("the server frames the body; no other coding can be set")
                continue
            elif lowered == b"connection":
                # The connection is the server's; only the wish to end it is heard.
                close = close or b"close" in value.lower()
                continue
            names.add(lowered)
            parts += (name, b": ", value, b"\r\n")
        if date_line and b"date" not in names:
            parts.append(date_line)
        for name, line in default_lines:
            if name not in names:
                parts.append(line)

        if is_head_request or status == 304 or status == 204:
            self._omits_body = True
        elif length >= 0:
            self._remaining = length
        elif not more_body:
            self._remaining = len(body)
            parts.append(b"content-length: %d\r\n" % len(body))
        elif http_version == "1.1":
            self._chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        else:
            self.is_delimited_by_close = True
            close = True
        self.closes = close
        parts.append(b"connection: close\r\n\r\n" if close else b"\r\n")
        parts.append(self.frame(body, more_body=more_body))
        return b"".join(parts)

    def frame(self, body: bytes, *, more_body: bool) -> bytes:
        """Return a body piece as it goes on the wire; the last one with the end of the body.

        Raise AppProtocolError, with nothing framed, when the body turns out longer or shorter than
        the announced Content-Length.
        """
        if self._omits_body:
            return b""
        if self._chunked:
            if not more_body:
                return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
            return b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        if self._remaining >= 0:
            remaining = self._remaining - len(body)
            if remaining < 0:
                raise AppProtocolError(
                    f"the body is {-remaining} bytes longer than its Content-Length"
                )
            if remaining and not more_body:
                raise AppProtocolError(
                    f"the body is {remaining} bytes shorter than its Content-Length"
                )
            self._remaining = remaining
        return body


def frame_error(
    status: int,
    text: str,
    *,
    is_head_request: bool = False,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    default_lines: tuple[tuple[bytes, bytes], ...] = (),
    date_line: bytes = b"",
) -> bytes:
    """Return a complete plain-text response of the server itself that ends the connection."""
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
