"""The keep-alive timeout begins when the response is delivered."""

import asyncio
from typing import Any

from asgireload.ipc.scoreboard import Limit
from tests.http.server import serving
from tests.http.test_exchange import GET, OK
from tests.http1.test_limits import hits


def test_the_keep_alive_timeout_begins_when_the_response_was_taken(run: Any) -> None:
    body = b"x" * 20_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        async with serving(app, "builtin", keep_alive_timeout=0.8) as server:
            client = await server.connect()
            client.send(GET)
            head = await client.read_until(b"\r\n\r\n")
            assert b"connection: close" not in head
            received = 0
            while received < len(body):
                received += len(await client.reader.read(1_000_000))
                if (
                    received < len(body) // 2
                ):  # steadily, for a second and a half; what the kernel holds at once
                    await asyncio.sleep(0.02)
            client.send(GET)  # at once
            assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert Limit.KEEP_ALIVE_TIMEOUT not in hits(server)

    run(main())
