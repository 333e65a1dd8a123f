"""Fuzz targets for what reads HTTP/1 requests. Each says what may be raised; anything else is a fault.

What streams mean, to whom, and that they mean it however they are split, is held by
`tests/http1/test_differential.py`, which `make fuzz` runs, too.
"""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.errors import PeerError
from asgireload.http.request import RequestLimits
from asgireload.http1.chunked import LINE_BYTES, ChunkedBody
from asgireload.http1.parsers import fields_parser
from asgireload.http1.reader import RequestReader
from tests.fuzz.requests import ANY_STREAMS, FRAGMENTS, chunked_bodies, mutated
from tests.http1.oracles import RefusedError, ask_h11, is_explained
from tests.http1.reading import Requests

PARSERS: list[Any] = ["builtin", "httptools", "h11"]
STATUSES = {400, 413, 414, 417, 431, 501, 505}
"""What a request can be refused with, as docs/reference/limits.md and RFC 9110 section 15 have it."""
SMALL_LIMITS = RequestLimits(line=100, head=300, fields=8, body=100)

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG_LINES = st.integers(LINE_BYTES - 8, LINE_BYTES + 8).map(
    lambda size: b"1;" + b"a" * (size - 2) + b"\r\na\r\n0\r\n\r\n"
)
CHUNKED = mutated(st.one_of(st.binary(max_size=60).flatmap(chunked_bodies), LONG_LINES))
FLOODS = st.lists(
    st.one_of(
        st.sampled_from([*FRAGMENTS, HEAD, b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"x: y\r\n"]),
        st.tuples(st.sampled_from(FRAGMENTS), st.integers(2, 2000)).map(
            lambda flood: flood[0] * flood[1]
        ),
        st.binary(min_size=1, max_size=50),
    ),
    max_size=8,
)
"""Pieces of a stream, some of them the same bytes over and over."""


def held_bytes(part: object) -> int:
    """Return how many bytes of the stream a reader, and the parts it is made of, keep."""
    if isinstance(part, bytes | bytearray):
        return len(part)
    if type(part).__module__ in (RequestReader.__module__, ChunkedBody.__module__):
        names = getattr(type(part), "__slots__", ())
        return sum(held_bytes(getattr(part, name)) for name in names)
    return 0


@settings(deadline=None)
@given(data=st.one_of(ANY_STREAMS, st.binary(max_size=300)), parser=st.sampled_from(PARSERS))
def test_any_bytes_are_read_or_refused(data: bytes, parser: Any) -> None:
    """May raise PeerError, with a status of `STATUSES` and a text that has no line end in it."""
    requests = Requests()
    reader = RequestReader(requests, fields_parser(parser), SMALL_LIMITS)
    rest = data
    refusal = None
    try:
        while rest and not requests.is_upgraded:
            shorter = reader.feed(rest)
            assert rest.endswith(shorter)
            assert len(shorter) < len(rest), "reading must come to an end"
            rest = shorter
    except PeerError as error:
        refusal = error
    if refusal is not None:
        assert refusal.status in STATUSES
        assert refusal.reason.isprintable()


@settings(deadline=None)
@given(data=CHUNKED, cut=st.integers(0, 2 * LINE_BYTES), overhead=st.sampled_from([80, 2000]))
def test_any_chunks_are_read_or_refused(data: bytes, cut: int, overhead: int) -> None:
    """May raise PeerError with 400, 413 or 431; what is accepted, h11 decodes to the same body."""
    outcomes = []
    for places in ((0, len(data)), (0, cut % (len(data) + 1), len(data)), range(len(data) + 1)):
        body = ChunkedBody(overhead_limit=overhead, body_limit=50)
        pieces: list[bytes] = []
        rest = b""
        status = None
        try:
            for start, end in pairwise(places):
                if body.is_complete:
                    rest += data[start:end]
                else:
                    rest = body.feed(data[start:end], pieces)
        except PeerError as error:
            status = error.status
        assert all(pieces), "an empty piece means nothing"
        outcomes.append(
            (status, body.is_complete, b"".join(pieces), rest if status is None else b"")
        )
    assert outcomes[1:] == outcomes[:1] * 2
    status, is_complete, decoded, rest = outcomes[0]
    assert status in (None, 400, 413, 431)
    if status is None and is_complete:
        size = len(data) - len(rest)
        try:
            verdict = ask_h11(HEAD + data)
        except RefusedError:
            assert is_explained("h11", data[:size])
        else:
            assert (verdict.body, verdict.size) == (decoded, len(HEAD) + size)


@settings(deadline=None)
@given(pieces=FLOODS, parser=st.sampled_from(PARSERS))
def test_a_reader_holds_no_more_than_a_head_allows(pieces: list[bytes], parser: Any) -> None:
    """May raise PeerError. After any feed that does not, what is held is bounded."""
    requests = Requests()
    reader = RequestReader(requests, fields_parser(parser), SMALL_LIMITS)
    bound = max(SMALL_LIMITS.head, LINE_BYTES) + len(b"\r\n\r\n")
    try:
        for piece in pieces:
            rest = piece
            while rest and not requests.is_upgraded:
                rest = reader.feed(rest)
                assert held_bytes(reader) <= bound
    except PeerError:
        pass
