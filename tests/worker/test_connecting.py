"""From a connected socket to its connection object, without a task."""

import asyncio
import os
import socket

import pytest

from asgireload.worker.connecting import BareSocket, Connecting, takes_bare_sockets, wait_ended


class Noting(asyncio.Protocol):
    """Notes what the loop calls."""

    def __init__(self):
        self.calls = []
        self.transport = None
        self.is_lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data):
        self.calls.append(data)
        self.transport.write(data.upper())

    def connection_lost(self, error):
        self.calls.append("lost")
        self.is_lost.set_result(error)


class Pair:
    """A connection over loopback, and how the way of its accepted end went."""

    def __init__(self, family=socket.AF_INET):
        if family == socket.AF_UNIX:
            self.client, self.accepted = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.client = socket.create_connection(listener.getsockname())
                self.accepted, _ = listener.accept()
        self.accepted.setblocking(False)
        self.client.setblocking(False)
        self.connecting = set()
        self.ended = []

    def bare(self):
        """Return what the loop can do with; asyncio's cannot do without a socket object."""
        if not takes_bare_sockets(asyncio.get_running_loop()):
            return None
        family, kind = int(self.accepted.family), int(self.accepted.type)
        return BareSocket(self.accepted.detach(), family, kind)

    def connect(self, make_protocol, connected=None):
        loop = asyncio.get_running_loop()
        way = Connecting(loop, make_protocol, connected or self.accepted, self.on_ended)
        self.connecting.add(way)
        way.begin()
        return way

    def on_ended(self, connecting, error):
        self.connecting.discard(connecting)
        self.ended.append(error)

    async def close(self):
        self.client.close()
        self.accepted.close()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize("is_bare", [False, True])
def test_bytes_go_both_ways_and_the_descriptor_is_closed_once(run, family, is_bare):
    async def main():
        loop = asyncio.get_running_loop()
        first = Pair()
        first.connect(Noting).cancel()
        await wait_ended(first.connecting)
        await first.close()
        before = descriptors()  # uvloop keeps one more from the first transport on
        pair = Pair(family)
        protocol = Noting()
        pair.connect(lambda: protocol, pair.bare() if is_bare else None)
        assert pair.ended == []
        async with asyncio.timeout(5):
            await wait_ended(pair.connecting)
            assert pair.ended == [None]
            await loop.sock_sendall(pair.client, b"hello")
            assert await loop.sock_recv(pair.client, 100) == b"HELLO"
            protocol.transport.close()
            await protocol.is_lost
            assert await loop.sock_recv(pair.client, 100) == b""
        assert protocol.calls == ["made", b"hello", "lost"]
        pair.client.close()
        await asyncio.sleep(0)  # the loop closes a descriptor in the turn behind
        assert descriptors() == before

    run(main())


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_protocol_that_cannot_be_made_closes_the_socket_and_is_told(run, is_bare):
    async def main():
        pair = Pair()
        pair.connect(lambda: 1 / 0, pair.bare() if is_bare else None)
        assert [type(error) for error in pair.ended] == [ZeroDivisionError]
        assert not pair.connecting
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(pair.client, 1) == b""
        await pair.close()

    run(main())


def test_one_that_is_cancelled_on_its_way_is_closed(run):
    async def main():
        pair = Pair()
        protocol = Noting()
        pair.connect(lambda: protocol).cancel()
        async with asyncio.timeout(5):
            await wait_ended(pair.connecting)
            assert [type(error) for error in pair.ended] == [asyncio.CancelledError]
            assert await asyncio.get_running_loop().sock_recv(pair.client, 1) == b""
        await pair.close()

    run(main())


def test_a_transport_that_ends_in_connection_made_ends_the_way(run):
    async def main():
        pair = Pair()

        class Leaving(Noting):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.abort()

        protocol = Leaving()
        pair.connect(lambda: protocol)
        async with asyncio.timeout(5):
            await wait_ended(pair.connecting)
            await protocol.is_lost
        assert protocol.calls == ["made", "lost"]
        await pair.close()

    run(main())


def test_a_loop_that_needs_more_steps_or_none_gets_them(run):
    """Nothing is known of other loops than that their method is a coroutine."""

    class Loop:
        def __init__(self, waits):
            self.waits = waits

        async def connect_accepted_socket(self, make_protocol, sock):
            for _ in range(self.waits):
                await asyncio.sleep(0.001)
            return None, make_protocol()

    async def main():
        for waits in (0, 1, 3):
            ended = []
            way = Connecting(
                Loop(waits), Noting, None, lambda _, error, ended=ended: ended.append(error)
            )
            way.begin()
            async with asyncio.timeout(5):
                while not ended:
                    await asyncio.wait([way.waiter])
            assert ended == [None]

    run(main())
