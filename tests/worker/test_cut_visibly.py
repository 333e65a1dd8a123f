"""What a client that reads slowly sees of a body that only the close ends, when it is cut short."""

import asyncio
from typing import Any

import pytest

from asgireload.draining import DrainReason
from asgireload.ipc.scoreboard import Field
from asgireload.worker.drain import drain
from tests.process.sse import End, SseClient
from tests.worker.test_handover import wait_until, workers
from tests.worker.test_stream_handover import acceptor_of, streaming


async def fast(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 30_000, "more_body": True})


@pytest.mark.parametrize("reason", [DrainReason.RELOAD, DrainReason.STOP])
def test_a_download_that_is_cut_is_seen_as_cut_by_a_slow_client(run: Any, reason: Any) -> None:
    async def scenario() -> None:
        async with streaming(fast, fast) as (pair, client):
            client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            await client.wait_head()
            client.pause()
            await asyncio.sleep(0.3)
            await drain(pair.old.served, acceptor_of(pair), pair.old.handover, reason, 1.0)
            sent = pair.old.count(Field.BYTES_SENT_TOTAL)
            await asyncio.sleep(0.2)
            client.resume()
            end = await client.wait_end()
            print(end, len(client.body), sent, client.lost_with)
            assert end is End.RESET

    run(scenario())


def test_a_download_whose_client_stalls_is_seen_as_cut(run: Any) -> None:
    async def scenario() -> None:
        async with workers(write_timeout=0.5) as pair:
            pair.old.served.app = fast
            client = await SseClient.open(pair.address)
            client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            await client.wait_head()
            client.pause()
            await wait_until(lambda: not pair.old.live.connections)
            client.resume()
            end = await client.wait_end()
            print(end, len(client.body), client.lost_with)
            assert end is End.RESET

    run(scenario())
