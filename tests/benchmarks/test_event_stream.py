"""Bodies of HTTP/1.1, and server-sent events in them, however their bytes are split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reloads.event_stream import MAX_LINE, Body, Event, EventParser
from benchmarks.reloads.wire import BrokenAnswer, Head

CHUNKED = Head(200, None, True, False, None, None)
UNTIL_CLOSE = Head(200, None, False, True, None, None)


def with_length(length, status=200):
    return Head(status, length, False, False, None, None)


def pieces(data, step):
    return [data[at : at + step] for at in range(0, len(data), step)]


def fed(reader, data, step=1):
    """What a reader makes of bytes in pieces: content, or events."""
    found = [reader.feed(piece) for piece in pieces(data, step)]
    return (
        b"".join(found) if isinstance(reader, Body) else [event for part in found for event in part]
    )


# --- bodies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_a_chunked_body_is_read_to_its_last_chunk_and_no_further(step):
    body = Body(CHUNKED)
    raw = b"3\r\nab\n\r\n00A;x=y\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\nDate: x\r\n\r\nHTTP/1.1 "
    assert fed(body, raw, step) == b"ab\n0\r\n\r\n0\r\n\r\n"
    assert body.is_complete
    assert body.rest == b"HTTP/1.1 "


@pytest.mark.parametrize("cut", [b"", b"2", b"2\r\n", b"2\r\na", b"2\r\nab", b"2\r\nab\r\n0\r\n\r"])
def test_a_chunked_body_without_its_last_chunk_is_not_complete(cut):
    body = Body(CHUNKED)
    body.feed(cut)
    assert not body.is_complete


@pytest.mark.parametrize(
    "raw", [b"x\r\n", b"\r\n", b"2\r\nabc\r\n", b"2\r\nab\r\n\r\n", b"1" * MAX_LINE]
)
def test_wrong_framing_is_a_broken_answer(raw):
    with pytest.raises(BrokenAnswer):
        fed(Body(CHUNKED), raw)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.integers(1, 30), st.binary())
def test_chunks_are_joined_however_the_bytes_are_split(chunks, step, behind):
    raw = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    body = Body(CHUNKED)
    assert fed(body, raw + behind, step) == b"".join(chunks)
    assert body.is_complete
    assert body.rest == behind


def test_a_body_of_known_length_ends_with_its_last_byte():
    body = Body(with_length(3))
    assert (fed(body, b"ab"), body.is_complete) == (b"ab", False)
    assert (fed(body, b"cde", 3), body.is_complete, body.rest) == (b"c", True, b"de")


@pytest.mark.parametrize("head", [with_length(0), with_length(None, 204), with_length(None, 304)])
def test_a_response_without_a_body_is_complete_at_once(head):
    assert Body(head).is_complete


def test_a_body_until_the_end_of_the_connection_is_never_known_to_be_complete():
    body = Body(UNTIL_CLOSE)
    assert fed(body, b"0\r\n\r\n") == b"0\r\n\r\n"
    assert not body.is_complete


# --- events -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_events_are_read_by_the_rules_of_the_standard(end, step):
    lines = [
        *(b"\xef\xbb\xbf: hello", b"id: 1", b"data: first", b"data:  line two", b""),
        *(
            b"data",
            b"",
            b"data",
            b"data",
            b"",
            b"data:test",
            b"event: tick",
            b"",
            b": only this",
            b"",
        ),
        *(
            b"id:2",
            b"",
            b"event: nothing to give",
            b"",
            b"data: \xe2\x82\xac:x",
            b"unknown: x",
            b"",
        ),
        *(b"id: a\0b", b"retry: 50", b"retry: 5s", b"data: \xff", b"", b"id", b"data: x", b""),
    ]
    parser = EventParser("0")
    assert fed(parser, end.join(lines) + end, step) == [
        Event("first\n line two", "1"),
        Event("", "1"),
        Event("\n", "1"),
        Event("test", "1", "tick"),
        Event("€:x", "2"),
        Event("\ufffd", "2"),
        Event("x", ""),
    ]
    assert (parser.last_id, parser.retry_ms, parser.comments) == ("", 50, 2)
    assert parser.is_at_boundary


def test_an_event_without_its_empty_line_is_not_given_and_its_id_does_not_count():
    parser = EventParser()
    assert fed(parser, b"id: 1\ndata: a\n\nid: 2\ndata: b\n") == [Event("a", "1")]
    assert parser.last_id == "1"


@pytest.mark.parametrize(
    ("content", "is_boundary"),
    [
        (b"", True),
        (b"data: a\n\n", True),
        (b"data: a\r\n\r", True),  # a lone CR ends a line as well
        (b"data: a\n\n: still here\n", True),
        (b"retry: 50\n", True),  # holds at once
        (b": still he", False),
        (b"data: a\n\n: still he", False),
        (b"data: a\n", False),
        (b"id: 1\n", False),
        (b"data: a\n\nda", False),
    ],
)
def test_a_boundary_is_where_an_end_takes_nothing_away(content, is_boundary):
    parser = EventParser()
    parser.feed(content)
    assert parser.is_at_boundary is is_boundary


def test_the_last_id_outlives_a_stream_without_one():
    assert fed(EventParser("7"), b"data: x\n\n") == [Event("x", "7")]


@given(st.binary(), st.integers(1, 9))
def test_events_do_not_depend_on_how_the_bytes_are_split(content, step):
    whole, split = EventParser(), EventParser()
    assert fed(split, content, step) == whole.feed(content)
    assert (split.last_id, split.is_at_boundary) == (whole.last_id, whole.is_at_boundary)
