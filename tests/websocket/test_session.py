"""Frames in, messages out, without a socket."""

import random
import sys
import tracemalloc
from typing import Any

import pytest

from asgireload.errors import AppProtocolError
from asgireload.ipc.scoreboard import Limit
from asgireload.websocket._wsproto import WsprotoSession
from asgireload.websocket.deflate import DeflateParameters
from asgireload.websocket.session import (
    INFLATION_FROM,
    Closed,
    SessionLimits,
    WebSocketSession,
    weight,
)
from tests.websocket.client_frames import MASK, deflated, final_block, frame, head, masked
from tests.websocket.conftest import SESSIONS

Session: Any = WebSocketSession
"""The class under test; set for each test by `each_session`."""


@pytest.fixture(autouse=True)
def each_session(session_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "Session", SESSIONS[session_name])


CLOSE = frame(0x88, b"\x0b\xb8r")
DEFLATE = DeflateParameters()
ROOM = 1000


def receive(
    data: bytes,
    limits: SessionLimits | None = None,
    deflate: DeflateParameters | None = None,
    *,
    cut: int | None = None,
) -> tuple[list[Any], bytes]:
    """Feed a new session, in pieces of `cut` bytes; return what was received, and the answer."""
    session = Session(limits, deflate)
    received: list[Any] = []
    size = cut or max(len(data), 1)
    for start in range(0, len(data), size):
        received += session.receive(data[start : start + size], ROOM)
    return received, session.take_answer()


def fault(data: bytes, *arguments: Any, **options: Any) -> tuple[int, str]:
    """Return code and reason of the fault that ends `data`, which the peer must have been told."""
    received, answer = receive(data, *arguments, **options)
    closed = received[-1]
    assert isinstance(closed, Closed)
    assert closed.is_fault
    told = closed.code.to_bytes(2, "big") + closed.reason.encode()
    assert answer.endswith(bytes((0x88, len(told))) + told)
    return closed.code, in_our_words(closed.reason)


SAID_BY_WSPROTO = {
    "Invalid opcode 0x3": "the opcode 3 is reserved",
    "Reserved bit set unexpectedly": "a reserved bit is set that no extension gives a meaning to",
    "Invalid attempt to fragment control frame": "a control frame is fragmented",
    "server received unexpected unmasked frame": "a frame is not masked",
    "Control frame with payload len > 125": "a control frame is longer than 125 bytes",
    "unexpected CONTINUATION": "a fragment continues no message",
    "expected CONTINUATION, got": "a message began within another",
    "Payload length used 2 bytes": "a frame's length is not in its shortest form",
    "Payload length used 8 bytes": "a frame's length is not in its shortest form",
    "8-byte payload length with non-zero MSB": "the highest bit of a frame's length is set",
    "CLOSE with 1 byte payload": "the close frame has half a code",
    "CLOSE with unknown reserved code": "1004 is not a close code that may be sent",
    "'utf-8' codec can't decode": "a text message is not UTF-8",
}
"""What the protocol forbids is told in the library's words; limits are told in ours."""


def in_our_words(reason: str) -> str:
    if Session is WsprotoSession:
        for said, ours in SAID_BY_WSPROTO.items():
            if reason.startswith(said):
                return ours
    return reason


# --- messages -------------------------------------------------------------------------------------

LONG = "möge " * 30_000


@pytest.mark.parametrize("cut", [None, 1, 2, 3, 7, 4096, 65536])
def test_messages_arrive_whole_however_they_are_cut(cut: int | None) -> None:
    messages: list[str | bytes] = ["", b"", "hällo", b"\x00\xff" * 60, "x" * 126, b"y" * 65536]
    if cut is None or cut > 7:
        messages.append(LONG)
    data = b""
    for message in messages:
        if isinstance(message, str):
            data += frame(0x81, message.encode())
        else:
            data += frame(0x82, message)
        data += frame(0x89, b"p") + frame(0x8A, b"unasked")
    received, answer = receive(data + CLOSE, cut=cut)
    assert received == [*messages, Closed(3000, "r", is_fault=False)]
    assert answer == b"\x8a\x01p" * len(messages) + b"\x88\x02\x0b\xb8"


