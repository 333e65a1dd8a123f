"""What goes on behind a departure, and in calls that were given up."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgireload.errors import AppProtocolError, ClientDisconnectedError
from asgireload.http.messages import pairs_of
from asgireload.http.refusals import application_error
from asgireload.http1.writer import PreparedHeads
from tests.http.server import serving
from tests.http.test_exchange import GET, OK
from tests.http.test_senders import leave

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_background_task_behind_a_finite_response_that_nobody_listens_for_runs(
    run: Any, how: str
) -> None:
    ran: list[bool] = []

    async def note() -> None:
        ran.append(True)

    async def large(request: Any) -> Any:
        return PlainTextResponse("x" * 50_000_000, background=BackgroundTask(note))

    async def passed_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app = Starlette(
        routes=[Route("/", large)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=passed_on)],
    )

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET)
            await client.read_until(b"xxx")
            leave(client, how)
            await server.wait_until(lambda: server.live.is_idle)
            assert ran

    run(main())


@pytest.mark.parametrize("request_", [GET, HANDSHAKE])
def test_calls_of_receive_that_are_given_up_leave_nothing_behind(run: Any, request_: bytes) -> None:
    """As `Request.is_disconnected` of Starlette does it, and `wait_for(websocket.receive(), 1)`."""
    left: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        for _ in range(1000):
            try:
                async with asyncio.timeout(0):
                    await receive()
            except TimeoutError:
                pass
        gc.collect()
        left.append(sum(isinstance(thing, asyncio.Future) for thing in gc.get_objects()))

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(request_)
            await server.wait_until(lambda: left)
            assert left[0] < 100

    run(main())


@pytest.mark.parametrize("piece", [b"", b"x"])
def test_the_loop_turns_beside_a_denial_response_without_end(run: Any, piece: bytes) -> None:
    turns: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        message = {"type": "websocket.http.response.body", "body": piece, "more_body": True}
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send(message)
        asyncio.get_running_loop().call_soon(turns.append, 1)
        for _ in range(1000):
            await send(message)
        turns.append(0)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(HANDSHAKE)
            await server.wait_until(lambda: 0 in turns)
            assert turns[0] == 1

    run(main())


def test_an_error_of_a_cleanup_during_a_departure_is_the_applications() -> None:
    def roll_back() -> None:
        raise RuntimeError("the connection to the database is lost")

    def send() -> None:
        raise ClientDisconnectedError("the client has left")

    def serve() -> None:
        try:
            send()
        finally:
            roll_back()

    with pytest.raises(RuntimeError) as raised:
        serve()
    assert application_error(raised.value) is raised.value


class Name(bytes):
    pass


@pytest.mark.parametrize("value", [Name(b"b"), bytearray(b"b"), memoryview(b"b"), iter([98])])
@pytest.mark.parametrize("kind", [tuple, list, iter])
def test_what_holds_bytes_in_a_header_is_sent_whatever_was_sent_before(
    kind: Any, value: Any
) -> None:
    heads = PreparedHeads(())
    is_fit = not isinstance(value, Iterator)
    for _ in range(2):
        headers = pairs_of([kind((Name(b"x-a"), value))])
        if is_fit:
            assert b"x-a: b" in heads.prepare(200, headers).lines
        else:
            with pytest.raises(AppProtocolError, match="must be bytes"):
                heads.prepare(200, headers)
        heads.prepare(200, [(b"x-a", b"b")])


def test_a_file_that_ends_a_response_is_taken_for_a_client_that_has_left(
    run: Any, tmp_path: Any
) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"x" * 50_000_000)
    ended: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        try:
            await send({"type": "http.response.pathsend", "path": str(file)})
        except OSError as error:
            ended.append(error)
        else:
            ended.append(None)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET)
            await client.read_until(b"xxx")
            leave(client, "reset")
            await server.wait_until(lambda: ended)
            assert ended == [None]

    run(main())
