"""Parses the header lines of a request with httptools, which wraps llhttp."""

import re

import httptools

from asgireload.errors import PeerError
from asgireload.http.request import Headers

_TRAILING_WHITESPACE = re.compile(rb"(?<![ \t])[ \t]++\r\n")


class _Collector:
    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


def parse_fields(line: bytes, block: bytes) -> Headers:
    """The `FieldsParser` (`parsers.py`) that uses httptools."""
    if b" \r\n" in block or b"\t\r\n" in block:
        # llhttp includes whitespace after a value in the value, and refuses a tab after `chunked`.
        block = _TRAILING_WHITESPACE.sub(b"\r\n", block)
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(b"%b\r\n%b\r\n" % (line, block))
    except httptools.HttpParserUpgrade:
        pass  # llhttp stops after the head of an upgrade, which is complete
    except httptools.HttpParserError as error:
        raise PeerError(400, str(error)) from None
    return collector.headers
