"""Parses the header lines of a request with h11."""

import re

import h11

from asgireload.errors import PeerError
from asgireload.http.request import Headers

# h11 merges equal Content-Length values, and so hides an ambiguity that other servers may read differently.
_SEVERAL_LENGTHS = re.compile(rb"(?is)(?:^|\n)content-length:(?:[^\r]*,|.*\ncontent-length:)")


def parse_fields(line: bytes, block: bytes) -> Headers:
    """The `FieldsParser` (`parsers.py`) that uses h11."""
    if _SEVERAL_LENGTHS.search(block) is not None:
        raise PeerError(400, "the Content-Length header is not one number")
    # The reader has limited the size of the head; h11 must not apply a lower limit of its own.
    connection = h11.Connection(h11.SERVER, len(line) + len(block) + 4)
    connection.receive_data(b"%b\r\n%b\r\n" % (line, block))
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise PeerError(error.error_status_hint, str(error)) from None
    assert isinstance(event, h11.Request)  # the head is complete
    return list(event.headers)
