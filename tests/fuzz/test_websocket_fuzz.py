"""WebSocket frames, well formed, nearly well formed, and not at all.

Acceptable outcomes: messages within the limits, then at most one `Closed` with a code that may be on
the wire. Nothing is ever raised, and it makes no difference how the bytes were split.
"""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from asgireload.websocket._wsproto import WsprotoSession
from asgireload.websocket.deflate import DeflateParameters
from asgireload.websocket.frames import (
    INVALID_DATA,
    NO_STATUS,
    TOO_BIG,
    encode_close,
    is_sendable_code,
)
from asgireload.websocket.session import Closed, SessionLimits, WebSocketSession
from tests.websocket.client_frames import deflated, final_block, frame, masked

Session = WebSocketSession | WsprotoSession
EACH_SESSION = pytest.mark.parametrize("kind", [WebSocketSession, WsprotoSession])

LIMITS = SessionLimits(message_bytes=2000, frame_bytes=1500, fragments=5)
DEFLATE = DeflateParameters()

# Bytes and lengths at which something changes are as likely as all others together.
FIRST_BYTES = st.sampled_from((0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A)) | st.integers(
    0, 255
)
COMPRESSED = st.sampled_from((0xC1, 0xC2, 0x41, 0x42))
PAYLOADS = (
    st.binary(max_size=140)
    | st.text(max_size=40).map(str.encode)
    | st.sampled_from((bytes(1500), bytes(1501), b"\xed\xa0\x80", b"\xf0\x9f\x98"))
)
PACKED = PAYLOADS.map(deflated) | PAYLOADS.map(final_block) | st.just(deflated(bytes(9000)))
CODES = st.sampled_from((999, 1000, 1004, 1005, 1015, 3000, 4999, 5000)) | st.integers(0, 65535)
CLOSES = st.builds(
    lambda code, reason: frame(0x88, (code.to_bytes(2, "big") + reason)[:125]), CODES, PAYLOADS
)
FRAMES = (
    st.builds(frame, FIRST_BYTES, PAYLOADS)
    | st.builds(frame, COMPRESSED, PACKED)
    | st.builds(lambda payload: frame(0x82, payload[:100], size=2), PAYLOADS)
    | CLOSES
)
STREAMS = st.lists(FRAMES | st.binary(max_size=20), max_size=8).map(b"".join) | st.binary(
    max_size=300
)


def outcome(
    kind: type[Session], data: bytes, cuts: list[int], deflate: DeflateParameters | None, room: int
) -> tuple[list[Any], bytes]:
    session = kind(LIMITS, deflate)
    received: list[Any] = []
    answer = b""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, stop in pairwise(edges):
        received += session.receive(data[start:stop], room)
        answer += session.take_answer()
        while session.has_unread_frames:
            more = session.receive(b"", room)
            assert len(more) <= room + 1
            received += more
            answer += session.take_answer()
    return received, answer


def check_outcome(received: list[Any], answer: bytes) -> None:
    for event in received[:-1]:
        assert not isinstance(event, Closed)
    for event in received:
        if isinstance(event, Closed):
            assert event.code == NO_STATUS or is_sendable_code(event.code)
            assert len(event.reason.encode()) <= 123
            assert b"\x88" in answer
        else:
            data = event.encode() if isinstance(event, str) else event
            assert len(data) <= LIMITS.message_bytes


@EACH_SESSION
@settings(max_examples=300, deadline=None)
@given(
    data=STREAMS,
    cuts=st.lists(st.integers(1, 400), max_size=6),
    has_deflate=st.booleans(),
    room=st.integers(1, 4),
)
@example(data=frame(0x81, b"\xff"), cuts=[1], has_deflate=False, room=1)
def test_any_bytes_in_any_pieces_have_one_outcome(
    kind: type[Session], data: bytes, cuts: list[int], has_deflate: bool, room: int
) -> None:
    deflate = DEFLATE if has_deflate else None
    whole = outcome(kind, data, [], deflate, 1000)
    check_outcome(*whole)
    for pieces in (cuts, range(len(data))):
        in_pieces = outcome(kind, data, list(pieces), deflate, room)
        assert comparable(*in_pieces) == comparable(*whole)


def comparable(received: list[Any], answer: bytes) -> Any:
    """Return what must not depend on how bytes were split.

    A compressed text that is not UTF-8 at its start and too big at its end has two faults; which one
    is seen first does depend on it.
    """
    closed = received[-1] if received else None
    if isinstance(closed, Closed) and closed.is_fault and closed.code in (INVALID_DATA, TOO_BIG):
        told = encode_close(closed.code, closed.reason)
        assert answer.endswith(told)
        return received[:-1], answer[: -len(told)]
    return received, answer


@settings(max_examples=200, deadline=None)
@given(data=STREAMS, has_deflate=st.booleans())
def test_a_session_over_wsproto_has_the_same_outcome(data: bytes, has_deflate: bool) -> None:
    """Messages and answers alike, and a fault for a fault."""
    assume(CODE_1014 not in data)
    data += bytes(20)  # wsproto finds some faults of a header only in what follows it
    deflate = DEFLATE if has_deflate else None
    ours, answer = outcome(WebSocketSession, data, [], deflate, 1000)
    theirs, their_answer = outcome(WsprotoSession, data, [], deflate, 1000)
    our_fault = ours.pop() if ours and is_fault(ours[-1]) else None
    their_fault = theirs.pop() if theirs and is_fault(theirs[-1]) else None
    assert theirs == ours
    assert bool(our_fault) is bool(their_fault)
    if our_fault is None:
        assert their_answer == answer


