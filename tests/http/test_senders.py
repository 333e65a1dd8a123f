"""Applications that only send: the loop turns beside them, and they end when their client has left."""

import asyncio
import os
import socket
import struct
from typing import Any

import pytest

from asgireload.errors import ClientDisconnectedError
from asgireload.ipc.scoreboard import Field
from tests.http.server import Client, Server, serving
from tests.http.test_exchange import GET, OK, hello

SIZES = [10, 1024, 100_000]


def endless(size: int, ended: list[type[BaseException]]) -> Any:
    """Return an application that sends pieces of `size` bytes on /endless, and waits for nothing else."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/endless":
            await hello(scope, receive, send)
            return
        await send(OK)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"0" * size, "more_body": True})
        except BaseException as error:
            ended.append(type(error))
            raise

    return app


def leave(client: Client, how: str) -> None:
    if how == "reset":
        own_socket: socket.socket = client.writer.get_extra_info("socket")
        own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


async def assert_others_are_answered(server: Server) -> None:
    client = await server.connect()
    client.send(GET)
    assert (await client.read_response())[2] == b"hello"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("size", SIZES)
def test_one_whose_client_has_left_ends(run: Any, size: int, how: str) -> None:
    ended: list[type[BaseException]] = []

    async def main() -> None:
        async with serving(endless(size, ended), "builtin") as server:
            client = await server.connect()
            client.send(GET.replace(b" / ", b" /endless "))
            await client.read_until(b"00000")
            leave(client, how)
            await server.wait_until(lambda: ended)
            assert ended == [ClientDisconnectedError]
            assert server.count(Field.APP_ERRORS_TOTAL) == 0
            await assert_others_are_answered(server)

    run(main())


@pytest.mark.parametrize("size", SIZES)
def test_others_are_answered_beside_one_whose_client_takes_all(run: Any, size: int) -> None:
    async def drop(client: Client) -> None:
        while await client.reader.read(1 << 20):
            pass

    async def main() -> None:
        async with serving(endless(size, []), "builtin") as server:
            client = await server.connect()
            client.send(GET.replace(b" / ", b" /endless "))
            dropping = asyncio.create_task(drop(client))
            for _ in range(5):
                await assert_others_are_answered(server)
            dropping.cancel()

    run(main())


@pytest.mark.parametrize("listens", [True, False])
def test_a_framework_that_listens_cancels_what_sends_before_it_is_refused(
    run: Any, listens: bool
) -> None:
    """Starlette runs background tasks then, as it does behind a response."""
    ended: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sending = asyncio.create_task(endless(1024, ended)({"path": "/endless"}, receive, send))
        while listens:
            if (await receive())["type"] == "http.disconnect":
                sending.cancel()
                break
        await asyncio.wait([sending])
        sending.cancelled() or sending.exception()

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET)
            await client.read_until(b"00000")
            leave(client, "reset")
            await server.wait_until(lambda: ended)
            assert ended == [asyncio.CancelledError if listens else ClientDisconnectedError]

    run(main())


MESSAGES = {
    "early hints": {"type": "http.response.early_hint", "links": [b"</a>"]},
    "disconnects": None,
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_loop_turns_beside_other_messages_without_end(run: Any, name: str) -> None:
    message = MESSAGES[name]
    rounds = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal rounds
        if scope["path"] != "/endless":
            await hello(scope, receive, send)
            return
        while True:
            rounds += 1
            await (receive() if message is None else send(message))

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET.replace(b" / ", b" /endless "))
            await server.wait_until(lambda: rounds)
            leave(client, "reset")
            await assert_others_are_answered(server)
            await server.wait_until(lambda: rounds > 500)
            await assert_others_are_answered(server)

    run(main())


@pytest.mark.parametrize("size", SIZES)
def test_a_websocket_that_only_sends_ends_with_its_client(run: Any, size: int) -> None:
    ended: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await hello(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"0" * size})
        except BaseException as error:
            ended.append(type(error))
            raise

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(
                b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            await client.read_until(b"00000")
            leave(client, "reset")
            await server.wait_until(lambda: ended)
            assert ended == [ClientDisconnectedError]
            assert server.count(Field.APP_ERRORS_TOTAL) == 0
            await assert_others_are_answered(server)

    run(main())


def test_a_complete_response_does_not_wait_for_blocking_code_behind_it(run: Any) -> None:
    """Neither the first one, nor after thousands that had nothing behind them."""
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/blocks":
            await hello(scope, receive, send)
            # The answer has left before the application goes on: the client's kernel has it.
            seen.append(len(peer.recv(1000, socket.MSG_PEEK | socket.MSG_DONTWAIT)))
        else:
            await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            for before in (0, 1200):
                client = await server.connect()
                for _ in range(before):
                    client.send(GET)
                    await client.read_response()
                nonlocal peer
                number = os.dup(client.writer.get_extra_info("socket").fileno())
                peer = socket.socket(fileno=number)
                client.writer.transport.pause_reading()
                client.send(GET.replace(b" / ", b" /blocks "))
                await server.wait_until(lambda before=before: len(seen) == bool(before) + 1)
                client.writer.transport.resume_reading()
                await client.read_response()
                peer.close()
            assert all(seen)

    peer: Any = None
    run(main())
