"""Where a stream of server-sent events stands, over bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.http.event_stream import (
    MOST_ID_BYTES,
    EventStream,
    is_event_stream,
    with_last_event_id,
)
from benchmarks.reloads.event_stream import EventParser


def fed(*pieces: bytes) -> EventStream:
    events = EventStream()
    for piece in pieces:
        events.feed(piece)
    return events


@pytest.mark.parametrize(
    ("body", "is_at_boundary", "last_event_id", "can_move"),
    [
        (b"", True, b"", True),
        (b": a comment\n", True, b"", True),
        (b": a comm", False, b"", True),
        (b"retry: 100\n\n", True, b"", True),
        (b"data: 1\n", False, b"", False),
        (b"data: 1\n\n", True, b"", False),
        (b"id: 7\ndata: 1\n\n", True, b"7", True),
        (b"id: 7\ndata: 1\n", False, b"", False),
        (b"id: 7\n\n", True, b"7", True),
        (b"id:7\r\n\r\n", True, b"7", True),
        (b"id:  7\r\r", True, b" 7", True),
        (b"id: 7\n\ndata: 2\n\n", True, b"7", True),
        (b"id: 7\n\n: ping\n", True, b"7", True),
        (b"id: 7\n\nid: 8\n", False, b"7", True),
        (b"id: 7\n\nid\ndata: x\n\n", True, b"", False),
        (b"id: 7\n\nid: 8\0\ndata: x\n\n", True, b"7", True),
        (b"id: 7\n\nidea: 8\n\n", True, b"7", True),
        (b"data: 1\nid: " + b"7" * MOST_ID_BYTES + b"\n\n", True, b"", False),
        (b"\n\n\n", True, b"", True),
        ("\ufeffid: 7\n\n".encode(), True, b"7", True),
        (b"id: 7\n\ndata: 1\n\nid: " + b"8" * 5000 + b"\ndata: 2\n\n", True, b"", False),
        ("id: é\n\n".encode(), True, "é".encode(), True),
    ],
)
def test_a_stream_is_between_two_events_or_within_one(
    body: bytes, is_at_boundary: bool, last_event_id: bytes, can_move: bool
) -> None:
    for events in (fed(body), fed(*(body[i : i + 1] for i in range(len(body))))):
        assert events.is_at_boundary is is_at_boundary
        assert events.last_event_id == last_event_id
        assert events.can_move is can_move


LINES = st.sampled_from(
    [b"data: x", b"id: 1", b"id: 22", b"id", b"event: e", b": c", b"", b"", b"", b"retry: 5", b"x"]
)
BODIES = st.lists(
    st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])).map(b"".join), max_size=12
).map(b"".join)


@given(BODIES, st.data())
def test_it_means_the_same_wherever_it_is_cut_and_as_clients_read_it(
    body: bytes, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    edges = [0, *cuts, len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(edges)]
    whole, cut = fed(body), fed(*pieces)
    assert whole.is_at_boundary == cut.is_at_boundary
    assert whole.last_event_id == cut.last_event_id
    parser = EventParser()
    events = parser.feed(body)
    assert whole.last_event_id.decode() == parser.last_id
    assert whole.is_at_boundary == parser.is_at_boundary
    assert not events or whole.has_events


def test_a_long_line_takes_no_memory() -> None:
    events = fed(b"data: " + b"x" * 1_000_000)
    assert len(events._partial) < 100
    events.feed(b"\n\n")
    assert events.is_at_boundary


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"content-type", b"text/event-stream")], True),
        ([(b"Content-Type", b" Text/Event-Stream; charset=utf-8")], True),
        ([(b"content-type", b"text/plain")], False),
        ([], False),
        ([(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")], False),
        ([(b"Content-Length", b"5"), (b"content-type", b"text/event-stream")], False),
    ],
)
def test_which_responses_are_event_streams(
    headers: list[tuple[bytes, bytes]], expected: bool
) -> None:
    assert is_event_stream(headers) is expected


def test_a_request_asks_for_what_comes_behind_an_event() -> None:
    head = b"GET /e HTTP/1.1\r\nhost: a\r\nLast-Event-ID: 3\r\naccept: */*\r\n\r\n"
    assert with_last_event_id(head, b"") == head
    assert with_last_event_id(head, b"7") == (
        b"GET /e HTTP/1.1\r\nhost: a\r\naccept: */*\r\nlast-event-id: 7\r\n\r\n"
    )
