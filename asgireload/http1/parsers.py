"""Parsers of the header lines of a request: our own, httptools and h11.

The reader passes complete heads whose grammar it has checked. So all three find the same names and values, which a
test verifies. Our own parser is the default, and needs no library; the others are for users who trust a library
more.
"""

import re
from collections.abc import Callable

from asgireload.http.request import Headers
from asgireload.http.settings import ParserName
from asgireload.http1.parser import TOKEN

FieldsParser = Callable[[bytes, bytes], Headers]
"""Takes a request line without its line end, and the header lines, each with its line end. Returns names in
lowercase and values without surrounding whitespace. Raises PeerError for a head that the library refuses."""

_FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)\r\n")


def parse_fields(line: bytes, block: bytes) -> Headers:
    """Our own `FieldsParser`. It raises no error."""
    headers = [(name.lower(), value) for name, value in _FIELD.findall(block)]
    if b" \r\n" in block or b"\t\r\n" in block:
        headers = [(name, value.rstrip(b" \t")) for name, value in headers]
    return headers


def choose_parser(http: str) -> ParserName:
    """Return the parser for the value `http` of the option; `auto` is our own.

    A library that is not installed is returned, too: `fields_parser` raises ImportError for it.
    """
    if http == "httptools":
        return "httptools"
    return "h11" if http == "h11" else "builtin"


def fields_parser(name: ParserName) -> FieldsParser:
    """Return the `FieldsParser` of this name. Raise ImportError when its library is not installed."""
    # The libraries are extras: loaded only when chosen.
    if name == "httptools":
        from asgireload.http1 import _httptools

        return _httptools.parse_fields
    if name == "h11":
        from asgireload.http1 import _h11

        return _h11.parse_fields
    return parse_fields