@pytest.mark.parametrize("cut", [None, 1, 5])
def test_fragments_make_one_message_with_pings_between(cut: int | None) -> None:
    data = (
        frame(0x01, "é".encode()[:1])
        + frame(0x89)
        + frame(0x00, "é".encode()[1:] + b"a")
        + frame(0x00)
        + frame(0x80, b"b")
        + frame(0x02, b"\xff")
        + frame(0x80)
    )
    assert receive(data, cut=cut) == (["éab", b"\xff"], b"\x8a\x00")


@pytest.mark.parametrize("cut", [None, 1, 5])
def test_compressed_messages_in_one_frame_and_in_fragments(cut: int | None) -> None:
    packed = deflated(b"a" * 200)
    data = (
        frame(0xC1, packed)
        + frame(0x42, packed[:3])
        + frame(0x89, b"p")
        + frame(0x00, packed[3:4])
        + frame(0x80, packed[4:])
        + frame(0x81, b"plain")
        + frame(0xC1, final_block(b"end"))
        + frame(0xC2, b"\x00")
    )
    received = ["a" * 200, b"a" * 200, "plain", "end", b""]
    assert receive(data, deflate=DEFLATE, cut=cut) == (received, b"\x8a\x01p")


def test_the_masking_key_turns_with_the_pieces() -> None:
    payload = bytes(range(256)) * 8
    data = frame(0x82, payload, key=b"\x01\x02\x03\x04")
    for cut in (1, 2, 3, 5, 9, 11):
        assert receive(data, cut=cut)[0] == [payload]


# --- what the protocol forbids --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x83\x80", "the opcode 3 is reserved"),
        (b"\xa1\x80", "a reserved bit is set that no extension gives a meaning to"),
        (b"\xc1\x80", "a reserved bit is set that no extension gives a meaning to"),
        (b"\x09\x80", "a control frame is fragmented"),
        (b"\x81\x00", "a frame is not masked"),
        (b"\x89\x7d", "a frame is not masked"),
        (b"\x89\xfe", "a control frame is longer than 125 bytes"),
        (b"\x88\xff", "a control frame is longer than 125 bytes"),
        (b"\x00\x80", "a fragment continues no message"),
        (b"\x80\x81", "a fragment continues no message"),
        (frame(0x81, b"x") + b"\x80\x80", "a fragment continues no message"),
        (frame(0x01) + b"\x81\x80", "a message began within another"),
        (frame(0x01, b"x") + b"\x02\x81", "a message began within another"),
        (head(0x82, 125, size=2)[:4], "a frame's length is not in its shortest form"),
        (head(0x82, 65535, size=8)[:10], "a frame's length is not in its shortest form"),
        (head(0x82, 1 << 63, size=8)[:10], "the highest bit of a frame's length is set"),
        (frame(0x88, b"\x03"), "the close frame has half a code"),
        (frame(0x88, b"\x03\xec"), "1004 is not a close code that may be sent"),
    ],
)
def test_what_is_forbidden_is_1002_as_soon_as_it_is_seen(data: bytes, reason: str) -> None:
    # wsproto looks at the order of frames when their payload comes.
    more = bytes(5) if Session is WsprotoSession else b""
    assert fault(data + more) == (1002, reason)
    assert fault(data + more, cut=1) == (1002, reason)
    session = Session()
    assert not any(isinstance(event, Closed) for event in session.receive(data[:-1], ROOM))


@pytest.mark.parametrize("first", [0x40, 0xC0, 0xC9, 0xC8, 0xE1, 0xD2])
def test_with_deflate_only_the_first_frame_of_a_message_may_be_marked(first: int) -> None:
    code, reason = fault(frame(0x01, b"x") + frame(first, b"x"), deflate=DEFLATE)
    assert code == 1002
    assert reason == "a reserved bit is set that no extension gives a meaning to"


BAD_TEXT = [
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"a\xc3(",
    b"\xc3",
    b"\xf0\x9f\x98",
]


