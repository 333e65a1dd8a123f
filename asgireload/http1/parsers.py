"""Taking the header lines of a request apart: ours, and the same by httptools and by h11.

The reader hands over heads that are complete and whose grammar it has checked, so any of the three must
find the same names and values in them; a test holds them to that. Ours is the default and needs nothing
installed; the others are there for who trusts a library more.
"""

import re
from collections.abc import Callable

from asgireload.http.request import Headers
from asgireload.http.settings import ParserName
from asgireload.http1.parser import TOKEN

FieldsParser = Callable[[bytes, bytes], Headers]
"""Takes a request line and the header lines behind it, line ends included; returns names in lowercase and
values without surrounding whitespace. Raises PeerError for what the library refuses."""

_FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)\r\n")


def parse_fields(line: bytes, block: bytes) -> Headers:
    """Our own `FieldsParser`."""
    headers = [(name.lower(), value) for name, value in _FIELD.findall(block)]
    if b" \r\n" in block or b"\t\r\n" in block:
        headers = [(name, value.rstrip(b" \t")) for name, value in headers]
    return headers


def choose_parser(http: str) -> ParserName:
    """Return the parser that the option `http` means; auto takes ours.

    What was asked for is returned even if it is missing, so that its absence is told by ImportError at
    its first use.
    """
    if http == "httptools":
        return "httptools"
    return "h11" if http == "h11" else "builtin"


def fields_parser(name: ParserName) -> FieldsParser:
    """Raise ImportError when the library that `name` stands for is not installed."""
    # The libraries are extras: loaded only when chosen.
    if name == "httptools":
        from asgireload.http1 import _httptools

        return _httptools.parse_fields
    if name == "h11":
        from asgireload.http1 import _h11

        return _h11.parse_fields
    return parse_fields
