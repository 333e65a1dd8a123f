"""A connection that closes with unsent bytes has a deadline: one that is not read is dropped."""

import asyncio
import socket
from typing import Any

import pytest

from asgireload.http import live
from asgireload.ipc.scoreboard import Field
from tests.http.server import serving
from tests.http.test_exchange import GET, OK

PIECE = b"x" * 20_000_000


async def connect_deaf(port: int) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return client


async def large(scope: Any, receive: Any, send: Any) -> None:
    await send(OK)
    await send({"type": "http.response.body", "body": PIECE})


async def stream(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(OK)
    for _ in range(100):
        await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
    await send({"type": "http.response.body"})


TIMEOUTS = {"write_timeout": 0.3, "keep_alive_timeout": 0.2, "body_timeout": 0.25}
PART = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"


@pytest.fixture(autouse=True)
def short_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where the close lingers, it is this that bounds it.
    monkeypatch.setattr("asgireload.http1.lingering_close.STALLED_SECONDS", 0.5)


@pytest.mark.parametrize("when", ["at once", "behind the response", "within the body"])
def test_a_client_that_half_closes_and_reads_nothing_is_dropped(run: Any, when: str) -> None:
    async def main() -> None:
        app = stream if when == "within the body" else large
        async with serving(app, "builtin", **TIMEOUTS) as server:
            loop = asyncio.get_running_loop()
            with await connect_deaf(server.port) as client:
                await loop.sock_sendall(client, PART if when == "within the body" else GET)
                if when != "at once":
                    await asyncio.sleep(0.1)
                client.shutdown(socket.SHUT_WR)
                await server.wait_until(lambda: server.count(Field.REQUESTS_TOTAL))
                await server.wait_until(
                    lambda: not (server.live.connections or server.live.background)
                )

    run(main())


def test_an_idle_client_that_makes_way_and_reads_nothing_is_dropped(run: Any) -> None:
    """The attack on --limit-connections: close_idle() takes away the timers that would have worked."""

    async def main() -> None:
        timeouts = {**TIMEOUTS, "keep_alive_timeout": 2.0}
        async with serving(large, "builtin", **timeouts) as server:
            loop = asyncio.get_running_loop()
            with await connect_deaf(server.port) as client:
                await loop.sock_sendall(client, GET)
                await asyncio.sleep(0.1)
                (connection,) = server.live.connections
                assert connection.idle_since is None  # it does not wait for a request yet
                await server.wait_until(lambda: not server.live.connections)

    run(main())


def test_clients_that_read_nothing_do_not_defeat_the_limit_of_connections(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that "made way" stays, and room is said to be there: the limit bounds nothing."""
    monkeypatch.setattr(live, "ROOM_IDLE_SECONDS", 0.0)

    async def main() -> None:
        timeouts = {**TIMEOUTS, "keep_alive_timeout": 5.0, "write_timeout": 5.0}
        async with serving(large, "builtin", limit_connections=4, **timeouts) as server:
            loop = asyncio.get_running_loop()
            clients = []
            accepted = 0
            for _ in range(12):
                if server.live.has_room():  # what the acceptor asks before each accept(2)
                    clients.append(await connect_deaf(server.port))
                    accepted += 1
                    await loop.sock_sendall(clients[-1], GET)
                await asyncio.sleep(0.1)
            held = len(server.live.connections)
            for client in clients:
                client.close()
            assert held <= 5, f"{held} connections are open, the limit is 4"

    run(main())
