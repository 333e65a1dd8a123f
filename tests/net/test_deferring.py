"""Connections that the kernel keeps until their first bytes are there."""

import asyncio
import socket
import time

import pytest

from asgireload.config import Config
from asgireload.net import deferring
from asgireload.net.deferring import (
    defer,
    fixed_address,
    has_opening,
    holds_back,
    is_deferred,
    stop_deferring,
)
from asgireload.net.listeners import open_listeners

TABLE = b"""\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1
   1: 0100007F:1F90 0100007F:8D2E %b 00000000:00000000 01:00000063 00000000     0        0 0 2
   2: 0100007F:1F91 0100007F:1F90 03 00000000:00000000 01:00000063 00000000     0        0 0 2
"""


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        defer(sock)
        yield sock


def accept(sock, patience=5.0):
    """Return the next connection, which may have to be waited for."""
    until = time.monotonic() + patience
    while True:
        try:
            return sock.accept()[0]
        except BlockingIOError:
            assert time.monotonic() < until
            time.sleep(0.001)


def test_a_connection_comes_with_its_first_bytes(listening):
    assert is_deferred(listening)
    with socket.create_connection(listening.getsockname()) as client:
        with pytest.raises(BlockingIOError):
            listening.accept()
        client.sendall(b"GET")
        with accept(listening) as accepted:
            assert accepted.recv(10, socket.MSG_DONTWAIT) == b"GET"


def test_a_client_that_says_nothing_is_handed_on_in_the_end(listening):
    """Or its timeout would never begin."""
    with socket.create_connection(listening.getsockname()), accept(listening) as accepted:
        with pytest.raises(BlockingIOError):
            accepted.recv(1, socket.MSG_DONTWAIT)


def test_a_client_that_closes_without_a_word_is_handed_on(listening):
    socket.create_connection(listening.getsockname()).close()
    with accept(listening) as accepted:
        assert accepted.recv(1) == b""


def test_afterwards_nothing_is_held_back_any_more(listening):
    port = listening.getsockname()[1]
    assert not holds_back([port])
    with socket.create_connection(listening.getsockname()) as early:
        assert holds_back([port])
        assert not holds_back([1])
        stop_deferring(listening)
        assert not is_deferred(listening)
        with socket.create_connection(listening.getsockname()), accept(listening) as late:
            assert late.getpeername() != early.getsockname()
        # Who was held back is open to the client, and comes with its bytes, or by itself.
        early.sendall(b"GET")
        with accept(listening) as accepted:
            assert accepted.recv(10) == b"GET"
        assert not holds_back([port])


@pytest.mark.parametrize(
    ("state", "ports", "found"),
    [
        (b"03", [8080], True),
        (b"03", [1, 8080], True),
        (b"01", [8080], False),  # the other end of a connection is on that port, too
        (b"03", [80], False),
        (b"03", [], False),
    ],
)
def test_openings_are_found_in_the_table_of_the_kernel(state, ports, found):
    assert has_opening((TABLE % state).splitlines(), ports) is found


def test_without_the_tables_nothing_is_known_to_be_held_back(monkeypatch, tmp_path, listening):
    monkeypatch.setattr(deferring, "_TABLES", (tmp_path / "tcp",))
    with socket.create_connection(listening.getsockname()):
        assert not holds_back([listening.getsockname()[1]])


def test_where_the_kernel_cannot_nothing_is_deferred(monkeypatch):
    monkeypatch.setattr(deferring, "_OPTION", None)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        defer(sock)
        stop_deferring(sock)
        assert not is_deferred(sock)
        with socket.create_connection(sock.getsockname()):
            sock.accept()[0].close()


def test_unix_sockets_are_not_deferred(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        assert not is_deferred(sock)
        assert fixed_address(sock) is None


@pytest.mark.parametrize(
    ("family", "host", "is_fixed"),
    [
        (socket.AF_INET, "127.0.0.1", True),
        (socket.AF_INET, "0.0.0.0", False),
        (socket.AF_INET6, "::1", True),
        (socket.AF_INET6, "::", False),
    ],
)
def test_an_address_is_fixed_unless_it_stands_for_many(family, host, is_fixed):
    with socket.create_server((host, 0), family=family) as sock:
        assert fixed_address(sock) == (sock.getsockname() if is_fixed else None)


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_transparent_socket_takes_connections_meant_for_others(family, host):
    with socket.create_server((host, 0), family=family) as sock:
        level, option = (0, 19) if family == socket.AF_INET else (41, 75)
        try:
            sock.setsockopt(level, option, 1)
        except PermissionError:
            pytest.skip("needs CAP_NET_ADMIN")
        assert fixed_address(sock) is None


@pytest.mark.parametrize("accept", ["shared", "per-slot"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, True), ({"defer_accept": False}, False)],
)
def test_listeners_defer_unless_told_otherwise(accept, options, expected):
    listeners = open_listeners(Config(port=0, workers=2, accept=accept, **options))
    try:
        for slot in range(2):
            assert [is_deferred(sock) for sock in listeners.sockets_for(slot)] == [expected]
    finally:
        listeners.close()


def test_an_inherited_socket_is_left_as_it_is():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listeners = open_listeners(Config(fd=sock.dup().detach()))
        try:
            assert not is_deferred(listeners.sockets_for(0)[0])
        finally:
            listeners.close()


def test_a_loop_can_serve_what_was_deferred(run, listening):
    async def main():
        loop = asyncio.get_running_loop()
        _, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"hello")
        accepted, _ = await loop.sock_accept(listening)
        with accepted:
            assert await loop.sock_recv(accepted, 10) == b"hello"
        writer.close()

    run(main())
