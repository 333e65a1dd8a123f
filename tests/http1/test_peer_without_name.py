"""A TCP client that resets before it is accepted has no name, and is nobody's trusted peer."""

import asyncio
import socket
import struct
from functools import partial
from typing import Any

from asgireload.http.forwarded import Forwarding
from asgireload.http1.connection import HttpConnection
from asgireload.ipc.scoreboard import Record
from asgireload.net.networks import TrustedNetworks
from asgireload.worker.acceptor import Acceptor, Entrance
from tests.http.test_exchange import OK
from tests.wired import make_wire


def test_a_tcp_client_is_never_believed_as_a_unix_peer(run: Any) -> None:
    clients: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        clients.append(scope["client"])
        await send(OK)
        await send({"type": "http.response.body"})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        forwarding = Forwarding(TrustedNetworks.parse("unix"))
        wire = make_wire(app, forwarding=forwarding)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            acceptor = Acceptor(
                loop,
                [Entrance(listener)],
                partial(HttpConnection, wire),
                record=Record.detached(),
                handshake_timeout=5,
            )
            acceptor.start()
            await asyncio.sleep(0.5)
            acceptor.stop()
            async with asyncio.timeout(5):
                await wire.server.live.wait_idle()
        assert clients in ([], [None]), "a forged address was believed"

    run(main())
