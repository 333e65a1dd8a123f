"""A real server on loopback for one test, and a client that speaks bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from asgireload.asgi import ASGIApp
from asgireload.config import Config
from asgireload.http.access_log import open_access_log
from asgireload.http.request_id import RequestIds
from asgireload.http1.connection import http_protocol
from asgireload.http1.wire import Http1Wire
from asgireload.http1.write_scheduling import TurnScheduler
from asgireload.ipc.scoreboard import Field
from asgireload.log import Place
from asgireload.net.deferring import defer
from asgireload.worker.acceptor import Acceptor, Entrance
from asgireload.worker.inline_serving import InlineServing
from tests.wired import Wired, make_wire


class Client:
    """A connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_until(self, mark: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(mark), 5)

    async def read_response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of one response framed by Content-Length or chunks."""
        head = await self.read_until(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = b""
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int((await self.read_until(b"\r\n")), 16):
                body += await self.reader.readexactly(size)
                await self.read_until(b"\r\n")
            await self.read_until(b"\r\n")
        return int(lines[0].split()[1]), headers, body

    async def read_all(self) -> bytes:
        """Return everything up to the end of the stream; raise ConnectionResetError on a reset."""
        return await asyncio.wait_for(self.reader.read(), 5)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass  # a reset is what some tests provoke


class Server(Wired):
    def __init__(self, wire: Http1Wire, port: int) -> None:
        self.wire = wire
        self.port = port
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes on a new connection and return everything the server sends until it closes."""
        client = await self.connect()
        client.send(data)
        return await client.read_all()

    def count(self, field: Field) -> int:
        return self.live.record.values[field]

    async def wait_until(self, condition: Any) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - what is awaited has no event to wait for
                await asyncio.sleep(0.001)

    async def wait_connected(self, count: int = 1) -> None:
        await self.wait_until(lambda: len(self.live.connections) >= count)


serves_directly = False
"""Accept as a worker does, and connections with their first bytes; set by the fixture `way`."""
ws_session = "builtin"
"""Who reads and writes the frames of WebSockets; set by the fixture `parser` of their suites."""


class Listening:
    """The loop's own server."""

    def __init__(self, wire: Http1Wire) -> None:
        self._wire = wire

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: http_protocol(self._wire), "127.0.0.1", 0
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._server.close()


class Accepting:
    """What a worker has in place of that."""

    def __init__(self, wire: Http1Wire) -> None:
        loop = wire.server.clock.loop
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        defer(self._socket)
        self.port = self._socket.getsockname()[1]
        self._acceptor = Acceptor(
            loop,
            [Entrance(self._socket)],
            partial(http_protocol, wire),
            record=wire.server.live.record,
            handshake_timeout=5.0,
            inline=InlineServing(wire),
        )

    async def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        self._acceptor.stop()
        self._acceptor.abandon()
        self._socket.close()


@asynccontextmanager
async def serving(app: ASGIApp, parser: str = "h11", **options: Any) -> AsyncIterator[Server]:
    """Serve `app` until the block ends; then check that no connection, task or count is left over."""
    log_options = {
        name: options.pop(name)
        for name in ("access_log", "access_log_format", "log_slow_requests", "request_id_header")
        if name in options
    }
    config = msgspec.structs.replace(Config(), **log_options)
    options.setdefault("sendfile", True)
    options.setdefault("ws_session", ws_session)
    options.setdefault("websocket", True)
    wire = make_wire(
        app,
        parser=parser,
        access_log=open_access_log(config, Place("worker", 0, 1)),
        request_ids=RequestIds(config.request_id_header) if config.request_id_header else None,
        **options,
    )
    # As after its first responses, in which none had to wait.
    clock, live = wire.server.clock, wire.server.live
    wire.turn = TurnScheduler(clock.loop, lambda: clock.now_ns(), at_once=0)
    listener = (Accepting if serves_directly else Listening)(wire)
    await listener.start()
    server = Server(wire, listener.port)
    try:
        yield server
    finally:
        for client in server.clients:
            await client.close()
        live.cancel_background()
        for connection in tuple(live.connections):
            connection.abort()
        listener.close()
        async with asyncio.timeout(5):
            await live.wait_idle()
    assert server.count(Field.CONNECTIONS) == 0
    assert server.count(Field.EXCHANGES) == 0
    assert server.count(Field.WEBSOCKETS) == 0
