"""The bytes of the WebSocket client, checked against wsproto."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from benchmarks.common.frames import BINARY, TEXT, masked_frame, payload_of, whole_frames


def server(*extensions):
    return Connection(ConnectionType.SERVER, list(extensions))


@pytest.mark.parametrize("size", [0, 1, 64, 125, 126, 4096, 65535, 65536])
def test_a_masked_frame_is_one_whole_message(size):
    peer = server()
    peer.receive_data(masked_frame(payload_of(size), TEXT))
    data, finished = "", False
    for event in peer.events():
        assert isinstance(event, TextMessage)
        data, finished = data + event.data, event.message_finished
    assert (data.encode(), finished) == (payload_of(size), True)


def test_a_deflated_frame_can_be_sent_again_and_again():
    extension = PerMessageDeflate()
    extension.accept("permessage-deflate")
    peer = server(extension)
    frame = masked_frame(payload_of(4096), BINARY, deflated=True)
    assert len(frame) < 4096
    for _ in range(3):
        peer.receive_data(frame)
        assert b"".join(bytes(event.data) for event in peer.events()) == payload_of(4096)


@given(st.lists(st.integers(0, 70_000), max_size=4), st.integers(0, 300))
def test_whole_frames_are_counted_and_the_rest_is_left(sizes, more):
    peer = server()
    whole = b"".join(peer.send(BytesMessage(b"x" * size)) for size in sizes)
    rest = peer.send(BytesMessage(b"x" * (more + 1)))[:-1]
    assert whole_frames(whole + rest) == (len(sizes), len(whole))


def test_a_ping_is_no_message():
    ping = server().send(Ping(b"there?"))
    assert whole_frames(ping) == (0, len(ping))


def test_a_close_or_a_masked_frame_ends_the_run():
    with pytest.raises(ValueError, match="closed the WebSocket with code 1007"):
        whole_frames(server().send(CloseConnection(1007)))
    with pytest.raises(ValueError, match="masks"):
        whole_frames(masked_frame(b"abc", TEXT))


@given(st.binary(max_size=400))
def test_no_bytes_make_the_count_fail_otherwise(data):
    try:
        messages, taken = whole_frames(data)
    except ValueError:
        return
    assert 0 <= taken <= len(data)
    assert messages <= taken
