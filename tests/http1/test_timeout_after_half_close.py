"""The timer of a connection does its work behind an end of file, too."""

import asyncio
import socket
from typing import Any

from tests.http.server import serving
from tests.http.test_exchange import OK


def test_the_request_deadline_of_a_dropped_exchange_is_forgotten(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(OK)
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})

    async def main() -> None:
        async with serving(app, "builtin", request_timeout=0.3, write_timeout=1.0) as server:
            loop = asyncio.get_running_loop()
            faults: list[Any] = []
            loop.set_exception_handler(lambda _, fault: faults.append(fault["exception"]))
            with socket.socket() as client:
                client.setblocking(False)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await loop.sock_connect(client, ("127.0.0.1", server.port))
                await loop.sock_sendall(
                    client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"
                )
                await asyncio.sleep(0.1)
                client.shutdown(socket.SHUT_WR)
                await asyncio.sleep(2)
                left = len(server.live.connections)
            # Nor is write_timeout watched any more behind the fault.
            assert (faults, left) == ([], 0)

    run(main())