@pytest.mark.parametrize("text", BAD_TEXT)
@pytest.mark.parametrize("cut", [None, 1])
def test_text_that_is_not_utf8_is_1007(text: bytes, cut: int | None) -> None:
    expected = (1007, "a text message is not UTF-8")
    assert fault(frame(0x81, text), cut=cut) == expected
    assert fault(frame(0x01, text[:1]) + frame(0x80, text[1:]), cut=cut) == expected
    assert fault(frame(0xC1, deflated(text)), deflate=DEFLATE, cut=cut) == expected


@pytest.mark.parametrize(
    "data",
    [
        frame(0x01, b"ok \xf4\x90"),
        frame(0x01, b"\xe0") + frame(0x00, b"\x80"),
        head(0x81, 1000) + masked(b"ok \xff"),
        head(0x41, 1000) + masked(deflated(b"ok \xff" + bytes(50))),
    ],
)
def test_bad_text_is_refused_before_its_message_is_whole(data: bytes) -> None:
    assert fault(data, deflate=DEFLATE)[0] == 1007


def test_damaged_compression_is_1007() -> None:
    assert fault(frame(0xC1, b"\xff\xff\xff"), deflate=DEFLATE) == (
        1007,
        "the compressed data is damaged",
    )


def test_nothing_counts_behind_a_fault_or_a_close() -> None:
    ((fault_alone,), _) = receive(b"\x83\x80" + frame(0x81, b"x") + CLOSE)
    assert fault_alone.is_fault
    assert in_our_words(fault_alone.reason) == "the opcode 3 is reserved"
    received, answer = receive(CLOSE + frame(0x81, b"x") + b"\xff\xff")
    assert received == [Closed(3000, "r", is_fault=False)]
    assert answer == b"\x88\x02\x0b\xb8"
    session = Session()
    session.receive(CLOSE, ROOM)
    assert session.receive(b"\xff\xff", ROOM) == []
    assert not session.is_open


def test_the_latest_close_code_is_not_known_to_wsproto() -> None:
    """1014 was registered after the others (IANA, WebSocket Close Code Number)."""
    data = frame(0x88, (1014).to_bytes(2, "big"))
    if Session is WsprotoSession:
        assert fault(data)[0] == 1002
    else:
        assert receive(data)[0] == [Closed(1014, "", is_fault=False)]
    assert Session().close(1014) == b"\x88\x02\x03\xf6"


def test_a_close_without_a_code_is_answered_without_one() -> None:
    assert receive(frame(0x88)) == ([Closed(1005, "", is_fault=False)], b"\x88\x00")


# --- limits ---------------------------------------------------------------------------------------

SMALL = SessionLimits(message_bytes=100, frame_bytes=60, fragments=4)


@pytest.mark.parametrize(
    ("data", "code", "reason", "limit"),
    [
        (head(0x82, 61), 1009, "the frame is too big", Limit.WS_SIZE),
        (head(0x82, 1 << 62), 1009, "the frame is too big", Limit.WS_SIZE),
        (
            frame(0x02, bytes(60)) + head(0x00, 41),
            1009,
            "the message is too big",
            Limit.WS_SIZE,
        ),
        (
            frame(0x01) + frame(0x00) * 3 + head(0x00, 0),
            1008,
            "the message has too many fragments",
            Limit.WS_FRAGMENTS,
        ),
        (
            frame(0xC2, deflated(bytes(101))),
            1009,
            "the compressed message becomes too big",
            Limit.WS_INFLATION,
        ),
        (
            frame(0x42, deflated(bytes(101))[:-1]),
            1009,
            "the compressed message becomes too big",
            Limit.WS_INFLATION,
        ),
    ],
)
def test_a_limit_is_told_and_counted(data: bytes, code: int, reason: str, limit: Limit) -> None:
    for cut in (None, 1):
        assert fault(data, SMALL, DEFLATE, cut=cut) == (code, reason)
        received, _ = receive(data, SMALL, DEFLATE, cut=cut)
        assert received == [Closed(code, reason, is_fault=True, limit=limit)]


