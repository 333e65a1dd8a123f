"""A WebSocket that comes behind a response the client has not read knows of its backpressure."""

import asyncio
import socket
from typing import Any

from tests.http.server import serving
from tests.http.test_exchange import GET, OK

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_a_websocket_behind_an_unread_response_slows_its_application_down(run: Any) -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        if scope["type"] == "http":
            await send(OK)
            await send({"type": "http.response.body", "body": b"x" * 5_000_000})
            return
        await receive()
        await send({"type": "websocket.accept"})
        while sent < 100_000_000:
            await send({"type": "websocket.send", "bytes": b"x" * 100_000})
            sent += 100_000
            await asyncio.sleep(0)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            loop = asyncio.get_running_loop()
            with socket.socket() as client:
                client.setblocking(False)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await loop.sock_connect(client, ("127.0.0.1", server.port))
                await loop.sock_sendall(client, GET + UPGRADE)
                await asyncio.sleep(1.5)
            assert sent < 10_000_000, (
                f"{sent / 1e6:.0f} MB of messages held for a client that reads none"
            )

    run(main())
