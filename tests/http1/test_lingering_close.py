"""The close of a TLS connection, over values and one real socket; that of a plain one is on the wire in
test_connection.py."""

import socket

import pytest

from asgireload.http1.lingering_close import LINGER_SECONDS, STALLED_SECONDS, LingeringClose


class Loop:
    """A clock that is turned by hand, with one timer."""

    def __init__(self):
        self.now = 0.0
        self.due = None
        self.callback = None

    def time(self):
        return self.now

    def call_later(self, delay, callback):
        self.due, self.callback = self.now + delay, callback
        return self

    def cancel(self):
        self.callback = None

    def turn(self):
        self.now = self.due
        callback, self.callback = self.callback, None
        callback()


class TlsTransport:
    """Closes at once, hides what lies below TLS, and notes how it ended."""

    def __init__(self, sock):
        self.sock = sock
        self.ended = []
        self.unsent = 0

    def is_closing(self):
        return bool(self.ended)

    def can_write_eof(self):
        return False

    def close(self):
        self.ended.append("close")

    def abort(self):
        self.ended.append("abort")

    def get_write_buffer_size(self):
        return self.unsent

    def get_extra_info(self, name):
        return self.sock if name == "socket" else None


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def fill(sock):
    """Write until the kernel takes no more; return how much it holds."""
    size = 0
    while True:
        try:
            size += sock.send(b"x" * 65536)
        except BlockingIOError:
            return size


def test_a_peer_that_has_taken_everything_is_given_a_second(pair):
    loop, transport = Loop(), TlsTransport(pair[0])
    LingeringClose(transport, loop).begin()
    assert (transport.ended, loop.due) == (["close"], LINGER_SECONDS)
    loop.turn()
    assert transport.ended == ["close", "abort"]


def test_what_the_kernel_still_holds_is_waited_for(pair):
    """The buffers below TLS cannot be seen, but they are empty when the kernel's is."""
    ours, theirs = pair
    loop, transport = Loop(), TlsTransport(ours)
    size = fill(ours)
    LingeringClose(transport, loop).begin()
    for _ in range(3):
        loop.turn()
    assert transport.ended == ["close"]
    while size:
        size -= len(theirs.recv(65536))
    loop.turn()
    loop.turn()
    assert transport.ended == ["close", "abort"]


def test_a_peer_that_takes_nothing_is_given_up(pair):
    loop, transport = Loop(), TlsTransport(pair[0])
    fill(pair[0])
    LingeringClose(transport, loop).begin()
    while transport.ended == ["close"]:
        loop.turn()
    assert STALLED_SECONDS <= loop.now <= STALLED_SECONDS + LINGER_SECONDS


def test_a_socket_that_is_gone_holds_nothing(pair):
    loop, transport = Loop(), TlsTransport(pair[0])
    pair[0].close()
    LingeringClose(transport, loop).begin()
    loop.turn()
    assert transport.ended == ["close", "abort"]
