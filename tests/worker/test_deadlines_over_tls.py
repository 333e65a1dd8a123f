"""The deadlines of a connection hold behind a handshake, too: a certificate makes no client polite."""

import asyncio

import pytest

from asgireload.errors import ClientDisconnectedError
from asgireload.http.settings import HttpSettings
from asgireload.ipc.scoreboard import Limit
from tests.worker.test_acceptor_tls import AUTHORITY, GET, answering, close, read_response, serving

HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n"


@pytest.fixture
def files(tmp_path):
    AUTHORITY.issue(tmp_path, "a", "localhost", "127.0.0.1")
    return tmp_path


@pytest.mark.parametrize(
    ("first", "reply", "limit"),
    [
        (b"", b"", Limit.HEAD_TIMEOUT),
        (b"GET / HTTP/1.1\r\nx: ", b"HTTP/1.1 408 ", Limit.HEAD_TIMEOUT),
        (HEAD + b"ab", b"HTTP/1.1 408 ", Limit.BODY_TIMEOUT),
    ],
)
def test_a_client_that_pauses_is_cut(run, files, first, reply, limit):
    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    async def scenario():
        settings = HttpSettings(
            # Time enough to be in the right state, however busy the machine is.
            head_timeout=5.0 if limit is Limit.BODY_TIMEOUT else 0.5,
            body_timeout=0.2,
        )
        async with serving(app, files, settings=settings) as server:
            reader, writer = await server.connect()
            if first:
                writer.write(first)
            assert (await asyncio.wait_for(reader.read(), 5))[: len(reply)] == reply
            assert server.count(limit) == 1
            await close(writer)

    run(scenario())


def test_an_idle_connection_is_closed(run, files):
    async def scenario():
        settings = HttpSettings(keep_alive_timeout=0.2)
        async with serving(answering(lambda scope: 1), files, settings=settings) as server:
            reader, writer = await server.connect()
            writer.write(GET)
            await read_response(reader)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            assert server.count(Limit.KEEP_ALIVE_TIMEOUT) == 1
            await close(writer)

    run(scenario())


def test_a_client_that_does_not_read_is_dropped(run, files):
    raised = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                piece = {"type": "http.response.body", "body": bytes(100_000), "more_body": True}
                await send(piece)
        except OSError as error:
            raised.append(type(error))
            raise

    async def scenario():
        raised.clear()
        settings = HttpSettings(write_timeout=0.3)
        async with serving(app, files, settings=settings) as server:
            _, writer = await server.connect()
            writer.transport.pause_reading()
            writer.write(GET)
            await server.wait_until(lambda: raised)
            assert raised == [ClientDisconnectedError]
            await server.wait_until(lambda: not server.live.connections)
            assert server.count(Limit.WRITE_TIMEOUT) == 1
            writer.transport.abort()

    run(scenario())
