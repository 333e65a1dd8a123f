"""The raw libraries, asked on their own what a request is: judges of our reader, not parts of it.

`DIFFERENCES` lists where they judge otherwise than we do about what we accept.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import h11
import httptools


@dataclass(frozen=True)
class Verdict:
    """The first request of some bytes, in a library's eyes. Names are lowercase, values stripped."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    size: int
    """Bytes from its first to its last."""


class RefusedError(Exception):
    """The library refuses the bytes, or wants more of them; the text says which."""


class _Collector:
    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.is_complete = False
        self.is_in_trailers = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # httptools has no other callback for trailers.
        if not self.is_in_trailers:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.is_in_trailers = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


def ask_llhttp(data: bytes) -> Verdict:
    """Raise RefusedError."""
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    for place in range(len(data)):
        try:
            # Byte by byte, to learn where the request ends.
            parser.feed_data(data[place : place + 1])
        except httptools.HttpParserUpgrade:
            assert collector.is_complete
        except httptools.HttpParserError as error:
            raise RefusedError(str(error)) from None
        if collector.is_complete:
            return Verdict(
                parser.get_method(),
                collector.target,
                tuple(collector.headers),
                collector.body,
                place + 1,
            )
    raise RefusedError("incomplete")


def ask_h11(data: bytes) -> Verdict:
    """Raise RefusedError."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(data) + 1)
    connection.receive_data(data)
    body = b""
    request = None
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise RefusedError(str(error)) from None
        if isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            size = len(data) - len(connection.trailing_data[0])
            return Verdict(request.method, request.target, tuple(request.headers), body, size)
        else:
            raise RefusedError("incomplete")


class Difference(NamedTuple):
    library: str
    """Which one judges otherwise: llhttp or h11."""
    pattern: re.Pattern[bytes]
    """Found in every request that it concerns."""
    reason: str


DIFFERENCES = [
    Difference(
        "llhttp",
        re.compile(rb"^[^\r]* HTTP/1\.[2-9]\r\n"),
        "It knows 1.0 and 1.1 only; RFC 9110 section 2.5 has higher minor versions read as 1.1.",
    ),
    Difference(
        "h11",
        re.compile(rb"(?m)^[0-9A-Fa-f]+[ \t]+;"),
        "It refuses whitespace before a chunk extension; RFC 9112 section 7.1.1 has it borne.",
    ),
    Difference(
        "llhttp",
        re.compile(rb"(?m)^[0-9A-Fa-f]+[ \t]*;.*[ \t]|^[0-9A-Fa-f]+[ \t]+;"),
        "It refuses whitespace within chunk extensions, too.",
    ),
    Difference(
        "llhttp",
        re.compile(rb"(?im)^transfer-encoding:.*\t[ \t]*\r$"),
        "It refuses a tab behind the value, which RFC 9112 section 5.1 allows.",
    ),
    Difference(
        "llhttp",
        re.compile(rb"(?im)^upgrade:"),
        "httptools takes a request with any Upgrade to end behind its head, even if it has a body.",
    ),
]


def is_explained(library: str, request: bytes) -> bool:
    """Say whether that library may judge otherwise than we do about these bytes."""
    return any(
        difference.library == library and difference.pattern.search(request) is not None
        for difference in DIFFERENCES
    )
