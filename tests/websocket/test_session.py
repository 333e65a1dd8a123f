"""Frames in, messages out, without a socket; a wsproto client is the other end."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from asgireload.websocket.session import (
    Closed,
    PongReceived,
    WebSocketSession,
    is_sendable_code,
)

CLOSE = CloseConnection(code=3000, reason="r")


def feed(session: WebSocketSession, pieces: list[bytes]) -> tuple[list[Any], bytes]:
    received: list[Any] = []
    answer = b""
    for piece in pieces:
        events, reply = session.receive(piece)
        received += events
        answer += reply
    return received, answer


MESSAGES = st.lists(st.one_of(st.text(max_size=30), st.binary(max_size=30)), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(messages=MESSAGES, fragment=st.integers(1, 40), split=st.integers(1, 60))
def test_messages_arrive_whole_however_they_are_cut(
    messages: list[str | bytes], fragment: int, split: int
) -> None:
    client = Connection(ConnectionType.CLIENT)
    data = b""
    for message in messages:
        kind: Any = TextMessage if isinstance(message, str) else BytesMessage
        starts = range(0, max(len(message), 1), fragment)
        for start in starts:
            piece = message[start : start + fragment]
            is_last = start == starts[-1]
            data += client.send(kind(data=piece, message_finished=is_last))
            data += client.send(Ping(payload=b"p"))
    data += client.send(CLOSE)
    pieces = [data[start : start + split] for start in range(0, len(data), split)]
    session = WebSocketSession(max_size=1000)
    received, answer = feed(session, pieces)
    assert received == [*messages, Closed(3000, "r", is_fault=False)]
    assert answer.endswith(b"\x88\x03\x0b\xb8r")
    assert not session.is_open


@pytest.mark.parametrize(("text", "fits"), [("x" * 10, True), ("é" * 5, True), ("é" * 6, False)])
def test_the_limit_counts_bytes(text: str, fits: bool) -> None:
    client = Connection(ConnectionType.CLIENT)
    received, _ = WebSocketSession(max_size=10).receive(client.send(TextMessage(data=text)))
    if fits:
        assert received == [text]
    else:
        assert received == [Closed(1009, "the message is too big", is_fault=True)]


def test_the_limit_holds_while_a_frame_is_still_arriving() -> None:
    client = Connection(ConnectionType.CLIENT)
    session = WebSocketSession(max_size=100)
    data = client.send(BytesMessage(data=bytes(1_000_000)))
    received, answer = session.receive(data[:200])
    assert received == [Closed(1009, "the message is too big", is_fault=True)]
    assert answer[:4] == b"\x88\x18\x03\xf1"
    assert session.receive(data[200:]) == ([], b"")


def test_the_closing_handshake_from_our_side() -> None:
    client = Connection(ConnectionType.CLIENT)
    session = WebSocketSession(max_size=100)
    assert session.close(1012) == b"\x88\x02\x03\xf4"
    assert session.close(1012) == b""
    assert not session.is_open
    late = client.send(TextMessage(data="late"))
    received, answer = session.receive(late + client.send(CLOSE))
    assert received == ["late", Closed(3000, "r", is_fault=False)]
    assert answer == b""


def test_pings_and_pongs() -> None:
    client = Connection(ConnectionType.CLIENT)
    session = WebSocketSession(max_size=100)
    client.receive_data(session.ping(b"abcd"))
    (ping,) = client.events()
    assert isinstance(ping, Ping)
    assert session.receive(client.send(ping.response())) == ([PongReceived(b"abcd")], b"")


@pytest.mark.parametrize(
    ("code", "sendable"),
    [(1000, True), (1012, True), (1014, True), (3000, True), (4999, True)]
    + [(code, False) for code in (0, 999, 1004, 1005, 1006, 1015, 2000, 5000)],
)
def test_only_codes_of_the_registry_are_sent(code: int, sendable: bool) -> None:
    assert is_sendable_code(code) is sendable
