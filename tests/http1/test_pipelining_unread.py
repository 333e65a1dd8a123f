"""Pipelined requests wait for a client that reads nothing; their answers do not fill the memory."""

import asyncio
import socket
from typing import Any

from tests.http.server import serving
from tests.http.test_exchange import GET, OK

BODY = b"x" * 1_000_000


def test_a_client_that_reads_nothing_is_not_answered_without_bound(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.body", "body": BODY})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            loop = asyncio.get_running_loop()
            with socket.socket() as client:
                client.setblocking(False)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await loop.sock_connect(client, ("127.0.0.1", server.port))
                await loop.sock_sendall(client, GET * 200)  # 6 kB
                await asyncio.sleep(1)
                (connection,) = server.live.connections
                held = connection._transport.get_write_buffer_size()
            assert held < 10 * len(BODY), f"{held / 1e6:.0f} MB held for 6 kB of requests"

    run(main())