def is_fault(event: Any) -> bool:
    return isinstance(event, Closed) and event.is_fault


@settings(max_examples=100, deadline=None)
@given(data=STREAMS)
def test_what_is_kept_between_frames_is_small(data: bytes) -> None:
    session = WebSocketSession(LIMITS, DEFLATE)
    for start in range(0, len(data), 50):
        session.receive(data[start : start + 50], 1000)
        assert len(session._unread) <= 130
        assert len(session._gathered) <= LIMITS.message_bytes


# --- another implementation's opinion -------------------------------------------------------------


def opinion_of_wsproto(data: bytes, *, has_deflate: bool) -> tuple[list[Any], int | None]:
    """Return the messages before the end, and the close code or None, as wsproto sees them."""
    extensions = []
    if has_deflate:
        extension = PerMessageDeflate()
        extension.accept("permessage-deflate")
        extensions.append(extension)
    connection = Connection(ConnectionType.SERVER, extensions)
    connection.receive_data(data)
    messages: list[Any] = []
    pieces: list[Any] = []
    for event in connection.events():
        if isinstance(event, Message):
            pieces.append(event.data if isinstance(event.data, str) else bytes(event.data))
            if event.message_finished:
                messages.append(type(pieces[0])().join(pieces))
                pieces = []
        elif isinstance(event, CloseConnection):
            return messages, int(event.code)
    return messages, None


def opinion_of_ours(data: bytes, *, has_deflate: bool) -> tuple[list[Any], int | None]:
    session = WebSocketSession(
        SessionLimits(message_bytes=1 << 62, fragments=1 << 62), DEFLATE if has_deflate else None
    )
    received = session.receive(data, 1 << 62)
    if received and isinstance(received[-1], Closed):
        return received[:-1], received[-1].code
    return received, None


CODE_1014 = masked(b"\x03\xf6")
"""wsproto does not know it; it was registered later (IANA, WebSocket Close Code Number)."""
PLAIN_FRAMES = (
    st.builds(frame, FIRST_BYTES, PAYLOADS)
    | st.builds(lambda payload: frame(0x82, payload[:100], size=2), PAYLOADS)
    | CLOSES.filter(lambda data: not data[6:].startswith(CODE_1014))
)


@settings(max_examples=300, deadline=None)
@given(data=st.lists(PLAIN_FRAMES, max_size=8).map(b"".join))
def test_wsproto_reads_plain_frames_alike(data: bytes) -> None:
    assert opinion_of_ours(data, has_deflate=False) == opinion_of_wsproto(data, has_deflate=False)


DATA = st.text(max_size=60) | st.binary(max_size=60) | st.just("long " * 500)


@settings(max_examples=100, deadline=None)
@given(
    messages=st.lists(DATA, max_size=6),
    fragment=st.integers(1, 100),
    has_deflate=st.booleans(),
)
def test_what_a_wsproto_client_sends_is_understood(
    messages: list[str | bytes], fragment: int, has_deflate: bool
) -> None:
    extension = PerMessageDeflate()
    extension.finalize("permessage-deflate")
    client = Connection(ConnectionType.CLIENT, [extension] if has_deflate else [])
    data = b""
    for message in messages:
        kind: Any = TextMessage if isinstance(message, str) else BytesMessage
        starts = range(0, max(len(message), 1), fragment)
        for start in starts:
            piece = message[start : start + fragment]
            data += client.send(kind(data=piece, message_finished=start == starts[-1]))
            if not has_deflate:
                data += client.send(Ping(payload=b"p"))
    data += client.send(CloseConnection(code=3000, reason="r"))
    assert opinion_of_ours(data, has_deflate=has_deflate) == (messages, 3000)


@settings(max_examples=100, deadline=None)
@given(messages=st.lists(DATA, max_size=6), resets=st.booleans())
def test_a_wsproto_client_understands_what_is_sent(
    messages: list[str | bytes], resets: bool
) -> None:
    parameters = DeflateParameters(server_no_context_takeover=resets)
    extension = PerMessageDeflate()
    extension.finalize(parameters.header_value.decode())
    client = Connection(ConnectionType.CLIENT, [extension])
    session = WebSocketSession(None, parameters)
    for message in messages:
        if isinstance(message, str):
            client.receive_data(session.send_text(message))
        else:
            client.receive_data(session.send_bytes(message))
        pieces = [event.data for event in client.events() if isinstance(event, Message)]
        assert type(message)().join(pieces) == message  # type: ignore[arg-type]
    client.receive_data(session.close(1001, "off"))
    (event,) = client.events()
    assert isinstance(event, CloseConnection)
    assert (event.code, event.reason) == (1001, "off")


def test_damaged_text_has_one_code_however_it_comes() -> None:
    for cut in range(1, 12):
        received, _ = outcome(WebSocketSession, frame(0x81, b"ok \xff"), [cut], None, 10)
        assert received[-1].code == INVALID_DATA
