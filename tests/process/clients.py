"""Clients of every kind that go on until told to stop, and count what happens to them.

They speak HTTP/1.1 by hand over asyncio streams, so that a lost byte, a reset or an early close cannot
be hidden by a library that retries.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import websockets.asyncio.client
import websockets.exceptions


@dataclass
class Tally:
    """What one kind of client has seen."""

    done: int = 0
    lost: list[str] = field(default_factory=list)
    longest: float = 0.0
    """Seconds of the slowest exchange beyond its own length."""
    reconnects: int = 0
    refused: int = 0
    """WebSocket handshakes answered with 503."""
    codes: Counter = field(default_factory=Counter)
    versions: list[tuple[float, int]] = field(default_factory=list)
    """When the connection was opened, and the version that answered."""


class BrokenAnswerError(Exception):
    """The server ended an exchange it should have finished."""


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.is_open = True

    @classmethod
    async def open(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def request(self, path, body=b"", chunks=()):
        """Return the body of the answer. Raise BrokenAnswerError or OSError when it is not whole."""
        method = "POST" if body or chunks else "GET"
        length = (
            f"content-length: {len(body) or sum(map(len, chunks))}\r\n" if method == "POST" else ""
        )
        self.writer.write(f"{method} {path} HTTP/1.1\r\nhost: test\r\n{length}\r\n".encode() + body)
        for chunk in chunks:
            self.writer.write(chunk)
            await self.writer.drain()
            await asyncio.sleep(0.02)
        return await self.answer()

    async def answer(self):
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        except asyncio.IncompleteReadError as error:
            raise BrokenAnswerError(f"no head, {len(error.partial)} bytes") from error
        if not head.startswith(b"http/1.1 200"):
            raise BrokenAnswerError(head.split(b"\r\n")[0].decode())
        try:
            if b"transfer-encoding: chunked" in head:
                body = await self._chunked()
            else:
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                body = await self.reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise BrokenAnswerError("truncated body") from error
        if b"connection: close" in head:
            self.close()
        return body

    async def _chunked(self):
        body = b""
        while True:
            size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
            body += (await self.reader.readexactly(size + 2))[:-2]
            if size == 0:
                return body

    def was_closed(self):
        """True when the server has closed while nothing was asked: a client sees that and reconnects."""
        return self.reader.at_eof()

    def close(self):
        self.is_open = False
        self.writer.close()


class Load:
    """All kinds of clients against one port, until `stop()`."""

    def __init__(self, port):
        self.port = port
        self.tallies: dict[str, Tally] = {}
        self._stopping = False
        self._tasks = []

    def start(self):
        kinds = {
            "keep-alive": (self._kept, 3),
            "idle keep-alive": (self._idle, 3),
            "new connection": (self._new, 1),
            "pipelined": (self._pipelined, 1),
            "slow": (self._slow, 2),
            "upload": (self._upload, 2),
            "stream": (self._stream, 2),
            "sse": (self._sse, 2),
            "websocket": (self._websocket, 3),
        }
        for name, (client, count) in kinds.items():
            tally = self.tallies[name] = Tally()
            for _ in range(count):
                self._tasks.append(asyncio.create_task(client(tally)))

    async def stop(self):
        self._stopping = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 30)

    async def _exchange(self, tally, exchange, expected=0.0):
        started = time.monotonic()
        try:
            result = await asyncio.wait_for(exchange, 15)
        except (OSError, BrokenAnswerError, TimeoutError) as error:
            tally.lost.append(f"{type(error).__name__}: {error}")
            return None
        tally.done += 1
        tally.longest = max(tally.longest, time.monotonic() - started - expected)
        return result

    async def _repeat(self, tally, path, *, expected=0.0, pause=0.0, check=None, **body):
        connection = None
        while not self._stopping:
            if connection is None or not connection.is_open or connection.was_closed():
                if connection is not None:
                    tally.reconnects += 1
                    connection.close()
                connection = await self._exchange(tally, Connection.open(self.port))
                if connection is None:
                    continue
            result = await self._exchange(tally, connection.request(path, **body), expected)
            if result is None:
                connection.close()
            elif check is not None and not check(result):
                tally.lost.append(f"wrong answer: {result[:100]!r}")
            await asyncio.sleep(pause)
        if connection is not None:
            connection.close()

    async def _kept(self, tally):
        await self._repeat(tally, "/", pause=0.001)

    async def _idle(self, tally):
        await self._repeat(tally, "/", pause=0.7)

    async def _new(self, tally):
        while not self._stopping:
            opened = time.monotonic()
            connection = await self._exchange(tally, Connection.open(self.port))
            if connection is None:
                continue
            body = await self._exchange(tally, connection.request("/"))
            if body is not None:
                tally.versions.append((opened, int(body.split()[0])))
            connection.close()
            await asyncio.sleep(0.003)

    async def _pipelined(self, tally):
        while not self._stopping:
            connection = await self._exchange(tally, Connection.open(self.port))
            if connection is None:
                continue
            connection.writer.write(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n" * 5)
            for _ in range(5):
                await self._exchange(tally, connection.answer())
            connection.close()
            await asyncio.sleep(0.01)

    async def _slow(self, tally):
        await self._repeat(tally, "/slow", expected=0.5)

    async def _upload(self, tally):
        chunks = [b"x" * 16384] * 20
        await self._repeat(
            tally, "/upload", expected=0.4, chunks=chunks, check=lambda body: body == b"327680"
        )

    async def _stream(self, tally):
        whole = b"".join(b"%02d" % number for number in range(20))
        await self._repeat(tally, "/stream", expected=0.8, check=lambda body: body == whole)

    async def _sse(self, tally):
        """Each stream lasts until a reload; it must end with a last event and the final chunk."""
        while not self._stopping:
            connection = await self._exchange(tally, Connection.open(self.port))
            if connection is None:
                continue
            asked = asyncio.create_task(connection.request("/events"))
            while not asked.done() and not self._stopping:
                await asyncio.wait([asked], timeout=0.1)
            if not asked.done():
                asked.cancel()
                await asyncio.wait([asked])
            elif (error := asked.exception()) is not None:
                tally.lost.append(repr(error))
            else:
                tally.done += 1
                tally.reconnects += 1
                if not asked.result().endswith(b"retry: 50\n\n"):
                    tally.lost.append("no last event")
            connection.close()

    async def _websocket(self, tally):
        while not self._stopping:
            try:
                async with websockets.asyncio.client.connect(
                    f"ws://127.0.0.1:{self.port}/ws", close_timeout=2
                ) as client:
                    await self._talk(tally, client)
            except websockets.exceptions.ConnectionClosed as error:
                received = error.rcvd
                tally.codes[received.code if received is not None else 1006] += 1
                tally.reconnects += 1
            except websockets.exceptions.InvalidStatus as error:
                # A handshake that meets a worker in the moment it begins to drain is answered, not cut.
                if error.response.status_code != 503:
                    tally.lost.append(repr(error))
                tally.refused += 1
            except (OSError, websockets.exceptions.InvalidHandshake) as error:
                tally.lost.append(repr(error))

    async def _talk(self, tally, client):
        while not self._stopping:
            started = time.monotonic()
            await client.send("hello")
            await asyncio.wait_for(client.recv(), 15)
            tally.done += 1
            tally.longest = max(tally.longest, time.monotonic() - started)
            await asyncio.sleep(0.02)
