"""The acceptor on plain addresses: PROXY headers first, and only as many connections as there is room for."""

import asyncio
import socket
from functools import partial

import pytest

from asgireload.http import live
from asgireload.http1.connection import http_protocol
from asgireload.ipc.scoreboard import Field, Limit
from asgireload.net.addresses import ListenerTraits
from asgireload.net.networks import TrustedNetworks
from asgireload.worker.acceptor import Acceptor, Entrance
from asgireload.worker.proxy_header import ProxyHeaderReader
from tests.http.server import Client
from tests.wired import Wired, make_wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n"


class Served(Wired):
    """An acceptor with its own listening socket, and clients of it."""

    def __init__(self, app, *, proxy=False, timeout=5.0, **settings):
        loop = asyncio.get_running_loop()
        self.wire = make_wire(app, **settings)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        record = self.live.record
        self.acceptor = Acceptor(
            loop,
            [Entrance(self.listener, ListenerTraits(proxy=proxy))],
            partial(http_protocol, self.wire),
            record=record,
            handshake_timeout=timeout,
            proxy_headers=ProxyHeaderReader(loop, TrustedNetworks.parse("127.0.0.1"), record),
            has_room=self.live.has_room,
        )
        self.live.on_room = self.acceptor.note_room
        self.acceptor.start()
        self.clients = []

    async def connect(self):
        client = Client(*await asyncio.open_connection(*self.listener.getsockname()))
        self.clients.append(client)
        return client

    def count(self, limit):
        return self.live.record.values[Field.LIMIT_0 + limit]

    async def close(self):
        self.acceptor.stop()
        self.acceptor.abandon()
        for client in self.clients:
            await client.close()
        for connection in tuple(self.live.connections):
            connection.abort()
        async with asyncio.timeout(5):
            await self.acceptor.wait_adopted(0)
            await self.live.wait_idle()
        self.listener.close()


async def who(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    body = f"{scope['client']} {scope['server']}".encode()
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("pieces", [[HEADER + GET], [HEADER[:10], HEADER[10:], GET]])
def test_a_proxy_header_comes_before_the_request(run, pieces):
    async def main():
        served = Served(who, proxy=True)
        try:
            client = await served.connect()
            for piece in pieces:
                client.send(piece)
                await asyncio.sleep(0.01)
            _, _, body = await client.read_response()
            assert body == b"('192.0.2.1', 4711) ('198.51.100.2', 443)"
            client.send(GET)  # once for a connection, not for each request
            assert (await client.read_response())[2] == body
        finally:
            await served.close()

    run(main())


@pytest.mark.parametrize(
    ("first", "limit"), [(GET, Limit.HANDSHAKE_FAILED), (b"PROXY TC", Limit.HANDSHAKE_TIMEOUT)]
)
def test_who_owes_a_proxy_header_is_closed(run, first, limit):
    async def main():
        served = Served(who, proxy=True, timeout=0.1)
        try:
            client = await served.connect()
            client.send(first)
            try:
                assert await client.read_all() == b""
            except ConnectionResetError:
                pass  # what it sent was not read
            assert served.count(limit) == 1
        finally:
            await served.close()

    run(main())


def test_connections_wait_to_be_accepted_when_there_is_no_room(run):
    release = asyncio.Event()

    async def app(scope, receive, send):
        await release.wait()
        await who(scope, receive, send)

    async def main():
        served = Served(app, limit_connections=3)
        try:
            clients = [await served.connect() for _ in range(6)]
            for client in clients:
                client.send(GET)
            async with asyncio.timeout(5):
                while not served.count(Limit.CONNECTIONS):  # noqa: ASYNC110 - has no event
                    await asyncio.sleep(0.001)
            assert len(served.live.connections) == 3
            assert served.count(Limit.CONNECTIONS) >= 1
            release.set()
            for client in clients:
                assert (await client.read_response())[0] == 200
            assert len(served.live.connections) <= 4
        finally:
            await served.close()

    run(main())


def test_idle_connections_make_way_for_new_ones(run, monkeypatch):
    monkeypatch.setattr(live, "ROOM_IDLE_SECONDS", 0.0)

    async def main():
        served = Served(who, limit_connections=3, keep_alive_timeout=60)
        try:
            for _ in range(12):
                client = await served.connect()
                client.send(GET)
                assert (await client.read_response())[0] == 200
            assert len(served.live.connections) <= 4
            assert await served.clients[0].read_all() == b""
        finally:
            await served.close()

    run(main())
