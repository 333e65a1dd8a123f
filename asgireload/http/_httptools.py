"""The header lines of a request by httptools, which wraps llhttp."""

import httptools

from asgireload.errors import PeerError
from asgireload.http.parser import Headers


class _Collector:
    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp strips leading whitespace only.
        self.headers.append((name.lower(), value.rstrip(b" \t")))


def parse_fields(line: bytes, block: bytes) -> Headers:
    """See `asgireload.http.parsers.FieldsParser`."""
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(b"%b\r\n%b\r\n" % (line, block))
    except httptools.HttpParserUpgrade:
        pass  # llhttp stops behind such a head, which is complete
    except httptools.HttpParserError as error:
        raise PeerError(400, str(error)) from None
    return collector.headers
