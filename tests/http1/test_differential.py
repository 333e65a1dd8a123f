"""Our reader beside two others: the same for every parser and split, and for llhttp and h11 on their own.

What we refuse may be accepted elsewhere: we are stricter. What we accept must be the same request to the
two libraries, or stand in the list of differences in `oracles.py`.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.errors import PeerError
from asgireload.http.request import RequestLimits
from asgireload.http1.parsers import parse_fields
from asgireload.http1.reader import RequestReader
from tests.corpus.loading import ExpectedRequest, load_all
from tests.fuzz.requests import ANY_STREAMS, STREAMS
from tests.http1.oracles import (
    DIFFERENCES,
    Difference,
    RefusedError,
    Verdict,
    ask_h11,
    ask_llhttp,
    is_explained,
)
from tests.http1.reading import Requests, bytes_of, read

LIMITS = RequestLimits()
SMALL_LIMITS = RequestLimits(line=60, head=150, fields=6, body=30)


class Found(NamedTuple):
    data: bytes
    """From the request's first byte on; empty lines before it are skipped."""
    size: int
    request: ExpectedRequest


def find_whole_requests(data: bytes) -> list[Found]:
    """Return the requests that our reader accepts as whole, with the place of each."""
    requests = Requests(takes_websockets=False)
    reader = RequestReader(requests, parse_fields, LIMITS)
    ends: list[int] = []
    try:
        for place in range(len(data)):
            reader.feed(data[place : place + 1])
            if len(requests.bodies) > len(ends):
                ends.append(place + 1)
    except PeerError:
        pass  # what came before it counts
    found = []
    for start, end, request in zip([0, *ends], ends, requests.found(), strict=False):
        while data.startswith(b"\r\n", start):
            start += 2
        found.append(Found(data[start:], end - start, request))
    return found


def as_found(verdict: Verdict) -> tuple[object, ...]:
    """Return what the verdict says in the order of `as_judged`."""
    target = verdict.target
    hosts = [value for name, value in verdict.headers if name == b"host"]
    absolute = re.fullmatch(rb"(?i:https?)://([^/?]*)(.*)", target)
    if absolute is not None:
        # RFC 9112 section 3.2.2: the authority wins.
        hosts = [absolute[1]]
        target = absolute[2]
        if target[:1] != b"/":
            target = b"*" if verdict.method == b"OPTIONS" and not target else b"/" + target
    path, _, query = target.partition(b"?")
    headers = [
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in verdict.headers
        if name != b"host"
    ]
    return verdict.method, path, query, hosts, headers, verdict.body, verdict.size


def as_judged(found: Found) -> tuple[object, ...]:
    request = found.request
    hosts = [value for name, value in request.headers if name == b"host"]
    headers = [header for header in request.headers if header[0] != b"host"]
    method = request.method.encode()
    return method, request.path, request.query, hosts, headers, request.body, found.size


LIBRARIES = {"llhttp": ask_llhttp, "h11": ask_h11}


def disagreements(data: bytes) -> list[tuple[str, bytes, object]]:
    """Return library, request and other view of each request of ours that is not the same to it."""
    found_otherwise: list[tuple[str, bytes, object]] = []
    for found in find_whole_requests(data):
        for library, ask in LIBRARIES.items():
            try:
                verdict: object = as_found(ask(found.data))
            except RefusedError as error:
                verdict = str(error)
            if verdict != as_judged(found):
                found_otherwise.append((library, found.data[: found.size], verdict))
    return found_otherwise


def test_the_corpus_is_read_alike_but_for_the_listed_differences() -> None:
    met: set[Difference] = set()
    for case in load_all():
        for library, request, verdict in disagreements(case.data):
            assert is_explained(library, request), (case.name, library, verdict)
            met.update(
                difference
                for difference in DIFFERENCES
                if difference.library == library and difference.pattern.search(request)
            )
    assert met == set(DIFFERENCES), "a difference that no file shows is none"


@settings(max_examples=300, deadline=None)
@given(data=ANY_STREAMS)
def test_what_we_accept_is_the_same_request_to_llhttp_and_h11(data: bytes) -> None:
    unexplained = [
        (library, request, verdict)
        for library, request, verdict in disagreements(data)
        if not is_explained(library, request)
    ]
    assert not unexplained


@settings(max_examples=200, deadline=None)
@given(
    data=ANY_STREAMS,
    cuts=st.lists(st.integers(0, 1000), max_size=4),
    limits=st.sampled_from([LIMITS, SMALL_LIMITS]),
)
def test_streams_mean_the_same_to_every_parser_however_they_are_split(
    data: bytes, cuts: list[int], limits: RequestLimits
) -> None:
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    expected = read("builtin", [data], limits)
    for parser in ("builtin", "httptools", "h11"):
        for split in ([data], pieces, bytes_of(data)):
            assert read(parser, split, limits) == expected, parser


@settings(max_examples=100, deadline=None)
@given(data=STREAMS)
def test_requests_that_are_in_order_are_never_refused(data: bytes) -> None:
    assert read("builtin", [data], LIMITS).ends in ("kept", "closed", "upgraded")
