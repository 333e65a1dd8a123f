"""Streams whose application listens to the drain notice and says goodbye: what their clients see."""

import asyncio

import pytest

from tests.process.sse import End, SseClient
from tests.process.streams.serving import StreamServer, values

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


async def listening(server, path):
    client = await SseClient.open(server.port)
    await client.ask(path)
    await client.wait_events(3)
    return client


def test_without_ids_the_goodbye_comes_and_its_delay_and_then_a_proper_end(tmp_path):
    async def scenario(server):
        clients = [await listening(server, "/plain") for _ in range(4)]
        await asyncio.to_thread(server.reload)
        for client in clients:
            assert await client.wait_end() is End.TERMINATED
            assert client.is_at_boundary
            assert [event.type for event in client.events].count("goodbye") == 1
            assert client.events[-1].type == "goodbye"
            assert client.parser.retry_ms == 100
            client.close()

    with StreamServer(tmp_path, "goodbye_app") as server:
        asyncio.run(scenario(server))
        server.assert_quiet()


def test_with_ids_a_stream_moves_before_its_goodbye(tmp_path):
    """To the old call the client has left, so what it says last is not sent."""

    async def scenario(server):
        clients = [await listening(server, "/ids") for _ in range(4)]
        server.release(2)
        await asyncio.to_thread(server.reload)
        for client in clients:
            async with asyncio.timeout(10):
                while values(client.events)[-1][1] != 2:
                    await client.next_event()
            assert client.end is None
            assert {event.type for event in client.events} == {"message"}
            client.close()

    with StreamServer(tmp_path, "goodbye_app") as server:
        asyncio.run(scenario(server))
        server.assert_quiet()


def test_at_a_stop_both_get_the_goodbye(tmp_path):
    async def scenario(server):
        clients = [await listening(server, path) for path in ("/ids", "/plain")]
        assert await asyncio.to_thread(server.stop) == 0
        for client in clients:
            assert await client.wait_end() is End.TERMINATED
            assert client.events[-1].type == "goodbye"

    with StreamServer(tmp_path, "goodbye_app") as server:
        asyncio.run(scenario(server))