def test_a_frame_is_refused_at_its_header_before_its_mask() -> None:
    session = Session(SessionLimits(message_bytes=1000))
    assert session.receive(head(0x82, 65536)[:9], ROOM) == []
    (closed,) = session.receive(head(0x82, 65536)[9:10], ROOM)
    assert isinstance(closed, Closed)
    assert closed.code == 1009


def test_everything_up_to_the_limit_is_taken() -> None:
    data = (
        frame(0x82, bytes(60))
        + frame(0x02, bytes(60))
        + frame(0x00, bytes(40))
        + frame(0x00)
        + frame(0x80)
        + frame(0xC2, deflated(bytes(100)))
    )
    for cut in (None, 1):
        received, _ = receive(data, SMALL, DEFLATE, cut=cut)
        assert received == [bytes(60), bytes(100), bytes(100)]


@pytest.mark.parametrize(("text", "fits"), [("x" * 10, True), ("é" * 5, True), ("é" * 6, False)])
def test_the_limit_counts_bytes(text: str, fits: bool) -> None:
    received, _ = receive(frame(0x81, text.encode()), SessionLimits(message_bytes=10))
    assert (received == [text]) is fits


def test_what_cannot_be_compressed_may_be_a_little_longer_than_the_limit() -> None:
    noise = random.Random(1).randbytes(1000)
    packed = deflated(noise)
    assert len(packed) > 1000
    limits = SessionLimits(message_bytes=1000)
    assert receive(frame(0xC2, packed), limits, DEFLATE)[0] == [noise]
    for cut in (None, 100):
        empty_blocks = head(0xC2, 1190)
        assert fault(empty_blocks, limits, DEFLATE, cut=cut) == (1009, "the message is too big")


def test_a_message_may_not_grow_beyond_all_proportion() -> None:
    packed = deflated(bytes(4 * INFLATION_FROM))
    assert len(packed) * 200 < 4 * INFLATION_FROM
    expected = Closed(
        1009, "the compressed message becomes too big", is_fault=True, limit=Limit.WS_INFLATION
    )
    for cut in (None, 100):
        assert receive(frame(0xC2, packed), None, DEFLATE, cut=cut)[0] == [expected]
        free = SessionLimits(inflation_ratio=None)
        received, _ = receive(frame(0xC2, packed), free, DEFLATE, cut=cut)
        assert received == [bytes(4 * INFLATION_FROM)]
        small = deflated(bytes(INFLATION_FROM))
        assert receive(frame(0xC2, small), None, DEFLATE, cut=cut)[0] == [bytes(INFLATION_FROM)]


def test_a_bomb_takes_no_memory() -> None:
    bomb = frame(0xC2, deflated(bytes(100_000_000)))
    session = Session(SessionLimits(message_bytes=1 << 30), DEFLATE)
    tracemalloc.start()
    try:
        session.receive(bomb, ROOM)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not session.is_open
    # The output buffer of zlib doubles, so a little more than what is allowed is reserved.
    assert peak < 200 * len(bomb) * 2 + 4 * INFLATION_FROM


def test_many_small_pieces_take_no_more_than_their_bytes() -> None:
    session = Session()
    pieces = 20_000
    session.receive(head(0x01, 4 * pieces + 1), ROOM)
    piece = masked(b"xxxx")
    tracemalloc.start()
    try:
        for _ in range(pieces):
            session.receive(piece, ROOM)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 4 * pieces * 1.375  # a bytearray is reserved by eighths


def test_a_read_of_tiny_frames_makes_no_more_messages_than_there_is_room_for() -> None:
    data = frame(0x81, b"x") * 40_000
    session = Session()
    total = 0
    received = session.receive(data, 32)
    while received:
        assert len(received) <= 32
        assert session.has_unread_frames is (total + len(received) < 40_000)
        total += len(received)
        received = session.receive(b"", 32)
    assert total == 40_000
    assert not session.has_unread_frames


def test_a_large_message_takes_several_places() -> None:
    """One read of compressed frames could otherwise become as many messages of the largest size."""
    data = frame(0x82, b"x" * 100_000) * 10
    session = Session()
    assert [len(message) for message in session.receive(data, 3)] == [100_000] * 2  # type: ignore[arg-type]
    assert session.has_unread_frames
    assert [weight(message) for message in ("", "x" * 65_535, b"x" * 65_536)] == [1, 1, 2]
    total = 2
    while received := session.receive(b"", 4):
        assert len(received) == 2
        total += len(received)
    assert total == 10


