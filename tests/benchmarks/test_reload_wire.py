"""The bytes of the clients that are there while code is replaced."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reloads import wire
from benchmarks.reloads.wire import BrokenAnswer

HEAD = b"HTTP/1.1 200 OK\r\nX-Who: 3 4711\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"


def test_a_head_tells_what_the_clients_need():
    assert wire.parse_head(HEAD) == wire.Head(200, 2, False, True, 3, 4711)


def test_a_head_without_version_is_read_too():
    head = wire.parse_head(b"HTTP/1.1 101 X\r\nTransfer-Encoding: Chunked\r\n\r\n")
    assert head == wire.Head(101, None, True, False, None, None)


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 two OK\r\n\r\n",
        b"HTTP/1.1 \xb2 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-who: somebody\r\n\r\n",
    ],
)
def test_what_is_no_head_is_a_broken_answer(raw):
    with pytest.raises(BrokenAnswer):
        wire.parse_head(raw)


@given(st.binary())
def test_no_bytes_make_reading_a_head_fail_otherwise(raw):
    try:
        wire.parse_head(raw)
    except BrokenAnswer:
        return


@pytest.mark.parametrize(("line", "size"), [(b"0\r\n", 0), (b"1f\r\n", 31), (b"A;x=y\r\n", 10)])
def test_the_size_of_a_chunk_is_read(line, size):
    assert wire.chunk_size(line) == size


@pytest.mark.parametrize(
    "line", [b"none\r\n", b"\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b"1_0\r\n", b" 1\r\n"]
)
def test_a_chunk_without_size_is_a_broken_answer(line):
    with pytest.raises(BrokenAnswer):
        wire.chunk_size(line)


def test_a_request_is_exactly_these_bytes():
    assert wire.request("POST", "/upload", length=3, closes=True) == (
        b"POST /upload HTTP/1.1\r\nHost: localhost\r\nUser-Agent: reload-bench\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\n"
    )


def test_further_lines_of_a_head_come_last():
    assert wire.request("GET", "/", more=["Last-Event-ID: 7"]) == (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: reload-bench\r\nLast-Event-ID: 7\r\n\r\n"
    )


def server_frame(opcode, payload):
    if len(payload) < 126:
        return bytes((0x80 | opcode, len(payload))) + payload
    return bytes((0x80 | opcode, 126)) + len(payload).to_bytes(2) + payload


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 8, 9, 10]), st.binary(max_size=300)), max_size=5),
    st.integers(1, 40),
)
def test_frames_are_taken_whole_however_the_bytes_are_split(frames, step):
    raw = b"".join(server_frame(*frame) for frame in frames)
    buffer, found = bytearray(), []
    for start in range(0, len(raw), step):
        buffer += raw[start : start + step]
        while (frame := wire.next_frame(buffer)) is not None:
            found.append(frame)
    assert found == frames
    assert not buffer


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x81\x81....x", "masks"),
        (b"\x01\x01x", "fragment"),
        (b"\xc1\x01x", "extension"),
        (b"\x82\x7f" + (1 << 21).to_bytes(8), "a frame of"),
    ],
)
def test_frames_that_were_not_agreed_are_broken_answers(raw, reason):
    with pytest.raises(BrokenAnswer, match=reason):
        wire.next_frame(bytearray(raw))


def test_a_frame_is_masked_and_short():
    assert wire.frame(wire.TEXT, b"Hello") == bytes.fromhex("818537fa213d7f9f4d5158")
    with pytest.raises(ValueError, match="126 bytes"):
        wire.frame(wire.TEXT, b"x" * 126)


@pytest.mark.parametrize(("payload", "code"), [(b"", 1005), (b"\x03\xf4gone", 1012)])
def test_the_code_of_a_close_is_read(payload, code):
    assert wire.close_code(payload) == code