def test_without_room_bytes_are_kept_in_order() -> None:
    session = Session()
    data = b"".join(frame(0x81, b"%d" % index) for index in range(10)) + frame(0x89, b"p") + CLOSE
    received = session.receive(data[:20], 1)
    received += session.receive(data[20:33], 0)
    received += session.receive(data[33:], 0)
    assert session.take_answer() == b""
    while session.has_unread_frames:
        received += session.receive(b"", 3)
    assert received == [*map(str, range(10)), Closed(3000, "r", is_fault=False)]
    assert session.take_answer() == b"\x8a\x01p\x88\x02\x0b\xb8"


def test_a_session_keeps_nothing_of_what_it_has_read() -> None:
    session = Session()
    data = frame(0x82, bytes(100_000)) + b"\x81"
    references = sys.getrefcount(data)
    session.receive(data, ROOM)
    assert sys.getrefcount(data) == references


# --- sending --------------------------------------------------------------------------------------


def test_messages_are_framed() -> None:
    session = Session()
    assert session.send_text("hé") == b"\x81\x03h\xc3\xa9"
    assert session.send_bytes(b"") == b"\x82\x00"
    assert session.send_bytes(bytes(300)) == b"\x82\x7e\x01\x2c" + bytes(300)


def test_text_with_half_a_character_is_the_applications_mistake() -> None:
    with pytest.raises(AppProtocolError, match="the text cannot be sent as UTF-8"):
        Session().send_text("\ud800")


def test_only_messages_that_gain_by_it_are_compressed() -> None:
    session = Session(None, DEFLATE)
    assert session.send_text("x" * 15) == b"\x81\x0f" + b"x" * 15
    other = Session(None, DEFLATE)
    for opcode, data in ((1, session.send_text("x" * 16)), (2, session.send_bytes(b"x" * 16))):
        assert data[0] == 0xC0 | opcode
        (message,) = other.receive(frame(data[0], data[2:]), ROOM)
        assert message in ("x" * 16, b"x" * 16)


def test_the_closing_handshake_from_our_side() -> None:
    session = Session()
    assert session.close(1012) == b"\x88\x02\x03\xf4"
    assert session.close(1012) == b""
    assert not session.is_open
    data = frame(0x81, b"late") + frame(0x89, b"p") + frame(0x01, b"x") + frame(0x80) + CLOSE
    assert session.receive(data, 0) == [Closed(3000, "r", is_fault=False)]
    assert session.take_answer() == b""


def test_a_close_that_may_not_be_sent_changes_nothing() -> None:
    session = Session()
    for code, reason in ((1005, ""), (1000, "x" * 124)):
        with pytest.raises(AppProtocolError):
            session.close(code, reason)
    assert session.is_open


# --- pings ----------------------------------------------------------------------------------------


def test_only_the_right_pong_answers_a_ping() -> None:
    session = Session()
    assert not session.is_pong_awaited
    ping = session.ping()
    assert ping[:2] == b"\x89\x04"
    session.receive(frame(0x8A) + frame(0x8A, b"else"), ROOM)
    assert session.is_pong_awaited
    session.receive(frame(0x8A, ping[2:]), ROOM)
    assert not session.is_pong_awaited


def test_a_peer_that_does_not_read_gets_the_last_pong_only() -> None:
    session = Session()
    session.hold_pongs()
    for index in range(1000):
        session.receive(frame(0x89, b"%d" % index), ROOM)
    assert session.take_answer() == b""
    assert session.release_pongs() == b"\x8a\x03999"
    assert session.release_pongs() == b""
    session.receive(frame(0x89, key=MASK), ROOM)
    assert session.take_answer() == b"\x8a\x00"


def test_no_held_pong_follows_a_close() -> None:
    session = Session()
    session.hold_pongs()
    session.receive(frame(0x89), ROOM)
    session.close(1000)
    assert session.release_pongs() == b""
